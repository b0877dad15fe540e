"""Tokens that are enqueued: never more than the limit, and nobody waits for ever."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.amounts import Amount
from rowmill.store.batch_journal import Try
from rowmill.worker.batch.token_quota import TokenQuota
from tests.worker.batch.virtual_time import VirtualClock, WaitsForever


def part(number: int, tokens: int, phase: str = "uploaded") -> Try:
    return Try(number, 1, 0, 10, 10, 10, 100, 0, tokens, Amount(), 10, 1, phase=phase)  # type: ignore[arg-type]  # a phase


def run(story: Coroutine[Any, Any, None]) -> None:
    VirtualClock().run(story)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 50)), max_size=12), st.integers(50, 200))
def test_the_limit_is_kept_and_everyone_gets_in(parts: list[tuple[int, int]], limit: int) -> None:
    quota = TokenQuota(limit, [])
    inside: dict[int, int] = {}

    async def one(number: int, tokens: int, seconds: int) -> None:
        t = part(number, tokens)
        assert await quota.room(t)
        inside[number] = tokens
        assert sum(inside.values()) <= limit or len(inside) == 1
        await asyncio.sleep(seconds)
        del inside[number]
        quota.leave(t)

    async def story() -> None:
        await asyncio.gather(*(one(number, *each) for number, each in enumerate(parts)))

    run(story())


def test_what_an_earlier_session_has_enqueued_counts() -> None:
    tries = [part(0, 60, "created"), part(1, 30, "creating"), part(2, 50), part(3, 90, "ended")]
    quota = TokenQuota(100.0, tries)

    async def story() -> None:
        waiting = asyncio.ensure_future(quota.room(tries[2]))
        await asyncio.sleep(1)
        assert not waiting.done()
        assert repr(quota) == "<TokenQuota 90 of 100.0: parts [0, 1]>"
        quota.leave(tries[0])
        assert await waiting
        # Its own tokens never keep a part out.
        assert await quota.room(tries[2])

    run(story())


def test_where_nothing_is_to_be_enqueued_any_more_nobody_waits() -> None:
    first, second = part(0, 60), part(1, 60)
    quota = TokenQuota(100.0, [])

    async def story() -> None:
        assert await quota.room(first)
        waiting = [asyncio.ensure_future(quota.room(second)), asyncio.ensure_future(quota.fewer())]
        await asyncio.sleep(1)
        quota.close()
        assert repr(quota) == "<TokenQuota 60 of 100.0: parts [0], closed>"
        assert await waiting[0] is False
        await waiting[1]
        await quota.fewer()
        assert not await quota.room(first)

    run(story())


def test_refusals_count_in_a_row_and_with_nothing_else_enqueued() -> None:
    one, other = part(0, 60), part(1, 60)
    quota = TokenQuota(None, [])

    async def story() -> None:
        for expected in (1, 2):
            assert await quota.room(one)
            assert quota.refused(one) == expected
        assert await quota.room(one)
        assert await quota.room(other)
        assert quota.refused(one) == 0
        assert quota.refused(other) == 1
        quota.accepted(other)
        assert quota.refused(other) == 1

    run(story())


def test_a_refusal_wakes_nobody() -> None:
    """Two refused parts that woke each other would be created and refused every few seconds, for hours."""
    one, other = part(0, 60), part(1, 60, "created")
    quota = TokenQuota(None, [other])

    async def story() -> None:
        quota.refused(one)
        waiting = asyncio.ensure_future(quota.fewer())
        await asyncio.sleep(1)
        quota.refused(other)
        await waiting

    with pytest.raises(WaitsForever):
        run(story())


def test_a_limit_that_was_learned_only_goes_down() -> None:
    quota = TokenQuota(None, [])
    for learned, expected in ((500.0, 500.0), (200.0, 200.0), (300.0, 200.0)):
        quota.lower(learned)
        assert quota.limit == expected
