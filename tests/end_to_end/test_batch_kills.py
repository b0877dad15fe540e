"""Runs by batches that are killed or interrupted: no row is lost, and no part is ever in two batches."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

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
from tests.end_to_end.conftest import Place, Started, Witness
from tests.end_to_end.several import last_session

ROWS = 150
PART = 50

Simulate = Callable[..., Witness]
Reference = Callable[[int], bytes]


def reached(place: Place, started: Started, moment: Callable[[], bool], what: str) -> None:
    """Wait until a command at work has come to some moment of the cycle."""
    seen(lambda: moment() or started.process.poll() is not None, what)
    assert started.process.poll() is None, started.wait().err


def has_file(place: Place, pattern: str) -> Callable[[], bool]:
    """Return what tells whether the run directory has such a file."""
    return lambda: any(place.run_dir.glob(pattern))


# Python tells of a rename and a removal before it is done: there a process stays, while a file says of which names.
STAYS_BEFORE = """
import os, sys, time
def hook(event, arguments):
    if event in ("os.rename", "os.remove"):
        name = os.fspath(arguments[1 if event == "os.rename" else 0])
        while wanted() and name.endswith(wanted()):
            with open(os.environ["STAYS"] + "-there", "w"):
                time.sleep(0.02)
def wanted():
    try:
        with open(os.environ["STAYS"]) as file:
            return file.read()
    except FileNotFoundError:
        return ""
sys.addaudithook(hook)
"""


class Keeper:
    """Keeps a run where it is: no look at it can come too late, however busy the machine."""

    UNSURE = ("GET /v1/files[?].*", "GET /v1/batches[?].*limit=100.*")  # what an upload, or a creation, has come to
    CONTENT = "GET /v1/files/.*/content"

    def __init__(self, place: Place, witness: Witness) -> None:
        self._witness = witness
        self._stays = place.folder / "stays"
        (place.folder / "sitecustomize.py").write_text(STAYS_BEFORE)
        place.environ["PYTHONPATH"] += os.pathsep + str(place.folder)
        place.environ["STAYS"] = str(self._stays)

    def keep(self, *requests: str, before: str = "") -> None:
        """Keep these requests waiting, and processes before they rename to or remove a file whose name ends so."""
        self._witness.keep("|".join(requests))
        self.stays.unlink(missing_ok=True)
        temporary = self._stays.with_name("stays-new")
        temporary.write_text(before)
        temporary.replace(self._stays)

    @property
    def stays(self) -> Path:
        """What is there as soon as a process stays."""
        return self._stays.with_name("stays-there")


def test_a_run_that_is_killed_all_along_its_way(place: Place, simulator: Simulate, reference: Reference) -> None:
    # Orphans included: a file that arrived and a batch that was created, of which no answer told.
    witness = simulator(
        batch_s=0.5, upload_script=("upload_lost",), batch_script=("create_lost", "content_502", "content_502")
    )
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=PART)
    keeper = Keeper(place, witness)
    found = []
    for moment, what, kept, before in (
        (has_file(place, "batches/part-*"), "building", keeper.UNSURE, ""),
        (lambda: "uploading" in phases(place), "uploading", keeper.UNSURE, ""),
        (lambda: figures(witness)["created"] > 0, "creating", (keeper.UNSURE[1], keeper.CONTENT), ""),
        (lambda: figures(witness)["retrieved"] > 0, "polling", (keeper.CONTENT,), ""),
        (lambda: "ended" in phases(place), "downloading", (keeper.CONTENT,), ""),
        (keeper.stays.exists, "collecting", (), ".output"),
        (keeper.stays.exists, "sealing", (), ".sealed"),
        (keeper.stays.exists, "merging", (), place.output.name),
    ):
        keeper.keep(*kept, before=before)
        started = place.start(*options)
        reached(place, started, moment, what)
        started.kill_all()
        found.append(phases(place))
    assert "uploading" in found[1]
    assert "creating" in found[2]
    assert "ended" in found[4]
    assert found[7] == {"collected"}
    keeper.keep()
    done = place.run(*options)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    assert place.output.read_bytes() == reference(ROWS)
    told = nothing_twice(witness, ROWS)
    assert (told["files"], told["created"], told["requests"]) == (3, 3, ROWS)
    assert [t.number for t in tries(place)] == [1, 1, 1]
    # The last session had nothing to do but to merge, and knows all the same what the run has cost.
    (line,) = place.report["cost"]["lines"]
    assert (line["mode"], line["spent"]["requests"]) == ("batch", ROWS)
    assert line["spent"]["completion_tokens"] == told["completion_tokens"] > 0


def batch_worker(started: Started, not_pid: int) -> psutil.Process | None:
    """Return the command's worker of batches, once it is another process than this one."""
    for child in started.children():
        try:
            if "rowmill.worker.batch.process" in child.cmdline() and child.pid != not_pid:
                return child
        except psutil.Error:  # it has just ended
            continue
    return None


