"""Limits, configured and learned, and 429s of every kind: nothing is sent too early, and nothing is wasted."""

import signal
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from math import ceil
from typing import NamedTuple

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness
from tests.end_to_end.several import Answer, configure, error, heard, last_session

LIMITED = error("Rate limit reached", "requests", "rate_limit_exceeded")
NO_CREDIT = error("You exceeded your current quota", "insufficient_quota", "insufficient_quota")
WORKERS, SLOTS = 4, 8
FOUR_WORKERS = ("--set", f"workers.count={WORKERS}", "--set", f"workers.concurrency={SLOTS}")
REPLY_S = 0.03  # long enough for every slot to be in use
NEWS_S = 0.01  # a refusal that asks for no more than this beyond the one before it is not told to the other workers
WORD_S = 0.2  # for what is on its way already, and for word of a refusal to reach every worker


class Refusal(NamedTuple):
    """A 429 that the server gave, and how long it asked for silence."""

    arrival: Arrival
    floor_s: float


def asked_by(form: str, wave: int) -> tuple[dict[str, str], float]:
    """Return a 429's headers, and the seconds that they ask for."""
    match form:
        case "retry-after-ms":
            return {"retry-after-ms": "700", "retry-after": "1"}, 0.7
        case "seconds":
            return {"retry-after": "1"}, 1.0
        case "rising":
            return {"retry-after-ms": f"{300 * wave}"}, 0.3 * wave
    now = time.time()
    date = ceil(now + 1)
    return {"retry-after": formatdate(date, usegmt=True)}, date - now


class Limiter:
    """Answers for a while, then refuses all that comes for a moment; that in several waves."""

    def __init__(self, form: str, waves: int, well: int) -> None:
        self.form = form
        self.waves = waves
        self.well = well  # requests before the first wave, and from the end of a wave's silence to the next wave
        self.refusals: list[Refusal] = []
        self.loads: list[tuple[float, int]] = []  # at each arrival, how many were there at once
        self._lock = threading.Lock()
        self._there = self._wave = self._answered = 0
        self._wave_ends = 0.0

    def __call__(self, arrival: Arrival) -> Answer | None:
        with self._lock:
            self._there += 1
            self.loads.append((arrival.at, self._there))
        time.sleep(REPLY_S)
        with self._lock:
            self._there -= 1
            if self._answered >= self.well and self._wave < self.waves:
                self._wave += 1
                self._answered = 0
                self._wave_ends = arrival.at + 0.15
            if arrival.at >= self._wave_ends:
                self._answered += 1
                return None
            headers, floor_s = asked_by(self.form, self._wave)
            # From its arrival on, although it hears of it a moment later: the later floor is the stricter one.
            self.refusals.append(Refusal(arrival, floor_s + time.monotonic() - arrival.at))
            return 429, headers, LIMITED


@pytest.mark.quiet
@pytest.mark.parametrize(("form", "waves"), [("retry-after-ms", 1), ("seconds", 1), ("date", 1), ("rising", 2)])
def test_no_worker_sends_before_the_time_that_a_429_named(
    place: Place, server: Callable[..., Server], form: str, waves: int
) -> None:
    limiter = Limiter(form, waves, well=100)
    witness = server(limiter)
    place.configure(witness.url)
    rows = 200 if form == "seconds" else 100 * waves + 40
    place.write_rows(rows)
    # One try a row: a 429 spends none.
    done = place.run("--set", "retry.attempts=1", *FOUR_WORKERS)
    assert done.code == 0, done.err
    assert [line["index"] for line in place.lines if line["output"]] == list(range(rows))
    refusals, arrivals = limiter.refusals, witness.arrivals
    again = {(each.row, each.nth): each.at for each in arrivals}
    waits = []
    for (row, nth, at, *_), floor_s in refusals:
        waits.append(again[row, nth + 1] - at - floor_s)
        early = [each.at - at for each in arrivals if at + REPLY_S + WORD_S < each.at < at + floor_s - NEWS_S]
        assert not early, "all workers have heard of it"
    assert min(waits) >= 0
    assert max(waits) - min(waits) > 0.02, "they do not all come back at once"
    # What each slot of all workers sent before it heard, in each wave.
    assert len(refusals) <= WORKERS * SLOTS * waves
    counters = last_session(place)["counters"]
    assert (counters["faults"], counters["retries"]) == ({"rate_limited": len(refusals)}, len(refusals))
    figures = last_session(place)["providers"]["main"]
    assert figures["limited"] == len(refusals)
    assert figures["held_s"] >= {"retry-after-ms": 0.7, "seconds": 1.0, "date": 1.0, "rising": 0.9}[form]
    if form == "seconds":
        assert_gradual(limiter)


def assert_gradual(limiter: Limiter) -> None:
    """Hold that what a 429 has held back comes little by little."""
    held_from = min(each.arrival.at for each in limiter.refusals)
    held_until = max(each.arrival.at + each.floor_s for each in limiter.refusals)
    before = max(there for at, there in limiter.loads if at < held_from)
    assert before >= WORKERS * SLOTS * 0.7
    released = min(at for at, _ in limiter.loads if at >= held_until)
    assert max(there for at, there in limiter.loads if released <= at < released + 0.1) <= before / 3


