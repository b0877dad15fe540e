"""All parts of a run, in virtual time: the budget, the limit of what is enqueued, the deadline, and a kill anywhere."""

import gc
from collections.abc import Callable
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.amounts import Amount
from rowmill.core.config.sections import ProviderConfig
from rowmill.core.errors import ExitCode
from rowmill.flow import deadline
from rowmill.store.batch_journal import BatchJournal
from rowmill.transport.batch_api import BatchProblem
from rowmill.worker.batch.client import End
from rowmill.worker.batch.scheduler import HandOver
from tests.worker.batch.provider_in_memory import Life, refused, too_many
from tests.worker.batch.virtual_time import START
from tests.worker.batch.world import RUN, Killed, Session, World

SHORT = Life(validating=2.0, working=8.0, finalizing=2.0)
UNPAID = Life(end="failed", problems=(BatchProblem("billing_hard_limit_reached", "pay first", None),))


def has_ended(end: object, code: ExitCode, *words: str) -> bool:
    return isinstance(end, End) and end.exit_code == code and all(word in str(end) for word in words)


def never_doubled(world: World) -> Callable[[], None]:
    def check() -> None:
        assert not world.doubled()

    return check


# The whole life


def test_the_whole_life_of_several_parts(tmp_path: Path) -> None:
    world = World(tmp_path, 200, Life(working=3000.0))
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert [t.requests for t in world.tries] == [40, 40, 40, 40, 40]
    assert {t.phase for t in world.tries} == {"collected"}
    # Side by side: all of them take no longer than the last look at one.
    assert world.clock.time() - START < 3020 + 70
    assert sorted(path.name for path in world.folder.iterdir()) == ["journal"]


def test_what_is_under_way_is_told_by_what_has_it_in_hand(tmp_path: Path) -> None:
    world = World(tmp_path, 110, Life(working=3000.0), enqueued_tokens=800.0)
    seen: list[str] = []
    world.after = [(100.0, lambda session: seen.extend(map(repr, (session.scheduler, session.lifecycle))))]
    world.session(stop_after=200)
    assert seen == [
        "<BatchScheduler SENDING: parts [0, 1, 2]>",
        "<BatchLifecycle SENDING: part 0 in_progress, part 1 in_progress, part 2 waiting>",
    ]


def test_a_second_session_over_a_finished_run_asks_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 50)
    assert world.ends() is None
    world.provider.calls.clear()
    assert world.ends() is None
    assert not world.provider.calls


def test_what_an_expired_batch_has_left_and_only_that_is_asked_again(tmp_path: Path) -> None:
    world = World(tmp_path, 50, Life(end="expired", done=0.6), Life(), max_requests=50)
    assert world.ends() is None
    assert world.all_answered
    assert [len(batch.rows) for batch in world.provider.batches] == [50, 20]
    assert world.asked_once


def test_only_batches_that_ran_to_their_end_count_against_rows(tmp_path: Path) -> None:
    world = World(tmp_path, 10, Life(end="expired", done=0.0), Life(), max_requests=10)
    world.provider.answer = lambda request: refused(500)
    world.provider.lives = [
        Life(end="expired", done=0.0),
        Life(done=0.0),
        Life(end="expired", done=0.0),
        Life(done=0.0),
    ]
    assert world.ends() is None
    assert [t.status for t in world.tries] == ["expired", "completed", "expired", "completed", "completed"]
    assert set(world.outcomes.values()) == {"failed: too often"}


def test_failed_rows_of_a_finished_run_are_all_asked_again_where_they_are_to_be(tmp_path: Path) -> None:
    world = World(tmp_path, 30, max_requests=10)
    assert world.ends() is None
    world.outcomes = {row: outcome for row, outcome in world.outcomes.items() if row % 7}  # taken back
    world.retry_failed = True
    assert world.ends() is None
    assert world.all_answered
    assert sorted(name for name, times in world.provider.billed().items() if times > 1) == [
        "r0", "r14", "r21", "r28", "r7",
    ]  # fmt: skip


# Ends


def test_a_part_that_fails_ends_the_run_while_the_next_one_waits_for_the_budget(tmp_path: Path) -> None:
    world = World(tmp_path, 80, UNPAID)
    world.left = Amount(40, inf, inf)
    assert has_ended(world.ends(), ExitCode.PROVIDER, "billing_hard_limit_reached: pay first")


def test_parts_that_fail_at_once_all_have_their_exceptions_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, 200, UNPAID)
    assert has_ended(world.ends(), ExitCode.PROVIDER)
    world.last = None
    gc.collect()
    assert not caplog.records


