"""Looking at a batch: how often, until when, and what is done about one that does not end."""

from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from rowmill.core.errors import ExitCode
from rowmill.worker.batch.client import End
from tests.worker.batch.provider_in_memory import Life, too_many
from tests.worker.batch.virtual_time import START
from tests.worker.batch.world import World


def looks(world: World) -> list[float]:
    """Return the times of all looks that a session will have."""
    times: list[float] = []
    passing = world.provider.point

    def point(name: str) -> None:
        passing(name)
        if name == "retrieve is sent":
            times.append(world.clock.time() - START)

    world.provider.point = point
    return times


def test_a_batch_is_looked_at_ever_less_often_up_to_the_longest_pause(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=20 * 3600.0), poll_s=5.0, poll_max_s=600.0)
    times = looks(world)
    assert world.ends() is None
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert [round(pause, -1) for pause in pauses[2:7]] == [20, 40, 80, 160, 320]
    assert all(600 <= pause <= 600.5 for pause in pauses[7:])
    assert len(times) < 20 * 3600 / 600 + 10


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling"])
def test_a_batch_that_is_stuck_is_cancelled_given_up_and_asked_again(tmp_path: Path, status: str) -> None:
    world = World(tmp_path, 40, Life(end=status, cancelling=inf), Life(), stuck_s=3600.0)
    if status == "cancelling":
        world.provider.lives = [Life(working=inf, cancelling=inf), Life()]
        world.after = [(300.0, lambda _: setattr(world.provider.batches[0], "cancelled_at", world.clock.time()))]
    assert world.ends() is None
    assert world.all_answered
    assert world.phases == [(0, 1, "given_up", None), (0, 2, "collected", "completed")]
    first = world.tries[0]
    assert first.cancelling
    assert first.maybe_billed
    assert 3600 + 900 <= world.provider.batches[1].created_at - START <= 3600 + 900 + 130
    assert world.last is not None
    assert world.last.reservations.doubtful.requests == first.reserved.requests
    assert any("may be billed twice" in note for note in world.notes)


def test_a_stuck_batch_is_cancelled_in_time_however_rarely_it_is_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=90_000.0), Life(), stuck_s=3600.0, poll_max_s=3000.0)
    assert world.ends() is None
    assert world.provider.batches[0].cancelled_at - START == pytest.approx(3600, abs=10)
    assert world.last is not None
    assert repr(world.last.lifecycle._poller) == "<BatchPoller cancelled ['batch_0'], sole []>"


def test_what_a_stuck_batch_has_done_is_taken_in_where_it_ends_once_it_is_cancelled(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=7200.0), Life(), stuck_s=3600.0)
    assert world.ends() is None
    assert world.asked_once
    assert [(t.status, t.maybe_billed) for t in world.tries] == [("cancelled", False), ("completed", False)]


@pytest.mark.parametrize("fate", ["lost", "server_error", "unanswered"])
def test_a_cancellation_without_an_answer_is_asked_for_again(tmp_path: Path, fate: str) -> None:
    world = World(tmp_path, 40, Life(working=7200.0), Life(), stuck_s=3600.0)
    world.provider.fate = lambda call, number: fate if call == "cancel" and number < 2 else ""
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.batches[0].cancelled_at < inf
    assert [t.status for t in world.tries] == ["cancelled", "completed"]


def test_a_stuck_batch_that_was_cancelled_by_an_earlier_session_is_given_up_by_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(end="in_progress", cancelling=inf), Life(), stuck_s=3600.0)
    world.session(stop_after=3700)
    assert [t.cancelling for t in world.tries] == [True]
    assert world.ends() is None
    assert world.asked_once is False  # the stuck one had done its work, whoever pays for that
    assert world.phases == [(0, 1, "given_up", None), (0, 2, "collected", "completed")]


def test_the_provider_may_be_silent_for_hours_once_it_has_answered(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=600.0))
    silent = START + 100, START + 100 + 5.9 * 3600
    world.provider.fate = lambda call, number: "connection" if silent[0] < world.clock.time() < silent[1] else ""
    assert world.ends() is None
    assert world.asked_once
    assert len(world.notes) == 1


def test_a_batch_that_is_gone_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(gone=True))
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "does not know batch batch_0 of part 0" in str(end)
    assert "rowmill cancel" in str(end)
    assert [t.phase for t in world.tries] == ["created"]


# Two batches of the same rows


@pytest.mark.parametrize("late_s", [6.0, 30.0, 300.0])
def test_a_batch_that_turns_up_after_the_second_one_is_cancelled(tmp_path: Path, late_s: float) -> None:
    world = World(tmp_path, 40, Life(working=5000.0))
    world.provider.fate = lambda call, number: f"late:{late_s}" if (call, number) == ("create", 0) else ""
    assert world.ends() is None
    late, second = world.provider.batches
    assert late.cancelled_at - late.created_at <= 66
    assert second.cancelled_at == inf
    assert world.all_answered
    assert "part 0: batch_0 is of the same rows as batch_1; it is cancelled" in world.notes
    assert world.last is not None
    assert repr(world.last.lifecycle._poller) == "<BatchPoller cancelled [], sole ['batch_1']>"


def test_it_is_cancelled_though_the_second_one_was_refused_meanwhile(tmp_path: Path) -> None:
    """What follows a refusal has other metadata."""
    world = World(tmp_path, 40, Life(working=5000.0))
    world.provider.fate = lambda call, number: "late:50" if (call, number) == ("create", 0) else ""
    world.provider.life_of = lambda batch: too_many() if batch.number == 1 else None
    assert world.ends() is None
    assert world.all_answered
    assert [batch.cancelled_at < inf for batch in world.provider.batches] == [True, False, False]


def test_it_is_looked_for_by_a_session_much_later_as_well(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=5000.0))
    world.provider.fate = lambda call, number: "late:30" if (call, number) == ("create", 0) else ""
    world.session(stop_after=8)
    assert [t.phase for t in world.tries] == ["created"]
    world.clock.pass_by(1000)
    assert world.ends() is None
    assert [batch.cancelled_at < inf for batch in world.provider.batches] == [True, False]


def test_where_none_is_expected_none_is_looked_for(tmp_path: Path) -> None:
    world = World(tmp_path, 200)
    assert world.ends() is None
    assert world.provider.calls["find"] == 0


def test_another_batch_that_cannot_be_cancelled_stops_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(validating=0.0, working=1.0, finalizing=500.0), Life())
    world.provider.fate = lambda call, number: "late:6" if (call, number) == ("create", 0) else ""
    assert world.ends() is None
    assert world.all_answered
    assert world.provider.calls["cancel"] > 1
    assert world.provider.batches[0].cancelled_at == inf
