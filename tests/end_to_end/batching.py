"""What the tests of batch mode share: how the command is asked for it, and what its provider and its journal tell."""

import json
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rowmill.store.batch_journal import BatchJournal, Try
from tests.end_to_end.conftest import Done, Place, Witness, until

QUICK = {"poll_s": 0.05, "poll_max_s": 0.1}  # `[batch]`, for batches that take a second
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback


def batches(**keys: Any) -> list[str]:
    """Return the arguments for a run by batches; `keys` are of `[batch]`, and `mode` of `[task]`."""
    mode = keys.pop("mode", "batch")
    return [f"--set=task.mode={mode}", *(f"--set=batch.{key}={value}" for key, value in {**QUICK, **keys}.items())]


def seen(condition: Callable[[], Any], what: str) -> Any:
    """Return what the condition returns once that is true, as `until` does, but with more time: batches take theirs."""
    return until(condition, what, 60.0)


# The provider


class Made(NamedTuple):
    """A batch as the provider lists it."""

    status: str
    total: int
    completed: int
    failed: int


def listed(witness: Witness) -> list[Made]:
    """Ask for all batches, in the order in which they were created."""
    with _direct.open(f"{witness.url}/batches?limit=100", timeout=10) as reply:
        page = json.load(reply)
    assert not page["has_more"]
    made = []
    for each in reversed(page["data"]):
        counts = each["request_counts"]
        made.append(Made(each["status"], counts["total"], counts["completed"], counts["failed"]))
    return made


def figures(witness: Witness) -> dict[str, Any]:
    """Ask what it has done for batches."""
    told: dict[str, Any] = witness.stats()["batches"]
    return told


def nothing_twice(witness: Witness, answered: int) -> Mapping[str, Any]:
    """Hold that so many rows were answered by batches and none was paid for again; returns the figures."""
    stats = witness.stats()
    told: dict[str, Any] = stats["batches"]
    assert (stats["repeated_after_success"], stats["answered_twice"]) == (0, 0)
    assert (told["same_try"], told["files_twice"]) == (0, 0)
    assert stats["requests"] == 0, "no live request"
    assert sum(told["inputs"].values()) == answered
    return told


# The run


def tries(place: Place) -> list[Try]:
    """Read the journal, whether or not a run is at work."""
    return list(BatchJournal.read(place.run_dir / "batches" / "journal").tries.values())


def phases(place: Place) -> set[str]:
    """Return the phases in which its tries are."""
    return {t.phase for t in tries(place)}


def done_as(place: Place, done: Done, expected: bytes) -> None:
    """Hold that a run has ended well, and with this output."""
    assert done.code == 0, done.err
    assert (done.out, "Traceback" in done.err) == ("", False), done.err
    assert place.output.read_bytes() == expected


def summed(place: Place, counter: str) -> int:
    """Return a counter of all sessions together."""
    return sum(session["counters"][counter] for session in place.report["sessions"])
