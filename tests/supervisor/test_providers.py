"""The providers of a run as the supervisor handles them: what messages bring about, and what goes to which worker."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from random import Random
from typing import Any, cast

import pytest

from rowmill.core import config as configuration
from rowmill.core.counts import Counters, ProviderReport
from rowmill.core.leases import Lease
from rowmill.core.reports import ProviderFigures, SessionReport
from rowmill.ipc import messages
from rowmill.ipc.messages import Closed, Heartbeat, Leased, Leases, RateLimited, Tripped
from rowmill.ipc.processes import Child, Process
from rowmill.supervisor.pool import Member
from rowmill.supervisor.progress import seconds_since
from rowmill.supervisor.providers import Providers

HIRE = Callable[[int], "Worker"]


class Worker:
    """One worker's place in the pool, and its end of the pipe."""

    def __init__(self, number: int) -> None:
        ours, self.pipe = multiprocessing.Pipe()
        child = Child(cast("Process", multiprocessing.current_process()), ours)
        self.member = Member(number, number, child, heard=0.0)

    def leases(self) -> list[Lease]:
        """Take the leases that have arrived."""
        found = []
        while self.pipe.poll(0):
            message = messages.receive_in_worker(self.pipe)
            assert isinstance(message, Leases)
            found += message.leases
        return found

    def ends(self) -> tuple[Connection, Connection]:
        return self.member.child.pipe, self.pipe


@pytest.fixture
def hire() -> Iterator[HIRE]:
    hired: list[Worker] = []

    def make(number: int) -> Worker:
        hired.append(Worker(number))
        return hired[-1]

    yield make
    for worker in hired:
        for end in worker.ends():
            end.close()


def providers(
    *tables: dict[str, Any],
    workers: int = 2,
    concurrency: int | str = 8,
    steps: Sequence[Sequence[int]] = (),
) -> Providers:
    config = configuration.parse(
        {
            "input": {"path": "in.jsonl"},
            "task": {"model": "m", "prompt": "{text}"},
            "output": {"path": "out.jsonl"},
            "provider": [{"base_url": "http://127.0.0.1:1/v1", **table} for table in tables],
            "workers": {"concurrency": concurrency},
        },
        "test",
    )
    return Providers(config, workers=workers, slots=8, now=0.0, rng=Random(0), steps=steps)


def heartbeat(*reports: ProviderReport) -> Heartbeat:
    return Heartbeat(Counters(), 0, 0, 0, None, 0, 0.0, {}, list(reports), 0.0, False)


def session(ended: str, **figures: ProviderFigures) -> SessionReport:
    return SessionReport(
        started=ended, ended=ended, exit_code=0, stopped_by=None, elapsed_s=1.0, rows=0, rows_per_s=0.0,
        counters=Counters(), in_flight_max=0, allowed=0, workers=1, deaths=0, quarantined=0, billed_twice_max=0,
        cpu_s=0.0, rss_max_bytes={}, providers=figures,
    )  # fmt: skip