def test_after_the_cause_of_a_refusal_is_gone_a_resume_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, 80, UNPAID)
    assert has_ended(world.ends(), ExitCode.PROVIDER)
    world.provider.lives = [Life()]
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert all(t.number == 1 for t in world.tries)


def test_a_batch_that_somebody_has_cancelled_is_taken_in_and_not_asked_again_before_the_next_session(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, 80, Life(end="cancelled", done=0.5), Life(working=5000.0))
    assert has_ended(world.ends(), ExitCode.INTERRUPTED, "cancelled", "same command again")
    assert len(world.outcomes) == 60
    assert len(world.provider.batches) == 2
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once


def test_so_it_is_where_the_process_was_killed_before_the_results_were_taken_in(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(end="cancelled", done=0.5))
    assert has_ended(world.ends(), ExitCode.INTERRUPTED)
    at = world.points.index("results are taken in")
    world = World(tmp_path / "again", 40, Life(end="cancelled", done=0.5), Life())
    world.kill_at = at
    assert isinstance(world.ends(), Killed)
    assert [t.phase for t in world.tries] == ["ended"]
    assert has_ended(world.ends(), ExitCode.INTERRUPTED)
    assert world.ends() is None
    assert world.asked_once


def test_nothing_more_is_created_once_somebody_has_cancelled(tmp_path: Path) -> None:
    """The third part waits for room among what is enqueued: it has it when the first one is cancelled."""
    world = World(tmp_path, 75, Life(end="cancelled", done=0.6), Life(working=5000.0), enqueued_tokens=500.0)
    assert has_ended(world.ends(), ExitCode.INTERRUPTED)
    assert [t.phase for t in world.tries] == ["collected", "collected", "uploaded"]
    assert len(world.provider.batches) == 2
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once


def test_batches_that_an_earlier_session_has_cancelled_stop_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 80)
    world.session(stop_after=100)
    journal = BatchJournal.open(world.folder / "journal", RUN)
    for t in journal.current():
        journal.cancelling(t, world.clock.time())
    journal.close()
    for batch in world.provider.batches:
        batch.cancelled_at = world.clock.time()
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert [(t.number, t.status) for t in world.tries] == [(1, "cancelled"), (2, "completed")] * 2


def test_a_session_that_is_stopped_leaves_its_batches_and_the_next_one_takes_them_in(tmp_path: Path) -> None:
    world = World(tmp_path, 200, Life(working=20_000.0))
    for _ in range(3):
        world.session(stop_after=60)
        world.clock.pass_by(7000)
    assert len(world.provider.batches) == 5
    assert world.ends() is None
    assert len(world.provider.batches) == 5
    assert world.all_answered
    assert world.asked_once


# The tokens that are enqueued


def test_the_limit_of_enqueued_tokens_is_never_passed_and_is_used(tmp_path: Path) -> None:
    world = World(tmp_path, 200, enqueued_tokens=800.0)
    world.provider.enqueued_limit = 800
    assert world.ends() is None
    assert world.all_answered
    assert world.provider.enqueued_most == 800
    assert not any(t.rejections for t in world.tries)
    assert len(world.provider.batches) == 5


def test_files_are_not_made_long_before_they_can_be_sent(tmp_path: Path) -> None:
    world = World(tmp_path, 60, enqueued_tokens=100.0, max_requests=5)
    most = 0

    def check() -> None:
        nonlocal most
        most = max(most, len(list(world.folder.glob("part-*"))) if world.folder.exists() else 0)

    world.check = check
    assert world.ends() is None
    assert world.all_answered
    assert most <= 2 + 4 + 1  # enqueued, waiting, being made


def test_parts_that_are_in_doubt_do_not_keep_each_other_from_being_created(tmp_path: Path) -> None:
    world = World(tmp_path, 80, enqueued_tokens=800.0)
    world.provider.fate = lambda call, number: "lost" if call == "create" else ""
    world.session(stop_after=4)
    assert [t.phase for t in world.tries] == ["creating", "creating"]
    world.provider.fate = lambda call, number: ""
    world.config = world.config.__class__(max_requests=40, enqueued_tokens=500.0)
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert world.provider.enqueued_most == 400


# The budget


def spending(world: World) -> Callable[[], None]:
    """Hold that what is spent and reserved never passes the budget."""

    def check() -> None:
        if world.last is not None and world.left is not None:
            room = world.last.reservations.room()
            assert min(room.requests, room.tokens, room.usd) > -1e-9

    return check


