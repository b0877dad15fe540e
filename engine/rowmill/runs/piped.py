"""Rows that come through a pipe, and jobs whose results go into one: what is kept of them until they are done.

A pipe cannot be read twice, so its rows are written down first. They, and the results and the run directory of a job
that has no output file, lie in a directory that is named by what they are: the same rows with the same question find
what is there already, and go on. It is removed once every row has its result.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from rowmill.core import config as configuration
from rowmill.core import private_files
from rowmill.core.config import Config
from rowmill.core.errors import MachineError
from rowmill.files.input import inputs
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.machine.disks import least_free
from rowmill.tasks import schema as schemas

_KEPT_S = 30 * 86_400.0  # a job that is not done, since it was last at work
_SILENT_S = 86_400.0  # a pipe from which nothing came: whoever read it was killed
_READING = ".rows-"  # begins the name of what is read from a pipe, until it is there whole
_LOOK = 64 << 20  # bytes of a pipe after which the disk is looked at


class PipedJob:
    """A directory with the rows, the results and the run of a job, as far as they have no other place.

    Making the object touches nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"

    def results(self, suffix: str) -> Path:
        """Return the path of the results."""
        return self.path / f"results{suffix}"

    def make(self) -> None:
        """Make the directory. Raises `MachineError`."""
        _make(self.path)

    def begun(self) -> bool:
        """Tell whether something was asked, or another process is about to."""
        directory = RunDirectory(self.run)
        return directory.manifest.exists() or directory.holder() is not None

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


class Spooled:
    """Rows that were written down: their file, and a digest of their bytes. To be kept by `keep`, or let go of."""

    def __init__(self, path: Path, digest: bytes, size: int) -> None:
        self.path = path
        self.digest = digest
        self.size = size

    def keep(self, job: PipedJob, suffix: str) -> Path:
        """Give the rows their name in the job's directory, and return it. Raises `MachineError`."""
        job.make()
        path = job.path / f"rows{suffix}"
        with durable.machine_errors(f"write {path}"):
            durable.sync_path(self.path)  # the run's plan, which follows, must not outlive its rows
            durable.publish(self.path, path)
            durable.sync_directory(path.parent)
        self.path = path
        return path

    def drop(self) -> None:
        """Remove them, unless they were kept."""
        if self.path.name.startswith(_READING):
            self.path.unlink(missing_ok=True)


def prune(base: Path, *, now: float | None = None) -> list[Path]:
    """Remove what nobody has come back for, for a month; return what it was. What is at work stays, and what cannot go.

    now: Unix time, of the same clock as the files' times of change.
    """
    now = time.time() if now is None else now
    gone = []
    with suppress(OSError):
        for each in sorted(base.iterdir()):
            with suppress(OSError):
                kept = _SILENT_S if each.name.startswith(_READING) else _KEPT_S
                if each.is_symlink() or now - _last_change(each) < kept:
                    continue
                if each.is_file():
                    each.unlink()
                elif RunDirectory(each / "run").holder() is not None:
                    continue
                else:
                    shutil.rmtree(each)
                gone.append(each)
    return gone


def _last_change(path: Path) -> float:
    """Return when a job was at work for the last time: its run writes files beside each other in its directory."""
    return max(each.lstat().st_mtime for each in (path, path / "run", path / "run" / "run.log") if each.exists())


def base_of(config: Config) -> Path:
    """Return the directory in which what goes through pipes is kept."""
    return Path(config.cache.dir).expanduser() / "pipes"


def _make(path: Path) -> None:
    """Make a directory. Raises `MachineError`: a job of cron or of a container may have no home to write to."""
    try:
        private_files.make_directory(path, private_files.PRIVATE)
    except OSError as error:
        raise MachineError(
            f"what goes through pipes cannot be kept in {path}: {error.strerror}; name another place by "
            "--set cache.dir=DIRECTORY"
        ) from None


def spooled(blocks: Iterator[bytes], base: Path, min_free_mb: int | Literal["auto"] = "auto") -> Spooled:
    """Write blocks down, all of them; a pipe may have no end. min_free_mb: as in [machine]. Raises `MachineError`."""
    digest = blake2b(digest_size=16)
    size = 0
    _make(base)
    with durable.machine_errors(f"write the rows of the pipe below {base}"):
        fd, name = tempfile.mkstemp(prefix=_READING, dir=base)
        try:
            with os.fdopen(fd, "wb") as file:
                for block in blocks:
                    if size // _LOOK != (size := size + len(block)) // _LOOK:
                        _require_room(base, size, min_free_mb)
                    digest.update(block)
                    file.write(block)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return Spooled(Path(name), digest.digest(), size)


def _require_room(base: Path, size: int, min_free_mb: int | Literal["auto"]) -> None:
    """Raise `MachineError` where a pipe that goes on would fill the disk."""
    disk = shutil.disk_usage(base)
    if disk.free < least_free(min_free_mb, disk.total):
        raise MachineError(
            f"the pipe has not ended after {size >> 20:,} MB, and {base} is nearly full; end the pipe, or name another "
            "place by --set cache.dir=DIRECTORY"
        )


def job_of(config: Config, rows: bytes, limits: tuple[int | None, int | None]) -> PipedJob:
    """Return the directory of the job that asks this of these rows.

    rows: what tells these rows from others. limits: of a trial.
    """
    task = schemas.resolved(config.task)
    told = configuration.fingerprint(msgspec.structs.replace(config, task=task))
    output = (config.output.path, config.output.format, [each.base_url for each in config.provider])
    what = msgspec.json.encode((told, config.input.format, output, limits), order="sorted")
    return PipedJob(base_of(config) / blake2b(rows + what, digest_size=8).hexdigest())


def identity_of(config: Config) -> bytes:
    """Return what tells the files of an input from others. Raises as `inputs.find` does."""
    files = inputs.find(config.input).files
    return msgspec.json.encode([(os.path.abspath(each.path), each.size, each.mtime_ns) for each in files])  # noqa: PTH100 - a URL too
