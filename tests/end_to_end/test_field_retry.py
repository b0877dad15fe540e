"""`rowmill retry` in the middle of a run, and what a run says of itself at its end."""

import re
import shlex
import signal
import threading
from collections.abc import Callable

from tests.end_to_end.batching import batches, done_as, figures, nothing_twice
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.end_to_end.several import Answer, typed

BAD = (3, 70, 130)  # in three shards
ROWS = 300


def test_failed_rows_alone_are_asked_again_also_where_others_were_never_asked(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    healed: set[int] = set()
    credit = 150

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row in BAD and arrival.row not in healed:
            return 400, {}, b'{"error":{"message":"no","param":"messages"}}'
        return None if arrival.row < credit else (402, {}, b"")

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    assert place.run("--set", "workers.count=1").code == 4, "the credit is used up"
    recorded = place.recorded()
    assert set(BAD) <= recorded
    assert len(recorded) < ROWS
    before = witness.counts.copy()

    healed.update(BAD[:1])
    done = place.retry()
    assert done.code == 1, done.err
    assert {row: n - before[row] for row, n in witness.counts.items() if n > before[row]} == dict.fromkeys(BAD, 1)
    assert place.recorded() == recorded
    assert (place.report["totals"]["failed"], place.report["totals"]["rows"]) == (2, len(recorded))
    assert not place.output.exists()

    healed.update(BAD)
    done = place.retry()
    assert done.code == 0, done.err
    asked = {row: n - before[row] for row, n in witness.counts.items() if n > before[row]}
    assert asked == {BAD[0]: 1, BAD[1]: 2, BAD[2]: 2}
    assert "rowmill run" in done.lines[-1]

    credit = ROWS
    assert place.run().code == 0
    assert place.output.read_bytes() == reference(ROWS)
    assert all(
        witness.counts[row] - before[row] == (1 if row not in recorded else asked.get(row, 0)) for row in range(ROWS)
    )


def test_a_second_interrupt_reports_no_worker_as_dead(place: Place, server: Callable[..., Server]) -> None:
    ending: list[bool] = []

    def hold(_: Arrival) -> None:
        until(lambda: bool(ending), "the end of the test")

    witness = server(hold)
    place.configure(witness.url)
    place.write_rows(50)
    started = place.start()
    until(lambda: witness.arrivals, "requests")
    started.signal(signal.SIGINT)
    until(lambda: "once more to stop at once" in place.log, "the first one heard")
    started.signal(signal.SIGINT)
    done = started.wait()
    ending.append(True)
    assert done.code == 130
    assert " died" not in done.err
    session = place.report["sessions"][-1]
    assert session["deaths"] == 0
    assert session["billed_twice_max"] >= 1, "what was in flight may have been done"


def test_what_is_advised_at_the_end_goes_on_when_it_is_typed(place: Place, server: Callable[..., Server]) -> None:
    state = "a parameter that it does not know"

    def decide(arrival: Arrival) -> Answer | None:
        if state == "a parameter that it does not know":
            return 400, {}, b'{"error":{"message":"Unrecognized request argument: temprature"}}'
        if state == "two bad rows" and arrival.row in (2, 5):
            return 400, {}, b'{"error":{"message":"no","param":"messages"}}'
        return (402, {}, b"") if state == "two bad rows" and arrival.row >= 150 else None

    place.configure(server(decide).url)
    name = 'it\'s "mine" & more.toml'
    (place.folder / "config.toml").rename(place.folder / name)
    place.write_rows(200)
    done = typed(place, f"rowmill run {shlex.quote(name)} --set 'output.path=\"the out put.jsonl\"'")
    assert done.returncode == 4, done.stderr
    state = "two bad rows"
    done = typed(place, done.stderr.splitlines()[-1])  # rowmill run ... --fresh
    assert done.returncode == 4, done.stderr
    assert not (place.folder / "the out put.jsonl").exists()
    state = "all is well"
    done = typed(place, f"rowmill retry {shlex.quote(name)} --set 'output.path=\"the out put.jsonl\"'")
    assert done.returncode == 0, done.stderr
    assert re.search(r"asks for the \d+ rows that were not asked yet$", done.stderr)
    done = typed(place, done.stderr.splitlines()[-1])  # rowmill run ...
    assert done.returncode == 0, done.stderr
    assert len((place.folder / "the out put.jsonl").read_bytes().splitlines()) == 200


def test_by_batches_too_rows_that_were_never_asked_are_left_to_run(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(batch_s=0.3, batch_faults={"500": 0.2})
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=50)
    # The cap covers two parts of six.
    done = place.run(*options, "--set=retry.attempts=1", "--set=budget.max_requests=100")
    assert done.code == 3, done.err
    recorded, failed = place.recorded(), place.report["totals"]["failed"]
    assert failed
    assert len(recorded) < ROWS
    before = figures(witness)["requests"]

    done = place.retry(*options, "--set=retry.attempts=12")
    assert done.code == 0, done.err
    assert place.report["totals"]["failed"] == 0
    assert place.recorded() == recorded
    assert f"asks for the {ROWS - len(recorded)} rows that were not asked yet" in done.lines[-1]
    assert figures(witness)["requests"] - before < 2 * failed

    done_as(place, place.run(*options, "--set=retry.attempts=12"), reference(ROWS))
    nothing_twice(witness, ROWS)


def test_a_retry_that_was_killed_in_an_unfinished_run_is_gone_on_with_by_the_next(
    place: Place, server: Callable[..., Server]
) -> None:
    bad = frozenset(range(0, 120, 3))
    state = "bad rows"

    def decide(arrival: Arrival) -> Answer | None:
        if state == "bad rows":
            if arrival.row in bad:
                return 400, {}, b'{"error":{"message":"no","param":"messages"}}'
            return None if arrival.row < 150 else (402, {}, b"")
        if state == "slow" and arrival.row >= 60:
            until(lambda: state != "slow", "the kill")
        return None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    assert place.run("--set", "workers.count=1").code == 4, "the credit is used up"
    recorded, before = place.recorded(), witness.counts.copy()
    assert bad <= recorded

    state = "slow"
    killed = place.start("--set", "workers.concurrency=8", command="retry")
    until(lambda: any(witness.counts[row] > before[row] for row in bad if row >= 60), "a row that hangs")
    killed.kill_all()
    state = "all is well"
    done = place.retry()
    assert done.code == 0, done.err
    assert place.report["totals"]["failed"] == 0
    assert place.recorded() == recorded
    assert {row for row, n in witness.counts.items() if n > before[row]} == bad, "and no other"


def test_rows_that_are_refused_for_ever_are_their_own_failures_also_where_nothing_else_is_left_to_ask(
    place: Place, server: Callable[..., Server]
) -> None:
    """One by `rowmill retry`, several, and one that a resume has left: others were answered in the run before."""
    refused = set(range(10, 22))  # more than speak for a provider that was never heard

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row in refused:
            return 403, {}, b'{"error":{"message":"not this text"}}'
        if arrival.row == 39:
            killed.wait(30)
        return None

    killed = threading.Event()
    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(40)
    started = place.start()
    until(lambda: len(place.recorded()) == 39, "all but the one that is held")
    started.kill_all()
    killed.set()
    refused.add(39)
    before = len(witness.arrivals)
    done = place.run()
    assert done.code == 1, done.err
    assert {arrival.row for arrival in witness.arrivals[before:]} == {39}, "the only one"
    assert sorted(row["index"] for row in place.failed) == sorted(refused)
    for left in (refused.copy(), {12}, {12}):
        refused &= left
        done = place.retry()
        assert done.code == 1, done.err
        assert "asks again for the failed rows" in done.err
        assert {(row["index"], row["class"], row["status"]) for row in place.failed} == {
            (row, "forbidden", 403) for row in left
        }
    witness.decide = lambda _: (401, {}, b'{"error":{"message":"bad key","code":"invalid_api_key"}}')
    done = place.retry()
    assert done.code == 4, "the key is no row's"
    refused.clear()
    witness.decide = decide
    assert place.retry().code == 0
    assert len(place.lines) == 40
