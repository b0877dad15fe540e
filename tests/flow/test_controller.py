"""One provider under its controller, with workers that are played by the test: what the leases come to."""

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from rowmill.core.config import ProviderConfig
from rowmill.core.counts import DeadEnd, ProviderReport
from rowmill.core.leases import Lease
from rowmill.flow.controller import ProviderController

TICK_S = 0.25
NEWS_S = 0.01  # by which a pause is longer than asked for


class Stage:
    """A controller and its workers, in a time of their own."""

    def __init__(self, *, workers: int = 2, slots: int = 16, auto: bool = False, **provider: Any) -> None:
        self.now = 1000.0
        self.controller = ProviderController(
            0,
            ProviderConfig(name="main", base_url="http://127.0.0.1:1/v1", **provider),
            auto=auto,
            slots=slots,
            workers=workers,
            now=self.now,
            rng=Random(0),
        )
        self.reports = {holder: ProviderReport() for holder in range(workers)}
        self.leases: dict[int, Lease] = {}
        self.sent: list[tuple[float, int, Lease]] = []
        for holder in self.reports:
            self.controller.join(holder, self.now)
        self.deliver()

    def deliver(self) -> None:
        """Send the leases that are due, and what follows from their acknowledgements."""
        for _ in range(8):
            leases = self.controller.leases(self.now)
            if not leases:
                return
            for holder, lease in leases:
                self.leases[holder] = lease
                self.sent.append((self.now, holder, lease))
                self.controller.leased(holder, lease.serial, (0.0, 0.0), self.now)

    def pass_time(self, seconds: float, **grown: Any) -> None:
        """Let time pass, every worker reporting; `grown`: what grows a second in each, or is so (`wants_slots`)."""
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for holder, report in self.reports.items():
                for name, value in grown.items():
                    if name in {"in_flight", "wants_slots", "wants_rate", "largest", "refusal", "last"}:
                        setattr(report, name, value)
                    else:
                        setattr(report, name, getattr(report, name) + value * TICK_S)
                copy = ProviderReport(**{name: getattr(report, name) for name in report.__struct_fields__})
                copy.lease = self.leases[holder].serial
                self.controller.report(holder, copy, TICK_S, self.now)
            self.controller.tick(self.now)
            self.deliver()

    @property
    def allowed(self) -> int:
        return sum(lease.in_flight for lease in self.leases.values())

    def allowed_after(self, seconds: float, **grown: Any) -> list[int]:
        """Return the allowed requests in flight after each tick."""
        seen = []
        for _ in range(round(seconds / TICK_S)):
            self.pass_time(TICK_S, **grown)
            seen.append(self.allowed)
        return seen


BUSY = {"requests": 40, "answered": 40, "reply_s": 16.0, "in_flight": 16, "wants_slots": True}


def test_a_number_is_leased_from_the_start_and_renewed_before_it_expires() -> None:
    stage = Stage()
    assert stage.allowed == 32
    well = "<closed, opened 0 times, 0 hanging>, <not paused>>"
    assert repr(stage.controller) == f"<main: open, 0 of 32 in flight; {well}"
    stage.pass_time(10, **BUSY)
    assert repr(stage.controller) == f"<main: open, 32 of 32 in flight; {well}"
    for holder in (0, 1):
        times = [now for now, to, _ in stage.sent if to == holder]
        expiries = [lease.expires for _, to, lease in stage.sent if to == holder]
        assert all(later < until for later, until in zip(times[1:], expiries, strict=False)), "no gap"
        assert max(b - a for a, b in pairwise(times)) <= 1.5


