"""The directory of a run: what lies where, who may write in it.

lock                held by the supervisor, exclusively; says who it is
workers.lock        held by every worker, shared: workers of a killed supervisor hold it until they are gone
manifest.json       what the run is of                     plan           its shards, frozen
spool/              rows of inputs that cannot be read in place, as JSON Lines
checkpoints/        outcomes of rows, one file a shard     sealed/        finished shards in output form
batches/            the journal of batches, and their files on their way
spending.json       what was paid                      sessions.json  the sessions that were killed
claims/             which requests are asked or have ended, where rows share them
boards/             rows in flight, one file a worker      report.json    run.log
series.jsonl        what was done, second by second        status.json    where it stands
report.html         the report, for people
notified.json       what was told that is told once        forms.json     how providers want to be asked
steps/NAME/         checkpoints/ and sealed/ of each of several steps but the last, whose are those above
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from rowmill.core import private_files
from rowmill.core.errors import AtWork, RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.seal import seal_name

_SPENDING = "spending.json"
_SERIES, _STATUS, _PAGE = "series.jsonl", "status.json", "report.html"
_KILLED = "sessions.json"
_NOTIFIED = "notified.json"
_FORMS = "forms.json"
_LOCK, _WORKERS_LOCK, _MANIFEST, _PLAN, _REPORT, _LOG = (
    "lock",
    "workers.lock",
    "manifest.json",
    "plan",
    "report.json",
    "run.log",
)
_STEPS = "steps"
_FOLDERS = ("checkpoints", "sealed", "boards", "spool")
_FILES = frozenset(
    {_SPENDING, _SERIES, _STATUS, _NOTIFIED, _FORMS, _LOCK, _WORKERS_LOCK, _MANIFEST, _PLAN, _REPORT, _LOG}
)
_BEFORE_MANIFEST = frozenset({_LOCK, _WORKERS_LOCK, _PLAN, _LOG, *_FOLDERS})  # what a killed first start can leave

_GLANCE_S = 0.2  # who only looks whether a run is at work holds its lock for a moment: no run is refused for that
ORPHANS_S = 20.0  # workers of a killed supervisor are gone within 10


class ShardFiles:
    """Where what is known of shards lies: their checkpoints, and themselves once they are sealed."""

    def __init__(self, folder: Path) -> None:
        self.checkpoints = folder / "checkpoints"
        self.sealed = folder / "sealed"

    def checkpoint_path(self, shard: Shard) -> Path:
        """Return the path of a shard's checkpoint."""
        return self.checkpoints / f"{shard.number:06d}.checkpoint"

    def sealed_path(self, shard: Shard) -> Path:
        """Return the path of a shard's sealed file."""
        return self.sealed / seal_name(shard.number)


