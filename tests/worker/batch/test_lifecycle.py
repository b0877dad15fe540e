"""One try, step by step: steps without an answer, files that are lost, batches that are refused as a whole."""

from pathlib import Path

import pytest

from rowmill.core.errors import ExitCode
from rowmill.transport.batch_api import BatchProblem
from rowmill.worker.batch.client import End
from rowmill.worker.batch.unconfirmed import UnconfirmedOperations
from tests.worker.batch.provider_in_memory import Life, refused, too_many
from tests.worker.batch.virtual_time import START, VirtualClock
from tests.worker.batch.world import Killed, World


def fates(world: World, **scripts: list[str]) -> None:
    """Script the first calls of each name."""
    world.provider.fate = lambda call, number: dict(enumerate(scripts.get(call, ()))).get(number, "")


def problems(code: str, *lines: int | None) -> Life:
    return Life(end="failed", problems=tuple(BatchProblem(code, f"{code} it is", line) for line in lines or (None,)))


# Without an answer


def test_an_upload_without_an_answer_that_has_arrived_is_found_and_used(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    fates(world, upload=["unanswered"])
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.calls["upload"] == 1
    assert "part 0: its file had arrived as file_0" in world.notes


def test_an_upload_that_was_lost_is_done_again_once_it_must_have_arrived(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    fates(world, upload=["lost"])
    assert world.ends() is None
    assert world.provider.calls["upload"] == 2
    assert world.provider.batches[0].created_at == START + 5


def test_a_creation_without_an_answer_that_has_arrived_is_found_and_used(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    fates(world, create=["unanswered"])
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.calls["create"] == 1
    assert "part 0: its batch had been created as batch_0" in world.notes


def test_a_creation_that_arrives_within_the_time_for_that_is_found(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    fates(world, create=["late:4.9"])
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.calls["create"] == 1


def test_the_time_to_arrive_begins_when_nobody_waits_any_more(tmp_path: Path) -> None:
    """A creation that took a minute to fail may arrive a moment later."""
    world = World(tmp_path, 40)
    world.provider.took = 60.0
    fates(world, create=["late:3"])
    assert world.ends() is None
    assert world.provider.calls["create"] == 1
    assert world.asked_once


def test_a_creation_that_was_lost_is_done_again_ever_more_rarely(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    fates(world, create=["lost", "overloaded", "rate_limited", "lost", "lost", "lost"])
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.batches[0].created_at == START + 5 + 10 + 20 + 40 + 60 + 60


def test_operations_that_nobody_has_confirmed_are_told_with_how_often_that_was_in_a_row() -> None:
    clock = VirtualClock()
    unconfirmed = UnconfirmedOperations(clock, clock.time(), 60.0)
    for part in (3, 1, 3):
        unconfirmed.unanswered(part)
    assert repr(unconfirmed) == "<UnconfirmedOperations {3: 2, 1: 1}>"
    unconfirmed.confirmed(3)
    assert repr(unconfirmed) == "<UnconfirmedOperations {1: 1}>"


def test_what_has_come_through_is_not_held_against_the_next_one(tmp_path: Path) -> None:
    world = World(tmp_path, 40, too_many(), Life())
    times: list[float] = []

    def fate(call: str, number: int) -> str:
        if call == "create":
            times.append(world.clock.time())
            return "" if number % 2 else "lost"
        return ""

    world.provider.fate = fate
    assert world.ends() is None
    assert times[1] - times[0] == pytest.approx(5)
    assert times[3] - times[2] == pytest.approx(5)


def test_of_two_batches_that_are_found_the_one_that_goes_on_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(working=5000.0), too_many())
    fates(world, create=["late:8", "unanswered"])
    assert world.ends() is None
    assert world.asked_once
    assert len(world.provider.batches) == 2


def test_a_provider_that_lists_batches_and_creates_none_is_given_up_after_hours(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.fate = lambda call, number: "server_error" if call == "create" else ""
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "no answer for 21" in str(end)
    assert world.clock.time() - START == pytest.approx(6 * 3600, abs=200)
    assert len(world.notes) == 1
    world.provider.fate = lambda call, number: ""
    assert world.ends() is None
    assert world.asked_once


def test_trouble_that_is_over_does_not_count_when_there_is_trouble_again(tmp_path: Path) -> None:
    """An upload without an answer was found; a day later another one has none."""
    world = World(tmp_path, 40, Life(end="expired", done=0.5, working=90_000.0), Life())
    fates(world, upload=["unanswered", "unanswered"], create=["unanswered", "unanswered"])
    assert world.ends() is None
    assert world.asked_once


@pytest.mark.parametrize("arrives", ["lost", "late:2", "late:90"])
def test_a_process_that_was_killed_while_it_created_a_batch_is_waited_for_by_the_next(
    tmp_path: Path, arrives: str
) -> None:
    world = World(tmp_path, 40, Life(working=5000.0))
    fates(world, create=[arrives])
    world.points.clear()
    world.session(stop_after=0.001)  # at its first wait, with what it has sent on its way
    assert [t.phase for t in world.tries] == ["creating"]
    world.clock.pass_by(1.0)
    assert world.ends() is None
    assert world.all_answered
    assert [batch.cancelled_at < world.clock.time() for batch in world.provider.batches] == {
        "lost": [False],
        "late:2": [False],
        "late:90": [True, False],
    }[arrives]


# Files that are lost


def test_an_uploaded_file_that_the_provider_has_lost_is_uploaded_again(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    lost: list[str] = []

    def fate(call: str, number: int) -> str:
        if call == "create" and number == 0:
            lost.extend(world.provider.files)
            world.provider.files.clear()
        return ""

    world.provider.fate = fate
    assert world.ends() is None
    assert world.asked_once
    assert world.provider.calls["upload"] == 2
    assert any("is gone; uploading it again" in note for note in world.notes)


def test_a_file_that_is_listed_and_still_gone_is_uploaded_again(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.gone = {"file_0"}
    assert world.ends() is None
    assert world.asked_once


def test_a_provider_that_loses_every_file_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.gone = {f"file_{number}" for number in range(50)}
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "loses each file of part 0" in str(end)
    world.provider.gone = set()
    assert world.ends() is None


def test_a_file_of_ours_that_is_gone_is_made_again(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.kill_at = 3
    assert isinstance(world.ends(), Killed)
    assert [t.phase for t in world.tries] == ["built"]
    for path in world.folder.glob("part-*"):
        path.unlink()
    world.kill_at = -1
    assert world.ends() is None
    assert world.asked_once
    assert world.phases == [(0, 1, "given_up", None), (0, 2, "collected", "completed")]
    assert not world.tries[0].maybe_billed


def test_results_that_are_gone_end_the_run_with_what_to_do(tmp_path: Path) -> None:
    world = World(tmp_path, 40, Life(results_gone=True))
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "the results of batch batch_0 of part 0 cannot be fetched" in str(end)
    assert "run rowmill cancel" in str(end)
    assert [t.phase for t in world.tries] == ["ended"]


def test_results_that_every_row_would_share_end_the_run_once_they_are_taken_in(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.answer = lambda request: {"status_code": 401, "request_id": "q", "body": {}}
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "the key is no more" in str(end)
    assert [(t.phase, t.left) for t in world.tries] == [("collected", 40)]


# Refused as a whole


def test_with_others_enqueued_a_refused_batch_waits_for_one_to_end(tmp_path: Path) -> None:
    world = World(tmp_path, 200)
    world.provider.enqueued_limit = 800  # two parts
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert len(world.tries) == 5
    assert world.provider.enqueued_most == 800
    # Three are too early, and one of these once more: not one each few seconds.
    assert len(world.provider.batches) <= 5 + 3 + 1 + 1
    assert not any(t.maybe_billed for t in world.tries)


def test_alone_it_waits_and_then_has_smaller_files_made(tmp_path: Path) -> None:
    world = World(tmp_path, 80)
    world.provider.enqueued_limit = 150  # a part has 400
    assert world.ends() is None
    assert world.all_answered
    assert world.asked_once
    assert 100 <= world.provider.enqueued_most <= 150
    # Nothing was done for what was refused, so nothing of it may be billed.
    assert not any(t.maybe_billed for t in world.tries)


def test_in_many_small_files_every_row_has_its_attempts_and_no_more(tmp_path: Path) -> None:
    world = World(tmp_path, 400, max_requests=400)
    world.provider.enqueued_limit = 100  # ten rows at a time: forty files and more of one part
    bad = {"r0", "r7", "r200", "r399"}
    ok = world.provider.answer
    world.provider.answer = lambda request: refused(500) if request["custom_id"] in bad else ok(request)
    assert world.ends() is None
    assert len(world.tries) > 40
    assert {name: times for name, times in world.provider.billed().items() if times > 1} == dict.fromkeys(bad, 3)
    assert {row for row, outcome in world.outcomes.items() if outcome != "answered"} == {0, 7, 200, 399}


def test_each_size_of_files_has_its_time(tmp_path: Path) -> None:
    """What holds all back for minutes is no reason to go down to single requests."""
    world = World(tmp_path, 40)
    world.provider.enqueued_limit = 30  # files have 400 tokens, then 100, then 25
    assert world.ends() is None
    assert world.asked_once
    assert [len(batch.rows) for batch in world.provider.batches[:9]] == [40] * 4 + [10] * 4 + [2]


def test_what_holds_others_back_for_a_while_makes_no_smaller_files(tmp_path: Path) -> None:
    world = World(tmp_path, 40, too_many(), too_many(), too_many(), Life())
    assert world.ends() is None
    assert world.phases == [(0, 1, "collected", "completed")]
    # 60, 120 and 240 s of waiting beside 10 s each of validating.
    assert world.provider.batches[-1].created_at - START == pytest.approx(60 + 120 + 240 + 3 * 15, abs=20)


def test_refusals_that_come_late_are_counted_from_the_start_again(tmp_path: Path) -> None:
    expired = Life(end="expired", done=0.5)
    world = World(tmp_path, 40, too_many(), too_many(), too_many(), expired, too_many(), Life())
    assert world.ends() is None
    assert world.phases == [(0, 1, "collected", "expired"), (0, 2, "collected", "completed")]


def test_one_request_that_is_refused_alone_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, 40)
    world.provider.enqueued_limit = 5
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert "refuses a batch of one request: token_limit_exceeded" in str(end)
    world.provider.enqueued_limit = 1000
    assert world.ends() is None
    assert world.all_answered


@pytest.mark.parametrize("code", ["billing_hard_limit_reached", "insufficient_quota", "model_not_found"])
@pytest.mark.parametrize("line", [None, 1])
def test_what_every_batch_would_meet_ends_the_run_and_a_resume_goes_on(
    tmp_path: Path, code: str, line: int | None
) -> None:
    world = World(tmp_path, 40, problems(code, line), Life())
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert f"refuses batch batch_0: {code}: {code} it is" in str(end)
    assert world.ends() is None
    assert world.asked_once
    assert world.phases == [(0, 1, "collected", "completed")]


def test_batches_that_were_refused_while_nobody_looked_are_created_again(tmp_path: Path) -> None:
    """All of them have met the same cause, and it was put right: not each is to stop another session."""
    world = World(tmp_path, 200, Life(900.0, end="failed", problems=problems("billing_hard_limit_reached").problems))
    world.session(stop_after=100)
    world.provider.lives = [Life()]
    world.clock.pass_by(10_000)
    assert world.ends() is None
    assert world.asked_once
    assert [t.rejections for t in world.tries] == [1] * 5


def test_rows_whose_lines_are_wrong_fail_with_the_words_of_the_provider(tmp_path: Path) -> None:
    world = World(tmp_path, 40, problems("invalid_url", 3, 17), Life())
    assert world.ends() is None
    failed = {row: outcome for row, outcome in world.outcomes.items() if outcome != "answered"}
    assert failed == {2: "failed: invalid_url it is", 16: "failed: invalid_url it is"}
    assert [len(batch.rows) for batch in world.provider.batches] == [40, 38]
    assert len(world.provider.billed()) == 38


def test_wrong_lines_that_nothing_tells_any_more_are_asked_for_again(tmp_path: Path) -> None:
    """The part's file is gone, which is what says whose lines they were."""
    world = World(tmp_path, 40, problems("invalid_url", 3), problems("invalid_url", 3), Life())

    def fate(call: str, number: int) -> str:
        for path in world.folder.glob("part-*") if call == "retrieve" and number == 3 else ():
            path.unlink()
        return ""

    world.provider.fate = fate
    assert world.ends() is None
    assert len(world.outcomes) == 40
    assert list(world.outcomes.values()).count("failed: invalid_url it is") == 1
    assert [t.phase for t in world.tries] == ["given_up", "collected", "collected"]


def test_a_batch_that_is_gone_when_its_wrong_lines_are_asked_for_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, 40, problems("invalid_url", 3))

    def fate(call: str, number: int) -> str:
        if call == "retrieve" and number == 3:
            world.provider.batches[0].life = Life(gone=True)
        return ""

    world.provider.fate = fate
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