def test_a_worker_that_is_killed_again_and_again_is_followed_by_another(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.8, upload_script=("ok", "upload_lost"), batch_script=("create_lost", "content_cut"))
    place.configure(witness.url)
    place.write_rows(ROWS)
    keeper = Keeper(place, witness)
    keeper.keep(*keeper.UNSURE)
    started = place.start(*batches(max_requests=PART))
    pid = 0
    for moment, what, kept, before in (
        (lambda: "uploading" in phases(place), "uploading", keeper.UNSURE, ""),
        (lambda: figures(witness)["created"] > 0, "creating", (keeper.UNSURE[1], keeper.CONTENT), ""),
        (lambda: figures(witness)["retrieved"] > 0, "polling", (keeper.CONTENT,), ""),
        (keeper.stays.exists, "collecting", (), ".output"),
    ):
        keeper.keep(*kept, before=before)
        worker: psutil.Process = seen(lambda: batch_worker(started, pid), "a worker")  # noqa: B023 - used at once
        reached(place, started, moment, what)
        pid = worker.pid
        worker.kill()
    keeper.keep()
    done = started.wait()
    done_as(place, done, reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert (told["files"], told["created"], told["requests"]) == (3, 3, ROWS)
    (session,) = place.report["sessions"]
    assert session["deaths"] == 4


def test_an_interrupted_run_leaves_its_batches_at_work_and_the_next_one_only_collects(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=1.5)
    place.configure(witness.url)
    place.write_rows(ROWS)
    options = batches(max_requests=PART)
    started = place.start(*options)
    seen(lambda: figures(witness)["retrieved"] >= 9 and phases(place) == {"created"}, "three batches at work")
    started.signal(signal.SIGINT)
    done = started.wait()

    assert (done.code, done.out, "Traceback" in done.err) == (130, "", False), done.err
    assert "SIGINT: batches go on at the provider" in done.err
    assert "3 go on at the provider" in done.err
    assert "run the same command again to pick them up, or rowmill cancel" in done.err
    left = last_session(place)["batches"]
    assert [(batch["part"], batch["attempt"], batch["requests"]) for batch in left] == [(n, 1, PART) for n in range(3)]
    assert {batch["batch"] for batch in left} == {t.batch_id for t in tries(place)}

    seen(lambda: {batch.status for batch in listed(witness)} == {"completed"}, "the ends of all batches")
    before = figures(witness)
    done_as(place, place.run(*options), reference(ROWS))
    told = nothing_twice(witness, ROWS)
    assert (told["files"], told["created"], told["retrieved"]) == (3, 3, before["retrieved"] + 3)
    assert (summed(place, "requests"), last_session(place)["batches"]) == (ROWS, [])


def test_a_live_run_takes_in_the_batches_that_it_finds_under_way_before_it_asks(
    place: Place, simulator: Simulate, reference: Reference
) -> None:
    witness = simulator(batch_s=0.3, batch_script=("stuck:0.4",) * 3)  # they are under way for as long as it takes
    place.configure(witness.url)
    place.write_rows(ROWS)
    started = place.start(*batches(max_requests=PART))
    seen(lambda: any(batch.completed for batch in listed(witness)), "rows answered in a batch")
    started.signal(signal.SIGINT)
    assert started.wait().code == 130

    done = place.run()
    done_as(place, done, reference(ROWS))
    assert "batches of an earlier session are taken in" in done.err
    stats = witness.stats()
    assert {batch.status for batch in listed(witness)} == {"cancelled"}
    assert (stats["repeated_after_success"], stats["answered_twice"]) == (0, 0)
    assert 0 < stats["batches"]["completed"] < ROWS
    assert stats["requests"] == ROWS - stats["batches"]["completed"]
    assert [session["mode"] for session in place.report["sessions"]] == ["batch", "batch", "live"]
