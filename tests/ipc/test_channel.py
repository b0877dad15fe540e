"""Messages of any size through a pipe that holds little: none is lost or cut, and nobody waits for ever."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.ipc.channel import Channel

LARGE = 3 << 20  # far more than a pipe holds


@contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    """Give both ends."""
    pipes = Pipe(duplex=True)
    first, second = map(Channel, pipes)
    try:
        yield first, second
    finally:
        for each in (first, second, *pipes):
            each.close()


@contextmanager
def ends() -> Iterator[tuple[Channel, Connection]]:
    """Give a channel, and the other end as it is."""
    ours, theirs = Pipe(duplex=True)
    channel = Channel(ours)
    try:
        yield channel, theirs
    finally:
        for each in (channel, ours, theirs):
            each.close()


async def received(channel: Channel, count: int) -> list[bytes]:
    """Wait for so many messages."""
    found: list[bytes] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            arrived = channel.receive()
            assert arrived is not None
            found += arrived
            await asyncio.sleep(0)  # what waits for room goes on
    return found


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@given(sizes=st.lists(st.integers(0, 400_000), max_size=12))
@settings(max_examples=15, deadline=None)
def test_messages_come_whole_and_in_their_order_both_ways_at_a_time(sizes: list[int]) -> None:
    there = [bytes([number]) * size for number, size in enumerate(sizes)]
    back = [bytes([100 + number]) * size for number, size in enumerate(reversed(sizes))]

    async def test() -> None:
        with channels() as (first, second):
            for one, other in zip(there, back, strict=True):
                assert first.send(one)
                assert second.send(other)
            arrived, returned = await asyncio.gather(received(second, len(there)), received(first, len(back)))
            assert arrived == there
            assert returned == back
            await asyncio.gather(first.drained(), second.drained())

    run(test())


def test_both_sides_may_have_much_to_say_before_either_reads() -> None:
    async def test() -> None:
        with channels() as (first, second):
            assert first.send(b"a" * LARGE)
            assert second.send(b"b" * LARGE)
            assert await received(first, 1) == [b"b" * LARGE]
            assert await received(second, 1) == [b"a" * LARGE]

    run(test())


@pytest.mark.parametrize("size", [0, 1, 100, 20_000])
def test_the_bytes_are_those_of_a_connection(size: int) -> None:
    async def test() -> None:
        with ends() as (channel, theirs):
            theirs.send_bytes(b"x" * size)
            assert channel.receive() == [b"x" * size]
            assert channel.receive() == []
            channel.send(b"y" * size)
            assert theirs.recv_bytes() == b"y" * size

    run(test())


def test_what_has_come_before_the_end_is_told_and_half_a_message_is_none() -> None:
    async def test() -> None:
        with ends() as (channel, theirs):
            theirs.send_bytes(b"last words")
            os.write(theirs.fileno(), b"\0\0\0\5abc")
            theirs.close()
            assert channel.receive() == [b"last words"]
            assert channel.receive() is None
            assert channel.receive() is None

    run(test())


def test_where_nobody_reads_any_more_nothing_is_kept() -> None:
    async def test() -> None:
        with ends() as (channel, theirs):
            assert channel.send(b"x" * LARGE)
            waiting = asyncio.create_task(channel.drained())
            await asyncio.sleep(0)
            assert not waiting.done()
            theirs.close()
            async with asyncio.timeout(20):
                await waiting
            assert not channel.send(b"more")
            assert repr(channel) == "<0 bytes to be sent, 0 of a message that is not whole>"

    run(test())


def test_a_channel_that_is_closed_drops_what_was_not_sent() -> None:
    async def test() -> None:
        with ends() as (channel, _):
            channel.send(b"x" * LARGE)
            channel.close()
            await channel.drained()

    run(test())


def test_what_was_not_sent_in_the_loop_goes_before_the_last_message() -> None:
    with ends() as (first, theirs):

        async def test() -> None:
            assert not first.full
            assert first.send(b"a" * LARGE)
            assert first.full
            assert first.send(b"b")

        run(test())
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(theirs.recv_bytes() for _ in range(3)))
        reader.start()
        first.send_last(b"c", 20.0)
        reader.join(20)
        assert found == [b"a" * LARGE, b"b", b"c"]
        theirs.close()
        first.send_last(b"nobody reads it", 20.0)


def test_a_last_message_that_nobody_reads_is_waited_for_no_longer_than_it_may_take() -> None:
    with ends() as (channel, _):
        channel.send_last(b"a" * LARGE, 0.05)


def test_what_waits_for_room_is_heard_before_the_end() -> None:
    async def test() -> None:
        pipes = Pipe(duplex=True)
        first, second = map(Channel, pipes)
        for each in pipes:
            each.close()
        assert first.send(bytes(LARGE))
        assert first.full
        first.end()
        assert await received(second, 1) == [bytes(LARGE)]
        async with asyncio.timeout(20):
            while (more := second.receive()) is not None:
                assert more == []
                await asyncio.sleep(0)
        first.close()
        assert first.fileno() == -1
        other = Channel((pipes := Pipe(duplex=True))[0])
        other.end()  # with nothing to be sent
        assert other.fileno() == -1
        for each in pipes:
            each.close()
        second.close()

    run(test())
