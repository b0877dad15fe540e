"""The end of a run, killed at every step of it: the output is absent or whole, and the rerun's bytes are the same."""

import signal
import sys
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Started, Witness
from tests.lives import WHOLE
from tests.store.old_footers import make_old

# The rename of a file is where it takes effect. Python tells of each before it is done: there the process is killed,
# as by somebody who has waited for the very moment.
KILLED_BEFORE = """
import os, signal, sys
def hook(event, arguments):
    if event == "os.rename" and os.path.basename(arguments[1]) == sys.argv[1] and moment(arguments):
        os.kill(os.getpid(), signal.SIGKILL)
def moment(arguments):
    return sys.argv[1] != "manifest.json" or b'"finished": null' not in open(arguments[0], "rb").read()
sys.addaudithook(hook)
from rowmill.interface.cli import main
main(["run", "config.toml"])
"""


def refuse_some(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
    return (400, {}, b'{"error":{"message":"no"}}') if arrival.row % 100 == 7 else None


@pytest.mark.parametrize("with_errors", [False, True] if WHOLE else [True])
def test_killed_at_every_step_of_its_end(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes], with_errors: bool
) -> None:
    witness = server(refuse_some) if with_errors else server()
    place.configure(witness.url)
    place.write_rows(300)
    report = place.run_dir / "report.json"
    files = ["manifest.json", "out.errors.jsonl", "out.jsonl", report.name]
    if not with_errors:
        files.remove("out.errors.jsonl")
    for name in files:
        started = Started([sys.executable, "-c", KILLED_BEFORE, name], place.folder, place.environ)
        assert started.wait().code == -signal.SIGKILL, name
        # Only once its own rename has been done may the output be there, and then it is whole.
        assert place.output.exists() == (name == report.name)
        if place.output.exists():
            assert_whole(place, reference(300), failed=[7, 107, 207] if with_errors else [])
    done = place.run()
    assert done.code == (1 if with_errors else 0), done.err
    assert_whole(place, reference(300), failed=[7, 107, 207] if with_errors else [])
    assert len(witness.arrivals) == 300
    assert not list(place.folder.glob(".*rowmill-part"))
    assert place.report["finished"]
    if with_errors:
        report.write_bytes(b'{"run": "a')  # it only tells people something, and is written anew
        assert place.run().code == 1
        assert (place.report["totals"]["rows"], len(witness.arrivals)) == (300, 300)


def assert_whole(place: Place, reference: bytes, failed: list[int]) -> None:
    """Hold that the output has its bytes but for the rows that have failed, which stand in the errors file."""
    assert [line["index"] for line in place.lines] == list(range(300))
    lines, expected = place.output.read_bytes().splitlines(), reference.splitlines()
    assert [row for row in range(300) if lines[row] != expected[row]] == failed
    assert [row["index"] for row in (place.failed if failed else [])] == failed


def test_shards_from_before_failures_were_counted_are_finished_with_the_same_report(
    place: Place, server: Callable[..., Server]
) -> None:
    witness = server(refuse_some)
    place.configure(witness.url)
    place.write_rows(300)
    started = Started([sys.executable, "-c", KILLED_BEFORE, "out.jsonl"], place.folder, place.environ)
    assert started.wait().code == -signal.SIGKILL
    sealed = sorted(place.folder.glob("out.jsonl.run/sealed/*.sealed"))
    assert len(sealed) > 1
    for path in sealed:
        make_old(path)
    assert place.run().code == 1
    assert place.report["failures"] == {"invalid_request": 3}
    assert [line["index"] for line in place.lines] == list(range(300))
    assert len(witness.arrivals) == 300


def test_sealed_shards_are_used_as_they_are(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """A merge that was killed half way is begun anew; its remains do not get in the way."""
    witness = simulator(latency_ms=2)
    place.configure(witness.url)
    place.write_rows(300)
    started = Started([sys.executable, "-c", KILLED_BEFORE, "out.jsonl"], place.folder, place.environ)
    assert started.wait().code == -signal.SIGKILL
    part = place.folder / ".out.jsonl.rowmill-part"
    assert part.read_bytes() == reference(300)
    part.write_bytes(part.read_bytes()[:5000] + b"torn")
    assert place.run().code == 0
    assert place.output.read_bytes() == reference(300)
    assert witness.stats()["requests"] == 300
