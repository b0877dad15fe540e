"""Groups on their way to the supervisor's machine: each counts once it is told to be there, or fails with why not."""

import asyncio
import errno

import pytest

from rowmill.ipc.messages import Appended, Durable, ToSupervisor
from rowmill.worker.live.carrier import Carrier


def test_a_group_counts_once_it_is_told_to_be_there() -> None:
    async def test() -> None:
        told: list[ToSupervisor] = []
        carrier = Carrier(told.append)
        first = asyncio.create_task(carrier.carry(3, 0, 10))
        other = asyncio.create_task(carrier.carry(4, 0, 10))
        await asyncio.sleep(0)
        assert told == [Appended(3, 0, 10), Appended(4, 0, 10)]
        carrier.stored(Durable(4, 10))
        await other
        assert not first.done()
        carrier.stored(Durable(3, 7))  # of nobody
        carrier.stored(Durable(3, 10))
        await first
        carrier.stored(Durable(3, 10))  # a second time

    asyncio.run(test())


def test_a_group_that_is_not_stored_fails_as_a_disk_does() -> None:
    async def test() -> None:
        carrier = Carrier(lambda _: None)
        group = asyncio.create_task(carrier.carry(3, 0, 10))
        await asyncio.sleep(0)
        carrier.stored(Durable(3, 10, "cannot write the checkpoint x: No space left on device"))
        with pytest.raises(OSError, match="No space left on device") as failed:
            await group
        assert failed.value.errno == errno.EIO

    asyncio.run(test())


def test_once_nobody_carries_any_more_groups_fail_those_to_come_too() -> None:
    async def test() -> None:
        told: list[ToSupervisor] = []
        carrier = Carrier(told.append)
        cancelled = asyncio.create_task(carrier.carry(2, 0, 10))
        group = asyncio.create_task(carrier.carry(3, 0, 10))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        carrier.give_up()
        with pytest.raises(BrokenPipeError):
            await group
        with pytest.raises(BrokenPipeError):
            await carrier.carry(3, 10, 20)
        assert len(told) == 2

    asyncio.run(test())
