"""The books of a run: no row counted twice however shards move, and figures that say what they mean."""

import multiprocessing
import re
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core import config as configuration
from rowmill.core.counts import Counters, ProviderReport, Totals
from rowmill.core.errors import ExitCode
from rowmill.core.reports import SessionReport, Snapshot
from rowmill.core.rows import Shard
from rowmill.ipc.messages import Heartbeat
from rowmill.ipc.processes import Child, Process
from rowmill.store.run_directory import RunDirectory
from rowmill.store.seal import Sealed
from rowmill.supervisor.pool import Member, Pool
from rowmill.supervisor.progress import Progress
from rowmill.supervisor.providers import Providers

HIRE = Callable[..., Member]


def shard(number: int) -> Shard:
    return Shard(number, number * 10, 10, number * 100, number * 100 + 100, 0)


def sealed(number: int, totals: Totals) -> Sealed:
    return Sealed(2, shard(number), 0, 0, totals, "jsonl")


def totals(rows: int, failed: int = 0) -> Totals:
    return Totals(rows=rows, failed=failed, prompt_tokens=rows * 3, completion_tokens=rows * 2, requests=rows + failed)


def heartbeat(
    rows: int = 0,
    *,
    in_flight: int = 0,
    in_flight_max: int = 0,
    waiting: int = 0,
    next_due_s: float | None = None,
    rss_max: int = 0,
    cpu_s: float = 0.0,
    counters: Counters | None = None,
    shards: dict[int, Totals] | None = None,
    providers: list[ProviderReport] | None = None,
) -> Heartbeat:
    done = counters if counters is not None else Counters(rows=rows)
    return Heartbeat(
        counters=done,
        in_flight=in_flight,
        in_flight_max=in_flight_max,
        waiting=waiting,
        next_due_s=next_due_s,
        rss_max=rss_max,
        cpu_s=cpu_s,
        shards=shards or {},
        providers=providers or [ProviderReport()],
        lag_ms=0.0,
        retries_short=False,
    )


@pytest.fixture
def providers() -> Providers:
    """One provider whose leases allow 8 requests in flight: 4 for each of two workers."""
    config = configuration.parse(
        {
            "input": {"path": "in.jsonl"},
            "task": {"model": "m", "prompt": "p"},
            "output": {"path": "out.jsonl"},
            "provider": [{"name": "main", "base_url": "http://127.0.0.1:1/v1"}],
            "workers": {"count": 2, "concurrency": 4},
        },
        "test",
    )
    made = Providers(config, workers=2, slots=4, now=0.0, rng=Random(0))
    made.send_leases(0.0)
    return made


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(RunDirectory(tmp_path))


@pytest.fixture
def hire(pool: Pool) -> Iterator[HIRE]:
    """Put a member into the pool, with this very process as its process: no ledger asks more of it than its id."""
    pipes: list[Connection] = []

    def make(place: int = 0, *numbers: int) -> Member:
        ours, theirs = multiprocessing.Pipe()
        pipes.extend((ours, theirs))
        process = cast("Process", multiprocessing.current_process())
        member = Member(place, len(pool.members), Child(process, ours), heard=0.0)
        member.shards = {number: shard(number) for number in numbers}
        pool.members.append(member)
        return member

    yield make
    for pipe in pipes:
        pipe.close()


def leave(progress: Progress, pool: Pool, member: Member, in_flight: int = 0) -> None:
    pool.members.remove(member)
    progress.ended(member, in_flight)


def summed_up(progress: Progress, pool: Pool, providers: Providers, now: float = 10.0) -> SessionReport:
    return progress.report(
        pool, providers, now, exit_code=ExitCode.OK, stopped_by=None, own_cpu_s=1.0, own_rss=1000, notices=()
    )


def test_a_shard_that_moves_to_another_worker_is_counted_once(pool: Pool, hire: HIRE) -> None:
    progress = Progress(0.0)
    first = hire(0, 1)
    progress.heartbeat(first, heartbeat(shards={1: totals(6)}))
    assert progress.totals == totals(6)

    leave(progress, pool, first)
    assert progress.totals == totals(6), "what is on disk stays done while nobody has the shard"
    second = hire(1, 1)
    progress.heartbeat(second, heartbeat(shards={1: totals(6)}))
    assert progress.totals == totals(6)
    progress.heartbeat(second, heartbeat(shards={1: totals(9, failed=1)}))
    assert progress.totals == totals(9, failed=1)
    progress.sealed(0, sealed(1, totals(10, failed=1)))
    assert progress.totals == totals(10, failed=1)
    assert progress.shards_sealed == 1


