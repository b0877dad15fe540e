"""Rows that are tried again: when, how often, and what they hold up meanwhile."""

import json
import time
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness

LIMITED = b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
WELL = 60  # requests that are answered before one is not
BROKEN = b'{"error":{"message":"The server had an error","type":"server_error","code":null}}'


@pytest.mark.timed
@pytest.mark.parametrize(("fault", "transport"), [("hang", "direct"), ("drip", "direct"), ("drip", "sdk")])
def test_a_server_that_never_comes_to_an_end_gives_its_slots_back(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], fault: str, transport: str
) -> None:
    """All slots of all workers meet it at once, and all of them come back by the deadline."""
    witness = simulator(script=(fault,) * 32, latency_ms=5)
    place.configure(witness.url)
    place.write_rows(200)
    began = time.monotonic()
    done = place.run("--set", "provider.timeout_s=1.5", "--set", f"client.transport={transport}")
    took = time.monotonic() - began
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(200)
    stats = witness.stats()
    assert stats["by_fault"] == {fault: 32}
    session = place.report["sessions"][-1]
    late = session["counters"]["requests"] - 232  # that a busy machine took so long for, some before they were there
    assert 0 <= stats["requests"] - 232 <= late
    assert session["counters"]["faults"] == {"timeout": 32 + late}
    assert 32 <= session["billed_twice_max"] <= 32 + late
    assert took < 12


@pytest.mark.quiet
def test_one_429_holds_every_row_in_both_workers_and_spends_no_attempt(
    place: Place, server: Callable[..., Server]
) -> None:
    """The worker that was not refused hears of it from the supervisor."""
    floor, word_s = 1.0, 0.4

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        time.sleep(0.1)  # one worker alone would take a second for what is left
        if len(witness.arrivals) <= WELL or arrival is not witness.arrivals[WELL]:
            return None
        return 429, {"retry-after": "1"}, LIMITED

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(220)
    done = place.run("--set", "retry.attempts=1")
    assert done.code == 0, done.err
    assert [line["index"] for line in place.lines if line["output"]] == list(range(220))
    refused = witness.arrivals[WELL]
    (again,) = [each for each in witness.arrivals if each.nth == 2]
    assert again.row == refused.row
    assert refused.at + floor <= again.at < refused.at + floor * 1.25 + 2
    assert not [each for each in witness.arrivals if refused.at + word_s < each.at < refused.at + floor]
    (session,) = place.report["sessions"]
    assert (session["counters"]["faults"], session["counters"]["retries"]) == ({"rate_limited": 1}, 1)
    assert session["billed_twice_max"] == 0
    figures = session["providers"]["main"]
    assert (figures["limited"], figures["failed"], figures["retries"]) == (1, 1, 1)
    assert figures["held_s"] >= floor


def test_a_row_that_fails_for_good_is_one_failed_row(place: Place, server: Callable[..., Server]) -> None:
    endless = {0: (500, BROKEN), 77: (200, b"<html>no completion</html>"), 199: (200, b"")}

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        if arrival.row in endless:
            status, body = endless[arrival.row]
            return status, {}, body
        return (503, {}, BROKEN) if arrival.nth == 1 and arrival.row % 50 == 1 else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(200)
    slots = ("--set", "workers.count=1", "--set", "workers.concurrency=2")
    done = place.run("--set", "retry.attempts=2", "--set", "output.include=['meta']", *slots)
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["index"] for line in lines] == list(range(200))
    assert {line["index"] for line in lines if line["output"] is None} == endless.keys()
    failed = {row["index"]: row for row in place.failed}
    assert {row: (failed[row]["class"], failed[row]["status"], failed[row]["attempts"]) for row in failed} == {
        0: ("server_error", 500, 2),
        77: ("bad_reply", 200, 2),
        199: ("bad_reply", 200, 2),
    }
    assert lines[0]["error"]["message"] == "The server had an error"
    assert {row: count for row, count in witness.counts.items() if count > 1} == {
        **dict.fromkeys(endless, 2),
        **dict.fromkeys(range(1, 200, 50), 2),
    }
    # Every try of a row sends the same bytes.
    assert len({each.body for each in witness.arrivals}) == 200
    # A backoff holds no slot: the first two rows fail, and were both slots held, the third request would be a retry.
    assert [each.nth for each in witness.arrivals[:6]] == [1] * 6
    assert place.report["failures"] == {"bad_reply": 2, "server_error": 1}
    assert json.loads(place.output.read_bytes().splitlines()[1])["meta"]["requests"] == 2
