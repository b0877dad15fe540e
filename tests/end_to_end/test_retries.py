"""Rows that are tried again: when, how often, and what they hold up meanwhile."""

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from math import ceil

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness

LIMITED = b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
WELL = 60  # requests that are answered before the server limits
BROKEN = b'{"error":{"message":"The server had an error","type":"server_error","code":null}}'


@pytest.mark.parametrize(("fault", "transport"), [("hang", "direct"), ("drip", "direct"), ("drip", "sdk")])
def test_a_server_that_never_comes_to_an_end_gives_its_slots_back(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], fault: str, transport: str
) -> None:
    """All slots of all workers meet it at once, and all of them come back by the deadline."""
    witness = simulator(script=(fault,) * 32, latency_ms=5)
    place.configure(witness.url)
    place.write_rows(600)
    began = time.monotonic()
    done = place.run("--set", "provider.timeout_s=0.5", "--set", f"client.transport={transport}")
    took = time.monotonic() - began
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(600)
    stats = witness.stats()
    assert stats["by_fault"] == {fault: 32}
    assert stats["requests"] == 632
    assert place.report["sessions"][-1]["counters"]["faults"] == {"timeout": 32}
    assert place.report["sessions"][-1]["billed_twice_max"] == 32
    assert took < 12


@pytest.mark.parametrize("form", ["retry-after-ms", "date"])
def test_a_retry_after_holds_every_row_in_every_worker_and_the_release_is_gradual(
    place: Place, server: Callable[..., Server], form: str
) -> None:
    floor = {"retry-after-ms": 1.2, "date": 1.0}[form]
    refusing_s = 0.5

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        time.sleep(0.02)  # so that every slot of both workers is in use when the refusals come
        if len(witness.arrivals) <= WELL or not 0 <= arrival.at - witness.arrivals[WELL].at < refusing_s:
            return None
        now = time.time()
        headers = {
            "retry-after-ms": {"retry-after-ms": "1200", "retry-after": "1"},
            "date": {"date": formatdate(now, usegmt=True), "retry-after": formatdate(ceil(now + 1), usegmt=True)},
        }[form]
        return 429, headers, LIMITED

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(150)
    # One try a row: a 429 spends none.
    done = place.run("--set", "retry.attempts=1")
    assert done.code == 0, done.err
    assert [line["index"] for line in place.lines if line["output"]] == list(range(150))
    first, second = ({each.row: each.at for each in witness.arrivals if each.nth == nth} for nth in (1, 2))
    waits = [second[row] - first[row] for row in second]
    assert min(waits) >= floor
    assert max(waits) - min(waits) > 0.1  # jitter: they do not all come back at once
    assert max(waits) < (floor + 1) * 1.25 + 2  # a date has whole seconds
    # What was in flight when each worker was first refused, and no more, although the server went on refusing.
    refused = [first[row] for row in second]
    assert 1 <= len(refused) <= 32
    # Nor is any other row sent until the last of the floors is over.
    after = [each.at for each in witness.arrivals if each.at > max(refused)]
    assert min(after) >= max(refused) + floor
    assert sum(at < min(after) + 0.1 for at in after) <= 32, "with 32 in flight at once it would be 160"
    counters = place.report["sessions"][-1]["counters"]
    assert (counters["faults"], counters["retries"]) == ({"rate_limited": len(refused)}, len(refused))
    assert place.report["sessions"][-1]["billed_twice_max"] == 0
    figures = place.report["sessions"][-1]["providers"]["main"]
    assert figures["limited"] == len(refused)
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
    done = place.run("--set", "retry.attempts=2", "--set", "output.include=['meta']")
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
    # A backoff holds no slot: all other rows were done while the first failures waited.
    again = min(each.at for each in witness.arrivals if each.nth == 2)
    assert sum(each.at < again for each in witness.arrivals) == 200
    assert place.report["failures"] == {"bad_reply": 2, "server_error": 1}
    assert json.loads(place.output.read_bytes().splitlines()[1])["meta"]["requests"] == 2
