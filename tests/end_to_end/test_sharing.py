"""Rows that ask the same are asked once, by all workers together: also in a run that is broken off, also in packs."""

import json
import signal
from collections.abc import Callable
from random import Random

import pytest

from rowmill.simulator.replies import digest
from tests.end_to_end.conftest import PROMPT, Place, Witness, until

ROWS = 300
DISTINCT = 180
SHARDS = 7  # of 32 KiB
SHARED = ("--set", "cache.use=run")


@pytest.fixture
def texts(place: Place) -> list[str]:
    """Write rows of which 40% ask what another one asks, in any order; gives what each asks."""
    random = Random(4)
    texts = [f"text {number} {'x' * 600}" for number in range(DISTINCT)]
    texts += random.choices(texts, k=ROWS - DISTINCT)
    random.shuffle(texts)
    place.write_lines(
        json.dumps({"id": f"id-{index}", "text": text}).encode() + b"\n" for index, text in enumerate(texts)
    )
    return texts


def assert_each_has_its_own_answer(place: Place, texts: list[str]) -> None:
    lines = place.lines
    assert [(line["index"], line["id"]) for line in lines] == [(index, f"id-{index}") for index in range(ROWS)]
    ends = [line["output"][-len(_end(text)) :] for line, text in zip(lines, texts, strict=True)]
    assert ends == [_end(text) for text in texts]


def _end(text: str) -> str:
    return f"[{digest(PROMPT.format(text=text))}]"


def test_identical_rows_are_asked_once_also_when_the_run_is_broken_off(
    place: Place, simulator: Callable[..., Witness], texts: list[str]
) -> None:
    witness = simulator(latency_ms=80, latency_sigma=0)
    place.configure(witness.url)
    three = (*SHARED, "--set", "workers.count=3", "--set", "workers.concurrency=6")
    for threshold, number in ((50, signal.SIGINT), (110, signal.SIGKILL)):
        started = place.start(*three)
        until(lambda: witness.stats()["requests"] >= threshold, "requests")  # noqa: B023 - used at once
        started.signal(number)  # either way the workers bring home what is in flight
        started.wait()
    done = place.run(*three)
    assert done.code == 0, done.err
    assert_each_has_its_own_answer(place, texts)
    stats = witness.stats()
    assert (stats["answered_twice"], stats["requests"]) == (0, DISTINCT)
    assert sum(session["counters"]["duplicates"] for session in place.report["sessions"]) > 0


def test_identical_rows_have_one_place_in_a_pack(
    place: Place, simulator: Callable[..., Witness], texts: list[str]
) -> None:
    witness = simulator(latency_ms=5)
    place.configure(witness.url)
    done = place.run(*SHARED, "--set", "task.rows_per_request=5")
    assert done.code == 0, done.err
    assert_each_has_its_own_answer(place, texts)
    stats = witness.stats()
    assert stats["inputs"] == {"/chat/completions": DISTINCT}
    assert stats["requests"] <= DISTINCT / 4 + SHARDS, (
        "a shard's last rows, and some that had to wait, go out in smaller packs"
    )
    assert place.report["sessions"][-1]["counters"]["duplicates"] == ROWS - DISTINCT