def test_a_worker_that_is_ready_gets_a_lease_of_every_provider(hire: HIRE) -> None:
    both = providers({"name": "a"}, {"name": "b", "requests_per_minute": 600})
    first = hire(1)
    both.join(first.member, 0.0)
    assert both.pressing
    both.send_leases(0.0)
    assert not both.pressing
    a, b = first.leases()
    assert (a.provider, a.requests, a.in_flight) == (0, None, 16 // 2)
    assert b.requests is not None
    assert b.requests.rate == pytest.approx(10)
    assert both.allowed == 32


def test_a_lease_goes_to_another_worker_once_it_is_given_back(hire: HIRE) -> None:
    one = providers({"name": "a", "requests_per_minute": 6000})
    first, second = hire(1), hire(2)
    one.join(first.member, 0.0)
    one.send_leases(0.0)
    (lease,) = first.leases()
    assert lease.requests is not None
    assert lease.requests.rate == pytest.approx(100)
    one.join(second.member, 0.1)
    one.send_leases(0.1)
    (less,) = first.leases()
    assert less.requests is not None
    given = [lease.requests.rate for lease in second.leases() if lease.requests]
    assert sum(given) == 0, "not before the first has said that it goes by less"
    one.take(first.member, Leased(0, less.serial, (0.0, 0.0)), 0.2)
    assert one.pressing
    one.send_leases(0.2)
    rate = second.leases()[-1].requests
    assert rate is not None
    assert rate.rate + less.requests.rate == pytest.approx(100)


def test_a_worker_that_is_gone_is_sent_nothing(hire: HIRE) -> None:
    one = providers({"name": "a"})
    first = hire(1)
    one.join(first.member, 0.0)
    one.leave(first.member, 0.1)
    one.leave(first.member, 0.1)  # it may never have been ready
    one.heartbeat(first.member, heartbeat(ProviderReport()), 0.2)
    one.send_leases(0.2)
    assert first.leases() == []


def test_a_429_pauses_all_workers_at_once(hire: HIRE) -> None:
    one = providers({"name": "a"})
    workers = [hire(1), hire(2)]
    for worker in workers:
        one.join(worker.member, 0.0)
    one.send_leases(0.0)
    one.take(workers[0].member, RateLimited(0, 30.0, slow_down=False), 0.5)
    assert one.pressing
    one.send_leases(0.5)
    assert [worker.leases()[-1].paused_until for worker in workers] == [pytest.approx(30.5, abs=0.02)] * 2


def test_a_tripped_worker_stops_all_at_once(hire: HIRE) -> None:
    one = providers({"name": "a"})
    workers = [hire(1), hire(2)]
    for worker in workers:
        one.join(worker.member, 0.0)
    one.send_leases(0.0)
    one.take(workers[0].member, Tripped(0, "overloaded (HTTP 503, no)"), 0.5)
    one.send_leases(0.5)
    assert [worker.leases()[-1].failing for worker in workers] == [True, True]
    assert list(one.events()) == ["provider a: failing; only probes are sent: overloaded (HTTP 503, no)"]
    assert list(one.events()) == []


def test_the_run_has_an_end_when_the_last_provider_is_closed(hire: HIRE) -> None:
    both = providers({"name": "a"}, {"name": "b"})
    first = hire(1)
    both.join(first.member, 0.0)
    both.take(first.member, Closed(0, "auth (HTTP 401, bad key)"), 1.0)
    assert both.none_left is None
    both.take(first.member, Closed(1, "quota_exhausted (HTTP 429, no credit)"), 1.0)
    assert both.none_left == (
        "provider 'a': auth (HTTP 401, bad key); provider 'b': quota_exhausted (HTTP 429, no credit)"
    )
    assert {view.state for view in both.views(1.0)} == {"closed"}


def test_a_provider_that_never_answered_is_given_up_after_a_minute(hire: HIRE) -> None:
    one = providers({"name": "a"})
    first = hire(1)
    one.join(first.member, 0.0)
    one.take(first.member, Tripped(0, "connection (refused)"), 1.0)
    now = 1.0
    while one.none_left is None:
        now += 0.25
        assert now < 120
        one.tick(now, 1.0, paused=False, saturated=False)
    assert 55 < now < 70
    assert one.none_left is not None
    assert "connection (refused)" in one.none_left


def test_a_days_budget_remembers_earlier_sessions(hire: HIRE) -> None:
    def left(ended_s_ago: float) -> float:
        one = providers({"name": "a", "requests_per_day": 1000}, workers=1)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ended_s_ago))
        earlier = session(moment, a=ProviderFigures(requests=1000), other=ProviderFigures(requests=5))
        one.spent_before(earlier, seconds_since(earlier.ended))
        worker = hire(round(ended_s_ago))
        one.join(worker.member, 0.0)
        one.send_leases(0.0)
        share = worker.leases()[0].requests
        assert share is not None
        return share.rate

    assert left(0) < 0.1
    assert left(43_200) > 10, "half a day later half of it is there again"


def test_a_moment_that_is_none_is_long_ago() -> None:
    assert seconds_since("yesterday") > 1e8
    assert seconds_since("2099-01-01T00:00:00Z") == 0


def of_step(worker: Worker, step: int) -> Worker:
    worker.member.step = step
    return worker


def test_a_worker_of_a_step_has_leases_of_its_providers_as_it_counts_them(hire: HIRE) -> None:
    made = providers({"name": "a"}, {"name": "b"}, {"name": "c"}, steps=[(0, 2), (2,)], workers=4)
    first, second = of_step(hire(1), 0), of_step(hire(2), 1)
    made.join(first.member, 0.0)
    made.join(second.member, 0.0)
    made.send_leases(0.0)
    a, c = first.leases()
    (own,) = second.leases()
    assert (a.provider, c.provider, own.provider) == (0, 1, 0)
    made.take(second.member, Leased(0, own.serial, (0.0, 0.0)), 0.1)
    made.heartbeat(second.member, heartbeat(ProviderReport(requests=3)), 0.2)
    assert [view.requests for view in made.views(0.2)] == [0, 0, 3]
    made.take(second.member, Closed(0, "no key"), 0.3)
    made.send_leases(0.3)
    assert [(each.provider, each.closed) for each in first.leases()] == [(1, True)]
    made.leave(second.member, 0.4)


def test_a_step_without_a_provider_ends_the_run_though_others_have_theirs(hire: HIRE) -> None:
    made = providers({"name": "a"}, {"name": "b"}, steps=[(0,), (1,)])
    judge = of_step(hire(1), 1)
    made.join(judge.member, 0.0)
    assert made.none_left is None
    made.take(judge.member, Closed(0, "no credit"), 0.1)
    assert made.none_left == "provider 'b': no credit"