def test_a_late_word_of_a_shard_that_is_no_longer_the_workers_is_passed_over(pool: Pool, hire: HIRE) -> None:
    progress = Progress(0.0)
    member = hire(0, 1)
    progress.heartbeat(member, heartbeat(shards={1: totals(9)}))
    progress.sealed(0, sealed(1, totals(10)))
    del member.shards[1]
    progress.heartbeat(member, heartbeat(shards={1: totals(10)}))
    assert progress.totals == totals(10)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_totals_are_those_of_the_shards_through_any_moves(steps: list[tuple[int, int, int]]) -> None:
    progress, pool = Progress(0.0), Pool(RunDirectory(Path("unused")))
    done = dict.fromkeys(range(4), 0)
    finished: set[int] = set()
    process = multiprocessing.current_process()
    members = [Member(place, place, Child(process, None), 0.0) for place in range(3)]  # type: ignore[arg-type]  # unused
    for number, place, rows in steps:
        if number in finished:
            continue
        for member in members:
            member.shards.pop(number, None)
        member = members[place]
        member.shards[number] = shard(number)
        done[number] = min(10, done[number] + rows)
        progress.heartbeat(member, heartbeat(shards={n: totals(done[n]) for n in member.shards}))
        if done[number] == 10:
            del member.shards[number]
            progress.sealed(0, sealed(number, totals(10)))
            finished.add(number)
    assert progress.totals == totals(sum(done.values()))
    assert progress.shards_sealed == len(finished)
    assert pool.members == []


def test_totals_are_a_copy(pool: Pool, hire: HIRE) -> None:
    progress = Progress(0.0)
    progress.sealed(0, sealed(0, totals(10)))
    progress.totals.add(totals(5))
    assert progress.totals == totals(10)


def test_counters_outlive_the_worker_that_counted(pool: Pool, hire: HIRE) -> None:
    progress = Progress(0.0)
    first, second = hire(0), hire(1)
    progress.heartbeat(first, heartbeat(counters=Counters(5, 7, 6, 2, 1, {"timeout": 1, "auth": 1})))
    progress.heartbeat(second, heartbeat(counters=Counters(1, 1, 1, 0, 0, {"timeout": 2})))
    both = Counters(6, 8, 7, 2, 1, {"timeout": 3, "auth": 1})
    assert progress.counters(pool) == both
    leave(progress, pool, first)
    assert progress.counters(pool) == both
    third = hire(0)
    progress.heartbeat(third, heartbeat(counters=Counters(rows=4)))
    assert progress.counters(pool).rows == 10
    leave(progress, pool, hire(1))
    assert progress.counters(pool).rows == 10, "a worker that never said anything has nothing to keep"