def test_the_budget_is_used_up_and_not_passed_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path, 200)
    world.left = Amount(100, inf, inf)
    world.check = spending(world)
    assert has_ended(world.ends(), ExitCode.BUDGET, "budget.max_requests", "0 is left", "raise it")
    assert len(world.outcomes) == 100
    world.left = Amount(200, inf, inf)
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once


def test_what_is_settled_below_its_estimate_is_spent_on_more(tmp_path: Path) -> None:
    """Replies were expected to have 20 tokens and have 5: what is left of each reservation makes further batches."""
    world = World(tmp_path, 500)
    world.left = Amount(inf, inf, 80 * 9e-5)
    world.check = spending(world)
    assert has_ended(world.ends(), ExitCode.BUDGET, "budget.max_usd")
    assert len(world.outcomes) == pytest.approx(80 * 9e-5 / 3e-5, rel=0.01)


def test_a_batch_that_is_settled_while_the_next_one_is_built_gives_it_room(tmp_path: Path) -> None:
    world = World(tmp_path, 80, SHORT)
    world.left = Amount(inf, 40 * 30, inf)  # as many as the first part reserves; half of it is left in the end
    world.build_s = 300.0
    assert world.ends() is None
    assert world.all_answered


def test_a_tiny_rest_of_the_budget_is_not_made_into_a_batch(tmp_path: Path) -> None:
    world = World(tmp_path, 1100, max_requests=500)
    world.left = Amount(1004, inf, inf)
    assert has_ended(world.ends(), ExitCode.BUDGET, "budget.max_requests", "4 is left", "too little")
    assert [t.requests for t in world.tries] == [500, 500]


def test_a_budget_below_one_request_ends_the_run_before_it_asks_for_anything(tmp_path: Path) -> None:
    world = World(tmp_path, 10)
    world.left = Amount(inf, 29, inf)
    end = world.ends()
    assert has_ended(
        end, ExitCode.BUDGET, "budget.max_tokens", "29 is left", "needs 30", "below what one request costs"
    )
    assert not world.provider.calls
    assert world.clock.time() == START


@settings(max_examples=25, deadline=None)
@given(
    cap=st.floats(1e-4, 2e-2),
    tokens=st.integers(100, 4000) | st.just(inf),
    lives=st.lists(
        st.builds(
            lambda working, end, done: Life(working=working, end=end, done=done),
            st.sampled_from([10.0, 700.0]),
            st.sampled_from(["completed", "expired"]),
            st.sampled_from([0.0, 0.3, 1.0]),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_spent_and_reserved_never_pass_the_budget(cap: float, tokens: float, lives: list[Life]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), 150, *lives, SHORT)
        world.left = Amount(inf, tokens, cap)
        world.most_output = 5  # as it turns out
        world.check = spending(world)
        end = world.ends()
        assert end is None or has_ended(end, ExitCode.BUDGET)
        assert (end is None) == (len(world.outcomes) == 150)


# The deadline


def test_at_the_switch_everything_is_cancelled_and_what_ends_is_taken_in(tmp_path: Path) -> None:
    world = World(
        tmp_path, 200, SHORT, Life(cancelling=inf), Life(cancelling=20.0), Life(cancelling=inf), enqueued_tokens=1200.0
    )
    world.tokens = 10
    world.after = [(310.0, lambda session: session.scheduler.switch(100.0))]
    assert isinstance(world.ends(), HandOver)
    assert 310 + 80 <= world.clock.time() - START <= 310 + 100
    assert world.phases == [
        (0, 1, "collected", "completed"),
        (1, 1, "given_up", None),
        (2, 1, "collected", "cancelled"),
        (3, 1, "given_up", None),
        (4, 1, "given_up", None),
    ]
    assert [t.maybe_billed for t in world.tries] == [False, True, False, True, False]
    assert len(world.outcomes) == 40 + 20  # half of the work was done
    assert world.last is not None
    assert world.last.reservations.doubtful.requests == 80


def test_a_switch_before_anything_has_begun_creates_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 200)
    world.after = [(0.0, lambda session: session.scheduler.switch(10.0))]
    assert isinstance(world.ends(), HandOver)
    assert not world.provider.batches


@pytest.mark.parametrize("hangs", [False, True])
def test_results_that_cannot_be_fetched_do_not_keep_a_run_from_its_deadline(tmp_path: Path, hangs: bool) -> None:
    world = World(tmp_path, 80, Life(working=5000.0, results_gone=not hangs))
    world.after = [(500.0, lambda session: session.scheduler.switch(200.0))]
    world.provider.fate = lambda call, number: "hangs" if hangs and call == "download" else ""
    assert isinstance(world.ends(), HandOver)
    assert world.clock.time() - START <= 700
    assert [t.phase for t in world.tries] == ["given_up"] * 2
    assert all(t.maybe_billed for t in world.tries)
    assert hangs or "cannot be fetched" in world.tries[0].reason


def test_results_that_are_at_hand_are_taken_in_however_long_that_takes(tmp_path: Path) -> None:
    world = World(tmp_path, 80, Life(working=5000.0))
    world.collect_s = 300.0
    world.after = [(2600.0, lambda session: session.scheduler.switch(100.0))]
    assert isinstance(world.ends(), HandOver)
    assert [t.phase for t in world.tries] == ["collected"] * 2
    assert len(world.outcomes) == 40


def test_batches_are_cancelled_at_the_switch_however_rarely_they_are_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, 80, Life(working=5000.0, cancelling=10.0), poll_max_s=600.0)
    world.after = [(1000.0, lambda session: session.scheduler.switch(100.0))]
    assert isinstance(world.ends(), HandOver)
    assert [batch.cancelled_at - START for batch in world.provider.batches] == [1000.0] * 2
    assert world.clock.time() - START <= 1000 + 35


