"""Servers that refuse everything for a while: no evidence is no evidence, and the run is at full speed soon after."""

import json
import math
import sys
import time
from collections.abc import Callable
from itertools import cycle
from random import Random

import pytest

from rowmill.simulator import replies
from tests.end_to_end.conftest import Arrival, Place, Server, Started
from tests.end_to_end.several import Answer, configure, error
from tests.lives import WHOLE

BUSY = error("Rate limit reached", "rate_limit_exceeded")


def header(left_s: float) -> Answer:
    return 429, {"retry-after": f"{math.ceil(left_s)}"}, BUSY


def no_hint(_left_s: float) -> Answer:
    return 429, {}, BUSY


def zero(_left_s: float) -> Answer:
    return 429, {"retry-after": "0"}, BUSY


def a_day(_left_s: float) -> Answer:
    return 429, {"retry-after": "86400"}, BUSY


def words(left_s: float) -> Answer:
    return 429, {"retry-after": "soon"}, error(f"Please try again in {left_s:.1f}s.", "rate_limit_exceeded")


def member(left_s: float) -> Answer:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{math.ceil(left_s)}s"}
    inner = {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    return 429, {"retry-after": "-5"}, json.dumps({"error": inner}).encode()


def date(left_s: float) -> Answer:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(math.ceil(time.time() + left_s)))
    return 429, {"retry-after": later}, BUSY


def refusing(seconds: float, answer: Callable[[float], Answer]) -> Callable[[Arrival], Answer | None]:
    """Refuse everything for so long after the first request."""
    began: list[float] = []

    def decide(arrival: Arrival) -> Answer | None:
        began.append(arrival.at)
        left_s = seconds - (arrival.at - began[0])
        return answer(left_s) if left_s > 0 else None

    return decide


def each_in_turn(left_s: float) -> Answer:
    return next(_IN_TURN)(left_s)


_IN_TURN = cycle((zero, words, member, date))
CASES: dict[str, tuple[int, float, Callable[[float], Answer], float]] = {
    # rows, seconds for which everything is refused, how, and the seconds that all may take
    "header": (300, 3.0, header, 8.0),
    "no hint": (300, 6.0, no_hint, 20.0),
    "one row": (1, 2.0, no_hint, 6.0),
    "zero": (100, 1.0, zero, 4.0),
    "words": (100, 1.5, words, 5.0),
    "member": (100, 1.0, member, 4.0),
    "date": (100, 1.0, date, 6.0),
    "a day": (30, 1.0, a_day, 10.0),
    "each in turn": (100, 1.5, each_in_turn, 5.0),
}
TOGETHER = ("zero", "words", "member", "date")  # in turn, where not everything is tried


@pytest.mark.parametrize("case", [case for case in CASES if WHOLE or case not in TOGETHER])
def test_a_server_that_refuses_everything_at_first_costs_little_more_than_that(
    place: Place, server: Callable[..., Server], case: str
) -> None:
    rows, seconds, answer, within_s = CASES[case]
    witness = server(refusing(seconds, answer))
    place.configure(witness.url)
    place.write_rows(rows)
    done = place.run()
    assert done.code == 0, done.err
    assert witness.arrivals[-1].at - witness.arrivals[0].at < within_s
    assert len(place.lines) == rows
    assert len(witness.arrivals) - rows < 150, "and it was not hammered"
    assert "refused within every known limit" not in place.log


@pytest.mark.parametrize(("rows", "wait"), [(1, {}), (40, {"retry-after-ms": "250"})])
def test_a_server_that_answers_429_for_ever_comes_to_an_end_that_can_be_resumed(
    place: Place, server: Callable[..., Server], rows: int, wait: dict[str, str]
) -> None:
    """And no row fails for it: one used to within seconds where a short wait is asked for, each time."""
    witness = server(lambda _: (429, wait, BUSY))
    place.configure(witness.url)
    place.write_rows(rows)
    # Two seconds for the five minutes, which the process of the command counts.
    code = (
        "from rowmill.flow import patience; patience._LIMITED_S = 2.0; "
        "from rowmill.interface.cli import main; main(['run', 'config.toml'])"
    )
    done = Started([sys.executable, "-c", code], place.folder, place.environ).wait()
    assert done.code == 4, done.err
    assert "every request refused for " in done.err
    assert "and none ever answered: " in done.err
    assert "Rate limit reached" in done.err
    assert len(witness.arrivals) < 60, "it is asked now and then"
    witness.decide = lambda _: None
    done = place.run()
    assert done.code == 0, done.err
    assert len(place.lines) == rows


