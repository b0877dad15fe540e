"""Where a run stands, as its directory tells it: to another terminal, user or machine. Nothing is written."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import time

import msgspec

from rowmill.core.errors import RowmillError, RunDirectoryError
from rowmill.core.known_runs import KnownRun
from rowmill.core.reports import Status, status_at
from rowmill.runs.listing import known_at
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory

_FRESH_S = 5.0  # a supervisor on another machine, whose lock may not be seen here, has written within that


class StandingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and where it stands."""

    run: KnownRun
    supervisor: durable.LockHolder | None  # that is at work
    status: Status | None  # of the last session that has written one
    told_s: float | None  # seconds ago, by this machine's clock, by this machine's clock


def standing(path: Path) -> StandingRun:
    """Return where the run in this directory stands. Raises `RunDirectoryError` where there is none."""
    directory = RunDirectory(path)
    directory.refuse_unreadable()
    known = known_at(path) if path.is_dir() else None
    if known is None:
        raise RunDirectoryError(f"{path} holds no run: name a configuration whose run has begun, or a run directory")
    if known.state == "damaged":
        raise RunDirectoryError(known.problem)
    holder = _holder(directory)
    status, told_s = _told(directory, holder)
    if holder is None and known.state == "stopped" and told_s is not None and abs(told_s) < _FRESH_S:
        elsewhere = _last_holder(path)
        if elsewhere is not None and elsewhere.host != socket.gethostname():
            holder = elsewhere
            known = msgspec.structs.replace(known, state="at work")
    return StandingRun(run=known, supervisor=holder, status=status, told_s=told_s)


def still(path: Path, found: StandingRun) -> StandingRun:
    """Return where a run stands that was at work: its many files are left alone as long as it is.

    Raises as `standing` does.
    """
    directory = RunDirectory(path)
    if (holder := _holder(directory)) is None or holder != found.supervisor:
        return standing(path)
    status, told_s = _told(directory, holder)
    return msgspec.structs.replace(found, status=status, told_s=told_s)


def _holder(directory: RunDirectory) -> durable.LockHolder | None:
    with _looked_at(directory):
        return directory.holder()


def _told(directory: RunDirectory, holder: durable.LockHolder | None) -> tuple[Status | None, float | None]:
    """Return what the last session has written, and how long ago; what an earlier one has is nothing of this one."""
    status = status_at(directory.status)
    if status is None or (holder is not None and status.at < _since(holder)):
        return None, None
    return status, time() - status.at


def _since(holder: durable.LockHolder) -> float:
    with suppress(ValueError):
        return datetime.fromisoformat(holder.since).timestamp()
    return 0.0


def _last_holder(path: Path) -> durable.LockHolder | None:
    try:
        fd = os.open(path / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return durable.read_holder(fd)
    finally:
        os.close(fd)


@contextmanager
def _looked_at(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except (RowmillError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RunDirectoryError(f"the run in {directory.path} cannot be looked at: {why}") from None