class RunDirectory(ShardFiles):
    """The paths of a run directory. Making the object touches nothing; `open` makes the directory and locks it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.manifest = path / _MANIFEST
        self.plan = path / _PLAN
        self.spool = path / "spool"
        self.claims = path / "claims"
        self.batches = path / "batches"
        self.journal = self.batches / "journal"
        self.spending = path / _SPENDING
        self.series = path / _SERIES
        self.status = path / _STATUS
        self.notified = path / _NOTIFIED
        self.forms = path / _FORMS
        self.killed = path / _KILLED
        self.report = path / _REPORT
        self.page = path / _PAGE
        self.log = path / _LOG
        self._boards = path / "boards"
        self._lock: int | None = None

    @classmethod
    def open(cls, path: Path, mode: int = private_files.PRIVATE) -> Self:
        """Lock the run directory at `path` for this supervisor, making it where it is absent.

        mode: who may do what in one that is made; what lies in it follows from that (see `private_files`).
        Raise RunDirectoryError where another supervisor has it (then it is AtWork), or where something else than a run
        lies there; nothing is written then.
        """
        run = cls(path)
        with durable.machine_errors(f"use the run directory {path}"):
            run._refuse_foreign()
            run.refuse_odd()
            private_files.make_directory(path, mode)
            try:
                run._lock = durable.wait_for_lock(path / _LOCK, exclusive=True, timeout_s=_GLANCE_S)
            except durable.Locked as locked:
                raise AtWork(run._describe_holder(locked.holder)) from None
            try:
                for folder in _FOLDERS:
                    private_files.make_directory(path / folder)
                durable.sync_directory(path)
                durable.sync_directory(path.parent)
            except BaseException:
                run.close()
                raise
        return run

    def _refuse_foreign(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is no directory: set another checkpoint.dir")
        if self.manifest.exists():
            return
        foreign = sorted(entry.name for entry in self.path.iterdir() if not _left_by_first_start(entry))
        if foreign:
            msg = (
                f"{self.path} is no run directory: it has no {_MANIFEST}, but holds {foreign[0]!r}. "
                "Nothing was written there; set another checkpoint.dir"
            )
            raise RunDirectoryError(msg)

    def refuse_odd(self) -> None:
        """Raise RunDirectoryError where something lies in a file's or a directory's place that is none.

        Before anything is opened: a named pipe would be waited for without end.
        """
        with durable.machine_errors(f"use the run directory {self.path}"):
            if not self.path.exists():
                return
            if not self.path.is_dir():
                raise RunDirectoryError(f"{self.path} cannot be used as run directory: set another checkpoint.dir")
            for entry in list(os.scandir(self.path)):
                if entry.name in _FOLDERS or entry.name == self.batches.name:
                    self._refuse_unless(entry, directory=True)
                    for inner in list(os.scandir(entry.path)):
                        self._refuse_unless(inner, directory=False)
                elif entry.name in _FILES:
                    self._refuse_unless(entry, directory=False)

    def refuse_unreadable(self) -> None:
        """Raise RunDirectoryError where another user's run may not be looked at."""
        for path in (self.path, self.manifest, self.path / _LOCK, self.checkpoints):
            wanted = os.R_OK | (os.X_OK if path.is_dir() else 0)
            if path.exists() and not os.access(path, wanted):
                raise RunDirectoryError(
                    f"{path} may not be read by this user: its owner can open it (checkpoint.mode, chmod)"
                )

    def _refuse_unless(self, entry: "os.DirEntry[str]", *, directory: bool) -> None:
        if not (entry.is_dir() if directory else entry.is_file()):
            raise RunDirectoryError(
                f"{entry.path} is no {'directory' if directory else 'file'}: move it away, restore what was there from "
                "a backup if you can, and run the same command again"
            )

    def _describe_holder(self, holder: durable.LockHolder | None) -> str:
        who = f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another process"
        return f"the run in {self.path} is being worked on by {who}: wait for it, or end it first"

    def wait_for_orphans(
        self,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait until no worker of an earlier, killed supervisor is left. Blocks the thread.

        Raise AtWork after `timeout_s` seconds: two workers on one checkpoint would ruin it.
        """
        with durable.machine_errors(f"use the run directory {self.path}"):
            try:
                fd = durable.wait_for_lock(
                    self.path / _WORKERS_LOCK,
                    exclusive=True,
                    timeout_s=timeout_s,
                    announce=False,
                    clock=clock,
                    sleep=sleep,
                )
            except durable.Locked:
                msg = (
                    f"workers of an earlier run in {self.path} were still at work after {timeout_s:g} s: "
                    "end them, then run the same command again"
                )
                raise AtWork(msg) from None
            os.close(fd)

    def hold_worker_lock(self, supervisor: int | None = None) -> None:
        """Hold the workers' lock until this process ends. For workers, before they touch anything.

        With the process id of the supervisor that started this worker, raise RunDirectoryError where it is gone: a next
        supervisor may have stopped waiting before this worker had the lock.
        """
        with durable.machine_errors(f"use the run directory {self.path}"):
            durable.lock_file(self.path / _WORKERS_LOCK, exclusive=False)
        if supervisor is not None and os.getppid() != supervisor:
            raise RunDirectoryError(f"the supervisor of the run in {self.path} is gone: run the same command again")

    def is_nobodys(self) -> bool:
        """Whether it was a run's, and neither a supervisor nor a worker holds it."""
        for name in (_LOCK, _WORKERS_LOCK):
            try:
                fd = os.open(self.path / name, os.O_RDONLY)
            except FileNotFoundError:
                if name == _LOCK:
                    return False
                continue
            try:
                if not durable.lock_descriptor(fd, exclusive=False):
                    return False
            finally:
                os.close(fd)
        return True

    def check(self) -> None:
        """Raise MachineError where the directory that this supervisor has locked does not lie at its path any more."""
        if self._lock is None:
            return
        with durable.machine_errors(f"go on in the run directory {self.path}"):
            there, ours = (self.path / _LOCK).stat(), os.fstat(self._lock)
            if not os.path.samestat(there, ours):
                raise OSError(errno.ENOENT, "it was moved or replaced")

    def holder(self) -> durable.LockHolder | None:
        """Return the supervisor that is at work here, None where there is none."""
        try:
            fd = os.open(self.path / _LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return None if durable.lock_descriptor(fd, exclusive=False) else durable.read_holder(fd)
        finally:
            os.close(fd)

    def of_step(self, name: str | None) -> ShardFiles:
        """Return where the shards of a step that is not the last lie; None: those of the last, or of the only one."""
        return self if name is None else ShardFiles(self.path / _STEPS / name)

    def steps(self) -> list[ShardFiles]:
        """Return where the shards of steps lie that are not the last; none in a run of one."""
        folder = self.path / _STEPS
        return [ShardFiles(each) for each in sorted(folder.iterdir())] if folder.is_dir() else []

    def make_step(self, name: str) -> None:
        """Make the directories of a step, which are there once this returns, whatever happens then."""
        files = self.of_step(name)
        folder = self.path / _STEPS / name
        with durable.machine_errors(f"make {folder}"):
            for each in (folder.parent, folder, files.checkpoints, files.sealed):
                private_files.make_directory(each)
            for each in (folder, folder.parent, self.path):
                durable.sync_directory(each)

    def board_path(self, worker: int) -> Path:
        """Return the path of a worker's in-flight board; `worker` is the supervisor's number for it."""
        return self._boards / f"{worker:06d}.board"

    def boards(self) -> list[Path]:
        """Return the boards that are there: of workers at work, and of those that died."""
        return sorted(self._boards.glob("*.board"))

    def close(self) -> None:
        """Give the lock back. A second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left_by_first_start(entry: Path) -> bool:
    """Whether a start that was killed before it had a manifest can have left this."""
    if entry.is_dir():
        return entry.name in _FOLDERS and not any(entry.iterdir())
    temporary = entry.name.startswith((f".{_MANIFEST}.", f".{_PLAN}.")) and entry.name.endswith(".tmp")
    return entry.name in _BEFORE_MANIFEST or temporary
