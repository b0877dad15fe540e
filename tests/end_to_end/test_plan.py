"""`rowmill plan`, the real command, held against what the simulator bills."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Place, Witness

PRICES = "--set=prices.sim-small={input = 0.15, output = 0.6}"


def plan(place: Place, *arguments: str) -> tuple[dict[str, Any], str]:
    done = place.start(*arguments, "--json", command="plan").wait()
    assert done.code == 0, done.err
    decoded: dict[str, Any] = json.loads(done.out)
    return decoded, done.err


def test_a_plan_sends_nothing_and_writes_nothing(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(300)
    before = place.files()
    done = place.start(PRICES, command="plan").wait()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("  input    in.jsonl: 300 rows, ")
    assert '"content": "Summarise in one line:\\nrow 000000: one line' in done.out
    assert "--sample-live" in done.out
    assert witness.stats()["requests"] == 0
    assert place.files() == before


def test_a_plan_comes_near_what_is_billed_and_a_live_sample_nearer(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=1)
    place.configure(witness.url)
    place.write_rows(400)
    cap = "--set=task.params={max_tokens = 36}"
    guessed, _ = plan(place, PRICES, cap)
    measured, shown = plan(place, PRICES, cap, "--sample-live", "60")
    stats = witness.stats()
    assert stats["requests"] == 60
    assert "Done: 60 rows" in shown
    trial = measured["trial"]
    assert (trial["rows"], trial["output"], trial["again"]) == (60, "out.trial.jsonl", False)
    assert trial["usd"] == pytest.approx((trial["prompt_tokens"] * 0.15 + trial["completion_tokens"] * 0.6) / 1e6)
    assert not place.run_dir.exists()
    again, _ = plan(place, PRICES, cap, "--sample-live", "60")
    assert witness.stats()["requests"] == 60
    assert again == {**measured, "trial": {**trial, "again": True}}

    assert place.run(cap).code == 0
    totals = place.report["totals"]
    billed = totals["prompt_tokens"] * 0.15 + totals["completion_tokens"] * 0.6
    for found, near in ((guessed, 0.1), (measured, 0.03)):
        tokens = found["tokens"]["prompt"]["likely"] + found["tokens"]["reply"]["likely"]
        assert tokens == pytest.approx(totals["prompt_tokens"] + totals["completion_tokens"], rel=near)
        usd = found["live"]["usd"]
        assert usd["likely"] == pytest.approx(billed / 1e6, rel=near)
        assert usd["low"] <= billed / 1e6 <= usd["high"]


def test_a_sample_that_is_stopped_ends_the_plan(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(faults={"401": 1.0})
    place.configure(witness.url)
    place.write_rows(20)
    done = place.start("--sample-live", "5", command="plan").wait()
    assert (done.code, done.out) == (4, "")
    assert "Stopped" in done.err


def test_a_configuration_that_cannot_run_is_refused_in_a_line(place: Place) -> None:
    place.configure("http://127.0.0.1:1/v1")
    place.write_rows(1)
    done = place.start("--set=task.prompt='{nothing}'", command="plan").wait()
    assert (done.code, len(done.lines)) == (2, 1)
    assert "no column 'nothing'" in done.err