def test_auto_starts_small_and_grows_while_slots_bring_more() -> None:
    stage = Stage(auto=True, slots=1024)
    assert stage.allowed <= 8
    for _ in range(60):
        each = max(1, stage.allowed // 2)
        rate = each / 0.1  # a server that always has room
        stage.pass_time(TICK_S, requests=rate, answered=rate, reply_s=each, in_flight=each, wants_slots=True)
    assert stage.allowed > 100


def test_a_known_rate_is_gone_to_straight() -> None:
    stage = Stage(auto=True, slots=1024, requests_per_minute=60_000)
    stage.pass_time(1.0, requests=10, answered=10, reply_s=2.0, in_flight=4, wants_slots=True)
    assert 200 < stage.allowed < 450, "a thousand a second at 0.2 s"
    assert sum(lease.requests.rate for lease in stage.leases.values() if lease.requests) == pytest.approx(1000)


def test_a_429_with_retry_after_pauses_everybody_and_lets_go_gradually() -> None:
    stage = Stage(slots=64)
    stage.pass_time(5, **BUSY)
    assert stage.controller.refused(4.0, slow_down=False, now=stage.now)
    stage.deliver()
    paused_until = stage.now + 4.0 + NEWS_S
    assert [lease.paused_until for lease in stage.leases.values()] == [paused_until] * 2, (
        "at once, not at the next tick"
    )
    assert not stage.controller.refused(4.005, slow_down=False, now=stage.now), "no news: it ends hardly later"
    stage.pass_time(4.25, in_flight=0, wants_slots=True)
    view = stage.controller.view(paused_until - 1.0)
    assert (view.state, view.held_s) == ("open", None)
    released = stage.allowed_after(6.0, **BUSY)
    assert released[0] < 128 / 3, "no stampede"
    assert released[-1] > 80
    assert stage.controller.figures(stage.now).held_s == pytest.approx(4.0, abs=0.02)


def test_a_pause_shows_in_the_view_while_it_lasts() -> None:
    stage = Stage()
    stage.controller.refused(600.0, slow_down=False, now=stage.now)
    stage.pass_time(1.0, in_flight=0)
    view = stage.controller.view(stage.now)
    assert view.state == "holding"
    assert view.held_s == pytest.approx(599.0, abs=0.02)


@pytest.mark.parametrize(("pause_s", "per_s"), [(1.0, 40.0), (2.5, 80.0)])
def test_short_pauses_are_part_of_the_rate_that_is_let_through_and_long_ones_are_not(
    pause_s: float, per_s: float
) -> None:
    """Eighty a second for a second, then a refusal and a pause, again and again: how a limit paces, or an outage."""
    stage = Stage(slots=64)
    for _ in range(8):
        stage.pass_time(1.0, requests=40, answered=40, limited=1, reply_s=4.0, in_flight=4, wants_slots=True)
        stage.controller.refused(pause_s, slow_down=False, now=stage.now)
        stage.deliver()
        stage.pass_time(pause_s, in_flight=0, wants_slots=True)
    rates = [0.0 if lease.requests is None else lease.requests.rate for lease in stage.leases.values()]
    assert sum(rates) == pytest.approx(per_s, rel=0.05)


def test_a_429_without_retry_after_pauses_nobody() -> None:
    stage = Stage()
    assert not stage.controller.refused(None, slow_down=False, now=stage.now)
    assert stage.controller.state == "open"


def test_a_tripped_worker_stops_all_and_probes_find_the_way_back() -> None:
    stage = Stage()
    stage.pass_time(5, **BUSY)
    stage.controller.tripped("overloaded (HTTP 503, down)")
    stage.controller.tick(stage.now)
    stage.deliver()
    assert stage.allowed == 0
    assert all(lease.failing for lease in stage.leases.values())
    assert stage.controller.events == ["provider main: failing; only probes are sent: overloaded (HTTP 503, down)"]
    seen = stage.allowed_after(10.0, in_flight=0, wants_slots=True)
    assert max(seen) == 1, "one probe at a time, over all workers"
    stage.pass_time(1.0, answered=4, requests=4, reply_s=0.1, in_flight=0, wants_slots=True)
    recovering = stage.allowed_after(10.0, answered=50, requests=50, reply_s=1.0, in_flight=8, wants_slots=True)
    assert recovering[0] < 32
    assert recovering[-1] == 32
    assert stage.controller.state == "open"
    assert not any(lease.failing for lease in stage.leases.values())
    assert stage.controller.figures(stage.now).opened == 1
    assert any("answers again" in event for event in stage.controller.events)


@pytest.mark.parametrize(("answered", "patience"), [(0, 60.0), (100, 3600.0)])
def test_waiting_for_a_dead_provider_has_an_end(answered: int, patience: float) -> None:
    stage = Stage()
    stage.pass_time(1.0, requests=answered, answered=answered, reply_s=answered * 0.1, in_flight=1)
    stage.controller.tripped("connection (refused)")
    stage.pass_time(1.0, in_flight=0)
    stage.now += patience - 10.0
    assert stage.controller.hopeless(stage.now) is None
    stage.now += 20.0
    reason = stage.controller.hopeless(stage.now)
    assert reason is not None
    assert "connection (refused)" in reason


@pytest.mark.parametrize(("dead_end", "patience"), [("nothing", 3.0), ("another", 2.0)])
def test_a_dead_end_is_told_within_seconds_unless_others_are_well_or_it_has_worked_before(
    dead_end: DeadEnd, patience: float
) -> None:
    stage = Stage()
    stage.controller.tripped("no answer from http://a/v1", dead_end, stage.now - 0.5)
    stage.controller.tick(stage.now)
    assert stage.controller.hopeless(stage.now + patience - 0.6) is None
    assert stage.controller.hopeless(stage.now + patience) == "no answer from http://a/v1"
    assert stage.controller.hopeless(stage.now + 50.0, others=True) is None
    stage.controller.worked_before()
    assert stage.controller.hopeless(stage.now + 3000.0) is None


def test_a_closed_provider_has_no_slots_and_says_why_once() -> None:
    stage = Stage()
    stage.controller.close("auth (HTTP 401, bad key)")
    stage.controller.close("something later")
    stage.pass_time(1.0, in_flight=0)
    assert all(lease.closed and lease.in_flight == 0 for lease in stage.leases.values())
    assert stage.controller.events == ["provider main: closed: auth (HTTP 401, bad key)"]
    assert stage.controller.view(stage.now).state == "closed"


def test_a_machine_short_of_something_gets_fewer_requests_or_none() -> None:
    stage = Stage()
    stage.controller.throttle(0.25, paused=False, saturated=False)
    stage.pass_time(1.0, **BUSY)
    assert stage.allowed == 8
    stage.controller.throttle(0.001, paused=False, saturated=False)
    stage.pass_time(1.0, in_flight=1)
    assert stage.allowed == 1, "short of memory is no reason to stand still"
    stage.controller.throttle(1.0, paused=True, saturated=False)
    stage.pass_time(1.0, in_flight=0)
    assert stage.allowed == 0
    stage.controller.throttle(1.0, paused=False, saturated=False)
    stage.pass_time(2.0, **BUSY)
    assert stage.allowed == 32


def test_what_ended_workers_did_stays_in_the_figures() -> None:
    stage = Stage()
    stage.pass_time(1.0, requests=20, answered=16, limited=4, prompt_tokens=100, reply_s=8.0, in_flight=0)
    stage.controller.leave(0, stage.now)
    del stage.reports[0], stage.leases[0]
    stage.controller.join(7, stage.now)
    stage.reports[7] = ProviderReport()
    stage.deliver()
    stage.pass_time(1.0, in_flight=0)
    figures = stage.controller.figures(stage.now)
    assert (figures.requests, figures.answered, figures.limited, figures.failed) == (40, 32, 8, 8)
    assert figures.prompt_tokens == 200
    assert figures.mean_reply_s == pytest.approx(0.5)
    assert set(stage.leases) == {1, 7}


def test_where_nothing_was_ever_answered_few_failures_are_waited_for_no_longer_than_many() -> None:
    stage = Stage()
    stage.pass_time(1.0, requests=2, unhealthy=2, in_flight=0)
    assert stage.controller.hopeless(stage.now + 58.0) is None, "no breaker has opened: there are three rows"
    assert "no valid reply for 6" in (stage.controller.hopeless(stage.now + 60.0) or "")
    stage.pass_time(1.0, in_flight=1)
    assert stage.controller.hopeless(stage.now + 60.0) is None, "somebody may be at work"
    stage.controller.worked_before()
    stage.pass_time(1.0, in_flight=0)
    assert stage.controller.hopeless(stage.now + 600.0) is None


def test_a_server_that_took_requests_and_said_nothing_for_their_whole_time_is_given_up_then() -> None:
    stage = Stage(timeout_s=120.0)
    stage.pass_time(0.25, requests=12, in_flight=3)
    stage.pass_time(119.5, in_flight=3)
    assert stage.controller.hopeless(stage.now) is None, "a slow model"
    stage.pass_time(0.25, unhealthy=12, in_flight=0)
    assert "no valid reply for 120 s" in (stage.controller.hopeless(stage.now) or "")


@pytest.mark.parametrize("answered", [0, 4])
def test_so_many_rows_refused_over_all_workers_close_a_provider_that_has_answered_none(answered: int) -> None:
    stage = Stage(workers=3)
    stage.pass_time(0.25, requests=16, answered=answered, in_flight=1, doubted=12, refusal="auth (HTTP 401, no)")
    stage.pass_time(1.0, in_flight=1)
    assert stage.controller.closed is None, "another answer may come"
    stage.pass_time(1.0, in_flight=0)
    assert stage.controller.closed == (None if answered else "auth (HTTP 401, no)")


@pytest.mark.parametrize("answered", [0, 40])
def test_where_hardly_a_row_is_left_that_has_not_failed_their_own_tries_are_its_probes(answered: int) -> None:
    stage = Stage()
    stage.pass_time(1.0, requests=40, answered=answered, in_flight=8)
    stage.pass_time(3.0, requests=40, unhealthy=40, in_flight=8)
    assert all(lease.failing and not lease.last for lease in stage.leases.values())
    stage.reports[0].last = True
    stage.pass_time(1.0, in_flight=0)
    assert not any(lease.last for lease in stage.leases.values()), "another worker has rows"
    stage.pass_time(0.5, last=True)
    assert {(lease.failing, lease.last) for lease in stage.leases.values()} == {(not answered, bool(answered))}
    assert stage.allowed == (32 if answered else stage.allowed), "what was never answered is not known to be well"
    stage.pass_time(0.5, last=False)
    assert all(lease.failing for lease in stage.leases.values())