@pytest.mark.timed
def test_a_wait_of_ten_minutes_is_waited_for_and_shown_and_does_not_keep_a_signal_waiting(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    again = threading.Event()

    def decide(_: Arrival) -> Answer | None:
        time.sleep(0.01)
        if again.is_set() or len(witness.arrivals) <= 100:
            return None
        return 429, {"retry-after": "600"}, LIMITED

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(300)
    started = place.start("--set", "retry.attempts=1")
    heard(started, "provider main: holding, next in 9m5")
    sent = len(witness.arrivals)
    assert sent <= 100 + 32 + 32
    assert started.process.poll() is None
    started.signal(signal.SIGINT)
    done = started.wait(10)
    assert done.code == 130, done.err
    assert len(witness.arrivals) == sent
    assert place.report["totals"]["failed"] == 0
    recorded = place.recorded()
    assert len(recorded) >= 68
    again.set()
    done = place.run("--set", "retry.attempts=1")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)
    assert sorted(each.row for each in witness.arrivals[sent:]) == sorted(set(range(300)) - recorded)


def test_a_row_whose_deadline_comes_before_the_time_that_a_429_named_fails_and_the_run_ends(
    place: Place, server: Callable[..., Server]
) -> None:
    all_there = threading.Barrier(8)  # a row that is sent later only has its deadline from then on

    def decide(_: Arrival) -> Answer:
        all_there.wait(10)
        return 429, {"retry-after": "600"}, LIMITED

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(8)
    done = place.run("--set", "retry.deadline_s=5")
    assert done.code == 1, done.err
    assert [(row["class"], row["status"]) for row in place.failed] == [("rate_limited", 429)] * 8
    assert len(witness.arrivals) == 8


@pytest.mark.quiet
def test_out_of_credit_stops_every_worker_and_the_same_command_goes_on_once_there_is_some(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    paid = threading.Event()

    def decide(arrival: Arrival) -> Answer | None:
        time.sleep(REPLY_S)
        return None if paid.is_set() or arrival in witness.arrivals[:150] else (429, {}, NO_CREDIT)

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(600)
    done = place.run(*FOUR_WORKERS)
    assert done.code == 4, done.err
    assert "quota_exhausted" in done.err
    assert "put right what is named above" in done.err
    # Each slot sends one request at most before its worker has seen a refusal of its own.
    assert len(witness.arrivals) <= 150 + WORKERS * SLOTS
    refused_at = witness.arrivals[150].at
    assert max(each.at for each in witness.arrivals) <= refused_at + REPLY_S + WORD_S
    assert last_session(place)["providers"]["main"]["state"] == "closed"
    recorded = place.recorded()
    assert len(recorded) == 150
    paid.set()
    before = len(witness.arrivals)
    done = place.run(*FOUR_WORKERS)
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(600)
    assert sorted(each.row for each in witness.arrivals[before:]) == sorted(set(range(600)) - recorded)


@pytest.mark.quiet
def test_with_malformed_headers_the_configured_limit_paces(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """As with none at all, see the test of pacing."""
    faults = {"bad-headers": 0.3, "huge-headers": 0.3}
    witness = simulator(requests_per_minute=9000, limit_headers=False, faults=faults, latency_ms=30)
    place.configure(witness.url)
    place.write_rows(300)
    done = place.run("--set", "provider.requests_per_minute=9000")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)
    stats = witness.stats()
    assert (stats["limited"], stats["requests"]) == ({}, 300)
    assert 300 / 150 * 0.75 <= stats["last"] - stats["first"] <= 300 / 150 * 1.3 + 0.5
    figures = last_session(place)["providers"]["main"]
    assert (figures["requests_per_minute"], figures["tokens_per_minute"]) == (9000, None)
    assert figures["odd_headers"] > 0
    assert "odd limit headers" in done.err


def test_headers_that_make_no_sense_teach_nothing(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(faults={"bad-headers": 0.5, "huge-headers": 0.5}, latency_ms=100)
    place.configure(witness.url)
    place.write_rows(700)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(700)
    stats = witness.stats()
    assert stats["requests"] == 700
    assert stats["last"] - stats["first"] >= 2, "long enough to learn something"
    figures = last_session(place)["providers"]["main"]
    assert (figures["requests_per_minute"], figures["tokens_per_minute"]) == (None, None)
    assert figures["odd_headers"] >= 20


@pytest.mark.quiet
def test_a_limit_that_nobody_configured_is_learned_from_the_headers(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(requests_per_minute=9000, latency_ms=30)
    place.configure(witness.url)
    place.write_rows(1150)
    # A budget for retries that does not matter here.
    done = place.run("--set", "workers.concurrency=auto", "--set", "retry.share=0.5")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(1150)
    assert "provider main: learned from the server's headers: 9,000 requests a minute" in place.log
    # In force at the end, where a ceiling that the first 429s have set may still be on its way back up to it.
    assert 0.9 * 9000 <= last_session(place)["providers"]["main"]["requests_per_minute"] <= 9000
    stats = witness.stats()
    assert stats["by_status"].get("429", 0) <= 0.25 * stats["requests"]
    late = [entry for entry in stats["series"] if entry[0] >= stats["first"] + 4]
    assert sum(entry[3] for entry in late) <= 0.02 * sum(entry[1] for entry in late), stats["series"]
    assert sum(entry[2] for entry in late[:-1]) >= 0.7 * 150 * len(late[:-1]) > 0, "nor is it wasted"


@pytest.mark.alone
def test_auto_concurrency_does_not_pile_up_requests_before_a_server_that_queues(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    slots = 20
    witness = simulator(parallel=slots, latency_ms=60)
    configure(place, [{"name": "main", "base_url": witness.url}], workers={"concurrency": "auto"})
    place.write_rows(800)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(800)
    stats = witness.stats()
    assert slots / 2 <= stats["in_flight_max"] <= 3 * slots
    # 333 rows a second is what the slots can do; the start from few takes its time.
    assert 800 / (stats["last"] - stats["first"]) >= 0.5 * slots / 0.063
