"""What goes wrong at Batch APIs in the wild: every row gets its line all the same, and no answer is paid for twice."""

from collections.abc import Callable

import pytest

from tests.end_to_end.batching import Made, batches, done_as, listed, nothing_twice, summed, tries
from tests.end_to_end.conftest import Done, Place, Witness

ROWS = 120
TOKENS = 160  # of one row's prompt, about

Simulate = Callable[..., Witness]
Reference = Callable[[int], bytes]


@pytest.fixture
def ready(place: Place, simulator: Simulate) -> Callable[..., Witness]:
    """Write the rows, and the configuration for a simulator of its own with these settings."""

    def prepare(**settings: object) -> Witness:
        witness: Witness = simulator(**{"batch_s": 0.3, **settings})
        place.configure(witness.url)
        place.write_rows(ROWS)
        return witness

    return prepare


def stopped(done: Done, code: int, *says: str) -> None:
    """Hold that a run has stopped with this code, and said so in one line."""
    assert (done.code, done.out, "Traceback" in done.err) == (code, "", False), done.err
    (line,) = [line for line in done.lines if line.startswith("stopping: ")]
    for text in says:
        assert text in line


# A batch as a whole


def test_an_expired_batch_keeps_what_it_did_and_exactly_the_rest_is_asked_again(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("expired:0.6",))
    done_as(place, place.run(*batches()), reference(ROWS))
    done = 72  # 60% of the rows
    assert listed(witness) == [Made("expired", ROWS, done, 0), Made("completed", ROWS - done, ROWS - done, 0)]
    assert nothing_twice(witness, ROWS)["requests"] == ROWS
    assert (summed(place, "requests"), summed(place, "retries"), summed(place, "replies")) == (ROWS, 0, ROWS)


