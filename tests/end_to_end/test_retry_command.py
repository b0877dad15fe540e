"""`rowmill retry`: only the failed rows are asked again, and what comes of it is as if they had never failed."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.conftest import Arrival, Done, Place, Server, Started, until
from tests.end_to_end.several import Answer
from tests.end_to_end.test_finish import KILLED_BEFORE

ROWS = 300
BAD = (7, 107, 207)  # in three shards of the four


class Model:
    """Refuses some rows until it is healed, and keeps silent on rows for as long as they are told to wait."""

    def __init__(self) -> None:
        self.healed = False
        self.silent: set[int] = set()
        self.may_answer = threading.Event()

    def decide(self, arrival: Arrival) -> Answer | None:
        if arrival.row in BAD and not self.healed:
            return 400, {}, b'{"error":{"message":"no"}}'
        if arrival.row in self.silent:
            self.may_answer.wait(60)
        return None


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.may_answer.set()


@pytest.fixture
def failed(place: Place, model: Model, server: Callable[..., Server]) -> Server:
    """Run a run of which three rows fail; gives the server, which would now answer them too."""
    witness: Server = server(model.decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    done = place.run()
    assert done.code == 1, done.err
    assert [row["index"] for row in place.failed] == list(BAD)
    model.healed = True
    return witness


def recorded_in_place_of_a_failure(place: Place, row: int) -> bool:
    """Tell whether the row that had failed has its result on the disk."""
    return any(
        b'{"row":%d,' % row in line and b'"failed":false' in line
        for path in (place.run_dir / "checkpoints").iterdir()
        for line in path.read_bytes().splitlines()
    )


def assert_healed(place: Place, done: Done, reference: Callable[[int], bytes]) -> None:
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    assert place.errors.read_bytes() == b"", "it listed failures that there are no more, and is not ours to delete"
    totals = place.report["totals"]
    assert (totals["rows"], totals["failed"], place.report["finished"]) == (ROWS, 0, True)


def test_without_a_run_there_is_nothing_to_retry(place: Place) -> None:
    place.configure("http://127.0.0.1:9/v1")
    place.write_rows(3)
    before = place.files()
    done = place.retry()
    assert (done.code, done.out, len(done.lines)) == (5, "", 1)
    assert done.err.startswith("rowmill: out.jsonl.run holds no run whose rows could be retried")
    assert place.files() == before


def test_only_the_failed_rows_are_asked_and_a_kill_in_the_middle_costs_nothing(
    place: Place, failed: Server, model: Model, reference: Callable[[int], bytes]
) -> None:
    output, errors = place.output.read_bytes(), place.errors.read_bytes()
    model.silent = {107}
    killed = place.start(command="retry")
    until(lambda: recorded_in_place_of_a_failure(place, 7) and recorded_in_place_of_a_failure(place, 207), "results")
    until(lambda: failed.counts[107] == 2, "a second request for the silent row")
    killed.kill_all()
    assert (place.output.read_bytes(), place.errors.read_bytes()) == (output, errors)
    model.may_answer.set()

    done = place.retry("--json")
    assert_healed(place, done, reference)
    assert json.loads(done.out) == place.report
    asked = {row: count for row, count in failed.counts.items() if count > 1}
    assert asked == {7: 2, 107: 3, 207: 2}, "what was on the disk when it was killed is not asked a third time"
    assert place.report["sessions"][-1]["counters"]["requests"] == 1

    for command, said in (("retry", "no row of this run has failed"), ("run", "this run has finished")):
        again = place.start(command=command).wait()
        assert (again.code, len(again.lines)) == (0, 1), again.err
        assert said in again.err
    assert len(failed.arrivals) == ROWS + 4


def test_rows_that_fail_again_stay_failed_and_an_interrupted_retry_is_finished_by_the_next(
    place: Place, failed: Server, model: Model, reference: Callable[[int], bytes]
) -> None:
    output, errors = place.output.read_bytes(), place.errors.read_bytes()
    model.healed = False
    assert place.retry().code == 1
    assert len(failed.arrivals) == ROWS + 3
    assert (place.output.read_bytes(), place.errors.read_bytes()) == (output, errors)

    model.healed, model.silent = True, {107}
    interrupted = place.start("--set", "provider.timeout_s=1", command="retry")
    until(lambda: failed.counts[107] >= 3, "a third request for the silent row")
    interrupted.signal(signal.SIGINT)
    assert interrupted.wait().code == 130
    assert (place.output.read_bytes(), place.errors.read_bytes()) == (output, errors)
    assert place.run().code == 1, "the output still has its failed rows"

    model.may_answer.set()
    assert_healed(place, place.retry(), reference)


def test_a_retry_killed_at_every_step_of_its_end(
    place: Place, failed: Server, reference: Callable[[int], bytes]
) -> None:
    output = place.output.read_bytes()
    code = KILLED_BEFORE.replace('"run"', '"retry"')
    for name in ("manifest.json", "out.errors.jsonl", "out.jsonl", "report.json"):
        started = Started([sys.executable, "-c", code, name], place.folder, place.environ)
        assert started.wait().code == -signal.SIGKILL, name
        assert place.output.read_bytes() == (reference(ROWS) if name == "report.json" else output)
    assert_healed(place, place.retry(), reference)
    assert len(failed.arrivals) == ROWS + 3
    assert not list(place.folder.glob(".*rowmill-part"))
