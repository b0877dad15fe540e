"""What is told at once, with others, or with the next round."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from rowmill.cluster import outbox
from rowmill.cluster.outbox import Outbox
from rowmill.cluster.wire import Group, Told, Up

ONE, TWO = Told(["one"]), Told(["two"])


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_who_waits_for_news_has_them_soon_and_many_together() -> None:
    async def test() -> None:
        box = Outbox()
        waiting = asyncio.create_task(box.taken(20.0))
        await asyncio.sleep(0)
        box.add(ONE)
        box.add(TWO)
        assert await waiting == [ONE, TWO]
        assert await box.taken(0.0) == []

    run(test())


@pytest.mark.parametrize("how", ["pressing", "large"])
def test_what_presses_waits_for_no_others(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(outbox, "_GATHER_S", 60.0)

    async def test() -> None:
        box = Outbox()
        large = Group(0, 0, 0, bytes(1 << 18))
        for _ in range(2):  # before it is asked for, and while that waits
            waiting = asyncio.create_task(box.taken(60.0))
            box.add(ONE)
            await asyncio.sleep(0)
            if how == "large":
                box.add(large)
            else:
                box.add(TWO, pressing=True)
            assert await waiting == [ONE, large if how == "large" else TWO]
        box.add(ONE, pressing=True)
        assert await box.taken(60.0) == [ONE]

    run(test())


def test_a_round_takes_no_more_than_it_carries_and_the_next_one_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "_GATHER_S", 60.0)
    monkeypatch.setattr(outbox, "PIECE_BYTES", 250)
    made: list[int] = []

    def pieces() -> Iterator[Up]:
        for number in range(5):
            made.append(number)
            yield Group(0, 1, number * 100, bytes(100))
        yield ONE

    async def test() -> None:
        box = Outbox()
        box.add(TWO)
        box.add(pieces(), 1 << 18)
        box.add(TWO)
        rounds = [await box.taken(60.0)]
        assert made == [0, 1, 2]  # the others when there is room for them
        rounds.append(await box.taken(60.0))
        groups = [Group(0, 1, number * 100, bytes(100)) for number in range(5)]
        assert rounds == [[TWO, *groups[:3]], [*groups[3:], ONE, TWO]]
        assert await box.taken(0.0) == []
        box.add(Group(0, 0, 0, bytes(300)), pressing=True)
        box.add(ONE)
        assert [len(await box.taken(60.0)) for _ in range(2)] == [1, 1]

    run(test())


def test_what_is_only_noted_wakes_nobody() -> None:
    async def test() -> None:
        box = Outbox()
        waiting = asyncio.create_task(box.taken(20.0))
        await asyncio.sleep(0)
        box.note(ONE)
        await asyncio.sleep(0)
        assert not waiting.done()
        box.add(TWO, pressing=True)
        assert await waiting == [ONE, TWO]

    run(test())