def test_a_stuck_batch_is_cancelled_and_what_it_did_is_kept(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("stuck:0.5",))
    done = place.run(*batches(stuck_s=2))
    done_as(place, done, reference(ROWS))
    assert "which is stuck" in done.err
    assert listed(witness) == [Made("cancelled", ROWS, ROWS // 2, 0), Made("completed", ROWS // 2, ROWS // 2, 0)]
    nothing_twice(witness, ROWS)


def test_results_that_cannot_be_had_at_once_ids_that_are_empty_and_no_output_file(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("content_502", "content_cut", "empty_ids", "all_failed"))
    done_as(place, place.run(*batches(max_requests=30)), reference(ROWS))
    assert sorted(listed(witness)) == [Made("completed", 30, 0, 30), *[Made("completed", 30, 30, 0)] * 4]
    assert nothing_twice(witness, ROWS)["files"] == 5
    assert (summed(place, "requests"), summed(place, "retries")) == (ROWS + 30, 30)
    assert place.report["sessions"][0]["counters"]["faults"] == {"server_error": 30}


def test_uploads_and_creations_without_an_answer_are_looked_for_before_they_are_done_again(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(
        upload_script=("upload_lost", "upload_500"), batch_script=("create_lost", "create_late:1", "create_500")
    )
    done = place.run(*batches(max_requests=40))
    done_as(place, done, reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert (told["files"], told["created"], told["by_status"]) == (3, 3, {"completed": 3})
    assert done.err.count("its file had arrived as file-") == 1
    assert done.err.count("its batch had been created as batch_") == 2
    assert [t.number for t in tries(place)] == [1, 1, 1]


def test_a_batch_that_is_refused_for_one_line_costs_that_row_alone(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("failed:invalid_request:line=3",))
    done = place.run(*batches())
    assert done.code == 1, done.err
    assert [(row["index"], row["class"], row["code"]) for row in place.failed] == [
        (2, "invalid_request", "invalid_request")
    ]
    expected = reference(ROWS).splitlines()
    written = place.output.read_bytes().splitlines()
    assert [at for at in range(ROWS) if written[at] != expected[at]] == [2]
    assert listed(witness)[1:] == [Made("completed", ROWS - 1, ROWS - 1, 0)]
    nothing_twice(witness, ROWS - 1)


def test_a_batch_that_is_refused_as_a_whole_stops_the_run_and_the_next_one_goes_on(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("failed:billing_hard_limit_reached",))
    stopped(place.run(*batches()), 4, "'main' refuses batch", "billing_hard_limit_reached")
    assert summed(place, "requests") == 0
    cancelled = place.start(*batches(), command="cancel").wait()
    assert (cancelled.code, cancelled.lines) == (0, ["no batch of this run is under way"])
    done_as(place, place.run(*batches()), reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert (told["files"], told["created"]) == (1, 2)  # the file was good


# Single results


def test_results_that_are_none_are_asked_again(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    faults = ("missing", "status_0", "null_response", "500", "429", "503")
    witness = ready(batch_faults=dict.fromkeys(faults, 0.06))
    done_as(place, place.run(*batches()), reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert told["requests"] > ROWS * 1.2
    assert (summed(place, "requests"), summed(place, "retries")) == (told["requests"], told["requests"] - ROWS)
    seen = place.report["sessions"][0]["counters"]["faults"]
    assert set(seen) == {"server_error", "rate_limited", "overloaded"}
    assert sum(seen.values()) == told["failed"]  # those that are missing are no results
    # Each batch has exactly the rows that the one before has left.
    assert sum(batch.total for batch in listed(witness)) == told["requests"]


def test_bodies_that_are_no_reply_are_asked_again_and_results_that_come_twice_count_once(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_faults={"bad_body": 0.1, "twice": 0.3})
    done_as(place, place.run(*batches()), reference(ROWS))
    again = witness.stats()["repeated_after_damage"]
    assert again > 0
    told = nothing_twice(witness, ROWS + again)
    assert told["requests"] == ROWS + again == summed(place, "requests")
    assert place.report["sessions"][0]["counters"]["faults"] == {"bad_reply": again}
    assert place.report["totals"]["completion_tokens"] < told["completion_tokens"]  # that of bad bodies was paid


# More enqueued than is allowed


def test_batches_that_have_no_room_beside_others_wait_for_them(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    limit = 60 * TOKENS
    witness = ready(batch_enqueued_tokens=limit, batch_s=0.6)
    done_as(place, place.run(*batches(max_requests=40)), reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert told["by_status"] == {"completed": 3, "failed": told["created"] - 3}
    assert told["by_status"]["failed"] >= 1
    assert (told["files"], told["enqueued_max"] <= limit) == (3, True)


def test_a_batch_that_has_no_room_alone_is_made_smaller(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_enqueued_tokens=80 * TOKENS)
    done = place.run(*batches())
    done_as(place, done, reference(ROWS))
    assert "are too many for one batch: making smaller ones" in done.err
    nothing_twice(witness, ROWS)
    assert max(batch.total for batch in listed(witness) if batch.status == "completed") <= 80
    assert summed(place, "requests") == ROWS  # what was refused was never asked


def test_a_known_limit_is_kept(place: Place, ready: Callable[..., Witness], reference: Reference) -> None:
    limit = 80 * TOKENS
    witness = ready(batch_enqueued_tokens=limit)
    done_as(place, place.run(*batches(enqueued_tokens=limit)), reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert set(told["by_status"]) == {"completed"}
    assert limit / 2 < told["enqueued_max"] <= limit


# A provider that goes away, and comes back


def test_a_batch_that_is_gone_stops_the_run_and_is_asked_again_once_it_is_given_up(
    place: Place, ready: Callable[..., Witness], reference: Reference
) -> None:
    witness = ready(batch_script=("gone",))
    says = ("does not know batch batch_", "run rowmill cancel, which gives it up")
    stopped(place.run(*batches(max_requests=60)), 4, *says)
    cancelled = place.start(*batches(max_requests=60), command="cancel").wait()
    assert cancelled.code == 0, cancelled.err
    assert "the next run asks for its 60 requests again, which may be paid twice" in cancelled.err
    done_as(place, place.run(*batches(max_requests=60)), reference(ROWS))
    nothing_twice(witness, ROWS)
    made = {(t.part, t.number, t.phase) for t in tries(place)}
    (gone,) = (part for part, _, phase in made if phase == "given_up")  # whichever was created first
    assert made == {(gone, 1, "given_up"), (gone, 2, "collected"), (1 - gone, 1, "collected")}