def test_the_speed_is_that_of_the_last_seconds_and_the_eta_what_is_left(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(100.0)
    progress.total_rows = 1000
    member = hire(0, 0)
    assert progress.snapshot(pool, providers, 100.0, draining=False).eta_s is None
    rows = 0
    for quarter in range(1, 81):  # twenty seconds: ten at 10 rows a second, then ten at 40
        rows += 10 if quarter > 40 else 2 + quarter % 2
        progress.heartbeat(member, heartbeat(rows, shards={0: totals(rows)}))
        shown = progress.snapshot(pool, providers, 100.0 + quarter / 4, draining=False)
        if quarter == 40:
            assert shown.rows_per_s == pytest.approx(10, rel=0.05)
    assert shown.rows_per_s == pytest.approx(40, rel=0.01)
    assert shown.eta_s == pytest.approx((1000 - rows) / 40, rel=0.01)
    assert shown.elapsed_s == 20.0
    assert shown.session_rows == rows


def test_after_a_pause_longer_than_the_window_the_speed_is_still_of_what_was_seen(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(0.0)
    member = hire(0)
    progress.heartbeat(member, heartbeat(10))
    assert progress.snapshot(pool, providers, 1.0, draining=False).rows_per_s == 10
    for now in (60.0, 120.0, 180.0):
        shown = progress.snapshot(pool, providers, now, draining=False)
    assert shown.rows_per_s == 0
    assert shown.eta_s is None


def test_rows_of_earlier_sessions_are_done_but_do_not_make_this_one_fast(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(0.0)
    progress.sealed(0, sealed(0, totals(10)))
    progress.total_rows = 20
    hire(0)
    shown = progress.snapshot(pool, providers, 5.0, draining=False)
    assert (shown.totals.rows, shown.session_rows, shown.rows_per_s, shown.eta_s) == (10, 0, 0, None)


def test_rows_with_further_steps_to_go_make_a_run_fast_and_are_none_of_its_rows(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(0.0, steps=("draft", "title"))
    progress.total_rows = 100
    first, last = hire(0, 0), hire(1)
    last.step = 1
    told = heartbeat(counters=Counters(rows=40, failed=3, requests=40), shards={0: totals(40, failed=3)})
    progress.heartbeat(first, told)
    progress.heartbeat(last, heartbeat(counters=Counters(rows=10, failed=1, requests=9)))
    shown = progress.snapshot(pool, providers, 10.0, draining=False)
    assert (shown.session_rows, shown.counters.rows, shown.counters.failed, shown.counters.requests) == (10, 10, 1, 49)
    assert shown.rows_per_s == 2.5, "of two steps a row of each is one row"
    assert shown.eta_s == (100 - 40 / 2) / 2.5
    leave(progress, pool, first)
    assert progress.snapshot(pool, providers, 20.0, draining=False).rows_per_s == 0, "none more, whoever is gone"
    progress.sealed(0, sealed(0, totals(10)))
    assert progress.shards_sealed == 0, "it is the next step's"
    leave(progress, pool, last)
    report = summed_up(progress, pool, providers)
    assert (report.rows, report.rows_per_s, report.counters.rows) == (10, 1.0, 10)


def test_a_snapshot_adds_up_what_the_workers_say(pool: Pool, providers: Providers, hire: HIRE) -> None:
    progress = Progress(0.0)
    one, two, silent = hire(0), hire(1), hire(2)
    progress.heartbeat(one, heartbeat(1, in_flight=3, waiting=2, next_due_s=4.0))
    progress.heartbeat(two, heartbeat(1, in_flight=4, waiting=1, next_due_s=1.5))
    two.become("working")
    shown = progress.snapshot(pool, providers, 1.0, draining=True)
    assert (shown.in_flight, shown.waiting, shown.next_due_s, shown.allowed) == (7, 3, 1.5, 8)
    assert [(view.number, view.state, view.in_flight) for view in shown.workers] == [
        (0, "starting", 3),
        (1, "working", 4),
        (2, "starting", 0),
    ]
    assert shown.draining
    assert shown.total_rows is None
    assert silent.heartbeat is None


def test_the_report_sums_the_session_up(pool: Pool, providers: Providers, hire: HIRE) -> None:
    progress = Progress(0.0)
    one, two = hire(0), hire(1)
    progress.heartbeat(one, heartbeat(30, in_flight_max=4, rss_max=500, cpu_s=2.0))
    progress.heartbeat(two, heartbeat(20, in_flight_max=3, rss_max=700, cpu_s=1.0))
    progress.snapshot(pool, providers, 1.0, draining=False)
    leave(progress, pool, one, in_flight=2)
    successor = hire(0)
    progress.heartbeat(
        successor, heartbeat(counters=Counters(rows=50, maybe_billed_twice=3), in_flight_max=2, rss_max=600, cpu_s=0.5)
    )
    pool.deaths, pool.quarantined = 1, {(0, 7)}
    for member in (successor, two):
        leave(progress, pool, member)
    report = progress.report(
        pool, providers, 10.0, exit_code=4, stopped_by="no credit", own_cpu_s=1.5, own_rss=1000, notices=()
    )
    assert report.rows == 100
    assert report.rows_per_s == 10.0
    assert report.elapsed_s == 10.0
    assert (report.exit_code, report.stopped_by) == (4, "no credit")
    assert report.in_flight_max == 4 + 3, "the highest of each place, not of each process"
    assert (report.allowed, report.workers, report.deaths, report.quarantined) == (8, 2, 1, 1)
    assert report.billed_twice_max == 3 + 2
    assert report.cpu_s == 2.0 + 1.0 + 0.5 + 1.5
    assert report.rss_max_bytes == {"supervisor": 1000, "worker": 700}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report.started)
    assert report.started <= report.ended


def test_what_may_be_in_flight_is_what_the_leases_allow_and_the_report_says_the_most(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(0.0)
    shown: list[Snapshot] = []
    for now, factor in ((1.0, 0.5), (2.0, 1.0), (3.0, 0.25)):
        providers.tick(now, factor, paused=False, saturated=False)
        providers.send_leases(now)
        shown.append(progress.snapshot(pool, providers, now, draining=False))
    assert [snapshot.allowed for snapshot in shown] == [4, 8, 2]
    assert [snapshot.providers[0].allowed for snapshot in shown] == [4, 8, 2]
    assert summed_up(progress, pool, providers).allowed == 8


def test_the_figures_of_every_provider_are_shown_and_reported(pool: Pool, providers: Providers, hire: HIRE) -> None:
    progress = Progress(0.0)
    one, two = hire(0), hire(1)
    for member, report in (
        (one, ProviderReport(requests=10, answered=7, limited=2, lost=3, unhealthy=1, in_flight=0, reply_s=3.5)),
        (two, ProviderReport(requests=5, answered=3, retries=1, in_flight=2, reply_s=1.5)),
    ):
        providers.join(member, 0.0)
        said = heartbeat(providers=[report])
        progress.heartbeat(member, said)
        providers.heartbeat(member, said, 1.0)
    (view,) = progress.snapshot(pool, providers, 1.0, draining=False).providers
    assert (view.name, view.state, view.requests, view.answered, view.in_flight) == ("main", "open", 15, 10, 2)
    for member in (one, two):
        providers.leave(member, 2.0)
        leave(progress, pool, member)
    figures = summed_up(progress, pool, providers).providers
    assert figures.keys() == {"main"}
    main = figures["main"]
    assert (main.requests, main.answered, main.limited, main.retries) == (15, 10, 2, 1)
    assert main.mean_reply_s == 0.5


def test_what_holds_the_run_back_is_shown_as_it_is_and_reported_with_what_was_found_before(
    pool: Pool, providers: Providers
) -> None:
    progress = Progress(0.0, notices=["open files: limit raised"])
    shown = progress.snapshot(pool, providers, 1.0, draining=False, notices=("disk nearly full",))
    assert shown.notices == ("disk nearly full",), "what was found before the start holds nothing back now"
    report = progress.report(
        pool,
        providers,
        2.0,
        exit_code=0,
        stopped_by=None,
        own_cpu_s=0.0,
        own_rss=0,
        notices=["disk nearly full, paused for 3 s"],
    )
    assert report.notices == ["open files: limit raised", "disk nearly full, paused for 3 s"]


def test_a_session_that_did_nothing_has_a_report_too(pool: Pool, providers: Providers) -> None:
    report = summed_up(Progress(10.0), pool, providers, now=10.0)
    assert (report.rows, report.rows_per_s, report.in_flight_max, report.workers) == (0, 0.0, 0, 0)
    assert report.counters == Counters()


def test_a_resume_begins_where_the_run_stood_and_its_speed_with_its_first_row(
    pool: Pool, providers: Providers, hire: HIRE
) -> None:
    progress = Progress(0.0, before=Totals(rows=300, failed=2))
    progress.total_rows = 1000
    member = hire(0, 0)
    for now in (0.0, 3.0):
        shown = progress.snapshot(pool, providers, now, draining=False)
        assert (shown.totals.rows, shown.totals.failed, shown.session_rows, shown.eta_s) == (300, 2, 0, None)
    assert progress.totals.rows == 0, "the report says what is found"
    progress.heartbeat(member, heartbeat(100, shards={0: totals(400)}))
    shown = progress.snapshot(pool, providers, 4.0, draining=False)
    assert (shown.totals.rows, shown.rows_per_s, shown.eta_s) == (400, 100, 6)