@pytest.mark.timed
def test_refusals_and_first_answers_in_one_report_teach_no_limit(place: Place) -> None:
    place.configure("simulator")
    place.write_rows(100)
    began = time.monotonic()
    done = place.run("--set", 'simulator.script=["429", "429", "429"]')
    assert done.code == 0, done.err
    assert time.monotonic() - began < 15.0, "it took minutes: a limit of some a second was made of it"
    assert place.report["sessions"][0]["providers"]["main"]["limited"] == 3
    assert "refused within every known limit" not in place.log


@pytest.mark.quiet
def test_a_server_that_refuses_now_and_then_whatever_the_rate_is_not_held_to_a_crawl(
    place: Place, server: Callable[..., Server]
) -> None:
    at_random = Random(1)

    def decide(_: Arrival) -> Answer | None:
        return (429, {"retry-after": "1"}, BUSY) if at_random.random() < 0.03 else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(300)
    done = place.run()
    assert done.code == 0, done.err
    figures = place.report["sessions"][0]["providers"]["main"]
    assert figures["limited"] == len(witness.arrivals) - 300 >= 5
    assert figures["held_s"] <= 0.7 * figures["limited"], "each of them held everybody for a second, and then some"


@pytest.mark.timed
def test_a_resume_into_a_minute_that_is_used_up_goes_on_as_soon_as_the_next_begins(
    place: Place, server: Callable[..., Server]
) -> None:
    used_up: list[float] = []  # since when

    def decide(arrival: Arrival) -> Answer | None:
        if not used_up:
            return None
        left_s = 2.0 - (arrival.at - max(used_up[0], 0.0)) if used_up[0] else 2.0
        used_up[0] = used_up[0] or arrival.at
        return (429, {"retry-after-ms": f"{left_s * 1000:.0f}", "retry-after": "1"}, BUSY) if left_s > 0 else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(400)
    assert place.run("--limit", "100").code == 0
    asked = len(witness.arrivals)
    used_up.append(0.0)
    done = place.run()
    assert done.code == 0, done.err
    second = witness.arrivals[asked:]
    assert second[-1].at - second[0].at < 8.0
    assert len(place.lines) == 400
    assert "refused within every known limit" not in place.log


@pytest.mark.timed
def test_a_provider_that_lets_nothing_through_holds_up_none_of_the_others(
    place: Place, server: Callable[..., Server]
) -> None:
    silent = server(refusing(3.0, no_hint))
    fine = server()
    configure(place, [{"name": "silent", "base_url": silent.url}, {"name": "fine", "base_url": fine.url}])
    place.write_rows(400)
    done = place.run()
    assert done.code == 0, done.err
    assert fine.arrivals[-1].at - fine.arrivals[0].at < 8.0
    assert len(fine.counts) + len(silent.counts) >= 400
    assert "refused within every known limit" not in place.log


@pytest.mark.timed
def test_a_row_that_is_refused_for_its_own_size_fails_soon_and_lowers_nobodys_limit(
    place: Place, server: Callable[..., Server]
) -> None:
    own = error("on tokens per min (TPM): Requested 45,000, limit 30,000", "tokens")
    witness = server(lambda arrival: (429, {"retry-after": "30"}, own) if arrival.row == 7 else None)
    place.configure(witness.url)
    place.write_rows(60)
    began = time.monotonic()
    assert place.run().code == 1
    assert time.monotonic() - began < 8.0
    assert [(row["index"], row["class"]) for row in place.failed] == [(7, "too_large")]
    assert witness.counts[7] == 1
    assert place.report["sessions"][0]["providers"]["main"]["limited"] == 0
    assert "refused within every known limit" not in place.log


def test_one_absurd_usage_ends_no_budget_and_is_told(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row not in (7, 40):
            return None
        body = json.loads(replies.compose(arrival.body, replies.fingerprint(arrival.body)).body)
        body["usage"] = {"prompt_tokens": 10**11 if arrival.row == 7 else -3, "completion_tokens": 10**11}
        return 200, {}, json.dumps(body).encode()

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(100)
    prices = ("--set", "prices.sim-small={input=1.0,output=4.0}")
    done = place.run("--set", "budget.max_tokens=100000", "--set", "budget.max_usd=1.0", *prices)
    assert done.code == 0, done.err
    assert len(place.lines) == 100
    assert place.report["sessions"][0]["providers"]["main"]["odd_usage"] == 2
    assert 10_000 < place.report["cost"]["tokens"] < 40_000
    assert "odd usage 2, counted as estimated" in done.err
