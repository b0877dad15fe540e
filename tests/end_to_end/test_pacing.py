"""The configured limits a minute, against a server that holds the very same ones, strictly."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Place, Witness
from tests.end_to_end.several import last_session

pytestmark = pytest.mark.quiet


def seconds_of(stats: dict[str, Any]) -> int:
    """Return from the first request's second to the last one's: free of how long the processes took to start."""
    first, last = stats["per_second"][0][0], stats["per_second"][-1][0]
    return int(last - first)


def test_requests_a_minute_are_neither_exceeded_nor_wasted(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """Of a server that tells no limit in its headers; that of the tokens does."""
    witness = simulator(requests_per_minute=9000, limit_headers=False, latency_ms=30)
    place.configure(witness.url)
    place.write_rows(450)
    done = place.run("--set", "provider.requests_per_minute=9000")
    assert done.code == 0, done.err
    stats = witness.stats()
    assert stats["limited"] == {}
    assert stats["requests"] == 450
    # 450 at 150 a second: one second's worth is no opening burst.
    assert max(count for _, count in stats["per_second"]) <= 150 * 1.25 + 1
    assert 2 <= seconds_of(stats) <= 5
    assert 450 / 150 * 0.75 <= stats["last"] - stats["first"] <= 450 / 150 * 1.3 + 0.5
    assert place.output.read_bytes() == reference(450)
    figures = last_session(place)["providers"]["main"]
    assert (figures["requests_per_minute"], figures["tokens_per_minute"]) == (9000, None)
    assert figures["odd_headers"] == 0
    assert "odd limit headers" not in done.err


def test_tokens_a_minute_are_neither_exceeded_nor_wasted(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(tokens_per_minute=1_800_000, latency_ms=30)
    place.configure(witness.url)
    place.write_rows(450)
    done = place.run("--set", "provider.tokens_per_minute=1_800_000")
    assert done.code == 0, done.err
    stats = witness.stats()
    assert stats["limited"] == {}
    tokens = stats["prompt_tokens"] + stats["completion_tokens"]
    assert tokens / 30_000 - 1 <= seconds_of(stats) <= tokens / 30_000 * 1.3 + 2
