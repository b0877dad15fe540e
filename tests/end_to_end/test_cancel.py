"""`rowmill cancel`: what runs at the provider is cancelled, what is done is kept, and the rest can be asked again."""

import signal
from collections.abc import Callable

from tests.end_to_end.batching import (
    batches,
    done_as,
    figures,
    listed,
    nothing_twice,
    phases,
    seen,
    summed,
    tries,
)
from tests.end_to_end.conftest import Done, Place, Witness
from tests.end_to_end.several import configure

ROWS = 150
PART = 75

Simulate = Callable[..., Witness]
Reference = Callable[[int], bytes]


def cancel(place: Place, *arguments: str) -> Done:
    done = place.start(*arguments, command="cancel").wait()
    assert (done.out, "Traceback" in done.err) == ("", False), done.err
    return done


def test_with_a_run_at_work_it_takes_in_what_is_done_and_ends(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_script=("stuck:0.4", "stuck:0.4"), batch_s=0.5)
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=PART)
    started = place.start(*options)
    done_there = 2 * 30  # 40% of each
    seen(lambda: figures(witness)["requests"] == done_there and phases(place) == {"created"}, "stuck batches")
    told = cancel(place, *options)
    assert told.code == 0, told.err
    assert [line.partition(": batch batch_")[0] for line in told.lines] == ["part 0", "part 1"]
    assert all(line.endswith(" is cancelling") for line in told.lines)

    done = started.wait()
    assert (done.code, done.out) == (130, ""), done.err
    assert "the batches were cancelled; run the same command again to ask for what is left" in done.err
    assert place.report["totals"]["rows"] == done_there
    assert {batch.status for batch in listed(witness)} == {"cancelled"}

    done_as(place, place.run(*options), reference(ROWS))
    assert [batch.total for batch in listed(witness)] == [PART, PART, PART - 30, PART - 30]
    nothing_twice(witness, ROWS)
    assert (summed(place, "requests"), summed(place, "retries")) == (ROWS, 0)


def test_with_no_run_at_work_the_next_one_takes_it_in_and_asks_for_the_rest(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_script=("stuck:0.4", "ok"), batch_s=0.5)
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=PART)
    before = cancel(place, *options)
    assert (before.code, before.lines) == (5, ["rowmill: out.jsonl.run holds no run: there is nothing to cancel"])
    started = place.start(*options)
    seen(lambda: figures(witness)["requests"] == 30 + PART and "created" in phases(place), "one of them stuck")
    started.signal(signal.SIGINT)
    assert started.wait().code == 130
    assert cancel(place, *options).code == 0
    assert cancel(place, *options).code == 0  # once more changes nothing

    done_as(place, place.run(*options), reference(ROWS))
    assert sorted((batch.status, batch.total) for batch in listed(witness)) == [
        ("cancelled", PART),
        ("completed", PART - 30),
        ("completed", PART),
    ]
    nothing_twice(witness, ROWS)
    assert cancel(place, *options).lines == ["no batch of this run is under way"]


def test_batches_of_the_embedded_simulator_outlive_it(place: Place, reference: Reference) -> None:
    # Of several providers there, each has batches of its own.
    configure(
        place,
        [{"name": "other", "base_url": "simulator", "weight": 0}, {"name": "main", "base_url": "simulator"}],
        simulator={"batch_s": 0.5, "batch_script": ["stuck:0.4", "ok"]},
    )
    place.write_rows(ROWS)
    options = batches(max_requests=PART, provider="main")
    started = place.start(*options)
    seen(lambda: phases(place) == {"created", "collected"}, "one of them stuck")
    early = cancel(place, *options)
    assert (early.code, len(early.lines)) == (5, 1)
    assert f"in use by process {started.pid}" in early.err
    started.signal(signal.SIGINT)
    done = started.wait()
    assert done.code == 130, done.err
    assert "1 goes on at the provider" in done.err
    told = cancel(place, *options)
    assert told.code == 0, told.err
    assert told.lines[0].endswith(" is cancelling")

    done_as(place, place.run(*options), reference(ROWS))
    assert sorted((t.number, t.status, t.requests) for t in tries(place)) == [
        (1, "cancelled", PART),
        (1, "completed", PART),
        (2, "completed", PART - 30),
    ]
    assert place.report["cost"]["requests"] == ROWS
