"""Rows that ask the same are asked once, by all workers together, also where they are killed, and where rows are packed.
"""

import json
import signal
from collections.abc import Callable
from random import Random

import pytest

from engine.simulator.replies import digest
from tests.end_to_end.conftest import PROMPT, Place, Witness, until

ROWS = 300
DISTINCT = 180
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
    assert [(line["index"], line["id"]) for line in lines] == [(index, f"id-{index}") for index in range(len(texts))]
    answered = [line["output"].endswith(f"[{digest(PROMPT.format(text=text))}]") for line, text in zip(lines, texts)]
    assert answered == [True] * len(texts)


def test_identical_rows_are_asked_once_also_after_the_run_was_killed(
    place: Place, simulator: Callable[..., Witness], texts: list[str]
) -> None:
    witness = simulator(latency_ms=100, latency_sigma=0)
    place.configure(witness.url)
    three = (*SHARED, "--set", "workers.count=3", "--set", "workers.concurrency=6", "--set", "checkpoint.commit_ms=1")
    before_first_kill = 0
    most_twice = 0
    for threshold, whole in ((50, False), (110, True)):
        started = place.start(*three)
        until(lambda: witness.stats()["requests"] >= threshold, "requests")  # noqa: B023 - used at once
        children = started.children()
        if whole:
            started.kill_all()
        else:
            started.signal(signal.SIGKILL)  # the workers bring home what is in flight
            started.wait()
        print("KILL", whole, witness.stats()["answered_twice"], witness.stats()["requests"])
        most_twice += 18
    done = place.run(*three)
    assert done.code == 0, done.err
    assert_each_has_its_own_answer(place, texts)
    stats = witness.stats()
    print(stats["answered_twice"], stats["requests"], stats["distinct"], [s["counters"]["duplicates"] for s in place.report["sessions"]], place.report["sessions"][-1]["billed_twice_max"])
    assert stats["answered_twice"] <= most_twice


def test_identical_rows_share_their_places_in_packs(
    place: Place, simulator: Callable[..., Witness], texts: list[str]
) -> None:
    witness = simulator(latency_ms=5)
    place.configure(witness.url)
    done = place.run(*SHARED, "--set", "task.rows_per_request=5")
    assert done.code == 0, done.err
    assert_each_has_its_own_answer(place, texts)
    counters = place.report["sessions"][-1]["counters"]
    print(counters, witness.stats())