@pytest.mark.parametrize(("switched_at", "waiting"), [(60.0, "given_up"), (1000.0, "uploaded")])
def test_where_somebody_has_cancelled_a_batch_nothing_goes_to_the_live_api(
    tmp_path: Path, switched_at: float, waiting: str
) -> None:
    """Whichever comes first: a batch that was cancelled after 57 seconds is found by the look of the earlier switch."""
    cancelled = Life(validating=2.0, working=45.0, end="cancelled", done=0.5)
    world = World(tmp_path, 100, cancelled, Life(working=5000.0, cancelling=20.0), enqueued_tokens=800.0, poll_s=50.0)
    world.after = [(switched_at, lambda session: session.scheduler.switch(100.0))]
    assert has_ended(world.ends(), ExitCode.INTERRUPTED, "cancelled", "same command again")
    assert world.phases == [(0, 1, "collected", "cancelled"), (1, 1, "collected", "cancelled"), (2, 1, waiting, None)]
    assert [t.cancelling for t in world.tries] == [False, True, False]
    assert world.provider.batches[1].cancelled_at - START == switched_at
    world.after = []
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once


@st.composite
def lives_of_a_day(draw: st.DrawFn) -> Life:
    return Life(
        validating=draw(st.sampled_from([1.0, 900.0])),
        working=draw(st.sampled_from([10.0, 1500.0, 40_000.0])),
        end=draw(st.sampled_from(["completed", "completed", "expired", "validating", "finalizing", "failed"])),
        done=draw(st.sampled_from([0.0, 0.5, 1.0])),
        cancelling=draw(st.sampled_from([0.0, 30.0, inf])),
        problems=draw(st.sampled_from([(), too_many().problems])),
        results_gone=draw(st.sampled_from([False, False, False, True])),
    )


FATES = ["", "", "", "", "lost", "unanswered", "late:3", "late:40", "overloaded", "hangs"]


@settings(max_examples=30, deadline=None)
@given(
    lives=st.lists(lives_of_a_day(), min_size=1, max_size=5),
    fates=st.lists(st.sampled_from(FATES), max_size=12),
    whole_s=st.sampled_from([60.0, 600.0, 3000.0, 20_000.0]),
    build_s=st.sampled_from([0.0, 50.0]),
    per_minute=st.sampled_from([None, 100.0, 2.0]),
)
def test_whatever_happens_the_live_api_has_its_time_before_the_deadline(
    lives: list[Life], fates: list[str], whole_s: float, build_s: float, per_minute: float | None
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), 30, *lives, max_requests=10, enqueued_tokens=225.0)
        world.build_s = build_s
        world.provider.fate = lambda call, number: dict(enumerate(fates)).get(
            sum(world.provider.calls.values()) - 1, ""
        )
        providers = [ProviderConfig(requests_per_minute=per_minute)]
        until = START + whole_s
        switched: list[tuple[float, int]] = []  # the time that live requests are to have, creations until then

        def look(session: Session) -> None:
            left = world.rows - len(world.outcomes)
            live_s = deadline.live_seconds(left, left * 30, providers, whole_s)
            if world.clock.time() >= deadline.switches_at(until, whole_s, live_s):
                switched.append((min(live_s, whole_s / 2), world.provider.calls["create"]))
                session.scheduler.switch(deadline.cancel_seconds(whole_s))
            else:
                assert session.client is not None
                world.loop.call_later(0.25 if whole_s < 600 else 5.0, look, session)

        world.after = [(0.0, look)]
        end = world.ends()
        if not switched:
            assert end is None or has_ended(end, ExitCode.PROVIDER)
            return
        live_s, created = switched[0]
        assert isinstance(end, HandOver)
        # The look that switches comes up to five seconds late.
        assert world.clock.time() <= until - live_s + 5.0
        assert world.provider.calls["create"] == created
        assert not any(t.open for t in world.tries)
        given_up = [t for t in world.tries if t.phase == "given_up" and t.creations > t.rejections]
        assert world.last is not None
        assert world.last.reservations.doubtful.requests == sum(t.requests for t in given_up)


# Kills


def points(folder: Path, *lives: Life) -> list[str]:
    world = World(folder, 30, *lives, max_requests=12)
    assert world.ends() is None
    return world.points


SCRIPTS = {
    "completed": (SHORT,),
    "expired": (Life(2.0, 8.0, 2.0, end="expired", done=0.5), SHORT),
    "refused": (too_many(), SHORT),
    "wrong lines": (Life(2.0, end="failed", problems=(BatchProblem("invalid", "no such thing", 3),)), SHORT),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_killed_anywhere_a_run_loses_no_row_and_asks_none_twice(tmp_path: Path, script: str) -> None:
    lives = SCRIPTS[script]
    whole = points(tmp_path / "whole", *lives)
    assert len(whole) > 60
    for number, name in enumerate(whole):
        if whole[:number].count(name) >= 6:
            continue  # each part was there twice: a later look is as an earlier one
        world = World(tmp_path / str(number), 30, *lives, max_requests=12)
        world.check = never_doubled(world)
        world.kill_at = number
        assert isinstance(world.ends(), Killed)
        world.clock.pass_by(number % 3 * 40)
        assert world.ends() is None, f"killed when {name}"
        wrong = [row for row, outcome in world.outcomes.items() if outcome != "answered"]
        assert (len(world.outcomes), len(wrong)) == (30, script == "wrong lines"), f"killed when {name}"
        billed = world.provider.billed(inf)
        assert set(billed.values()) == {1}, f"killed when {name}"
        assert len(billed) == 30 - len(wrong), f"killed when {name}"


@settings(max_examples=30, deadline=None)
@given(
    kills=st.lists(st.integers(0, 90), max_size=5),
    pauses=st.lists(st.sampled_from([0.0, 3.0, 100.0]), min_size=5, max_size=5),
    fates=st.lists(st.sampled_from(["", "", "lost", "unanswered", "late:2", "overloaded"]), max_size=20),
    lives=st.lists(st.sampled_from([SHORT, Life(end="expired", done=0.3), too_many(), Life(working=60.0)]), max_size=5),
)
def test_no_row_is_in_two_batches_whatever_fails_and_wherever_processes_are_killed(
    kills: list[int], pauses: list[float], fates: list[str], lives: list[Life]
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), 30, *lives, SHORT, max_requests=10)
        world.check = never_doubled(world)
        world.provider.fate = lambda call, number: dict(enumerate(fates)).get(
            sum(world.provider.calls.values()) - 1, ""
        )
        for kill, pause in zip(kills, pauses, strict=False):
            world.kill_at = len(world.points) + kill
            if world.ends() is None:
                break
            world.clock.pass_by(pause)
        world.kill_at = -1
        assert world.ends() is None
        assert world.all_answered
        assert world.asked_once


@settings(max_examples=30, deadline=None)
@given(
    late=st.lists(st.sampled_from(["", "late:7", "late:40", "late:200"]), min_size=1, max_size=6),
    kills=st.lists(st.integers(0, 60), max_size=3),
)
def test_a_batch_that_turns_up_late_is_cancelled_and_only_one_is_gone_on_with(
    late: list[str], kills: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), 20, Life(working=2000.0), max_requests=10)
        world.provider.fate = lambda call, number: dict(enumerate(late)).get(number, "") if call == "create" else ""
        for kill in kills:
            world.kill_at = len(world.points) + kill
            if world.ends() is None:
                break
        world.kill_at = -1
        assert world.ends() is None
        assert world.all_answered
        whole = [row for batch in world.provider.batches if batch.cancelled_at == inf for row in batch.rows]
        assert sorted(whole) == sorted({f"r{row}" for row in range(20)})
