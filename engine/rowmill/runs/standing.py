"""Where a run stands, as its directory tells it: to another terminal, user or machine. Nothing is written."""

import os
import socket
from pathlib import Path
from time import time

import msgspec

from rowmill.core.errors import RowmillError, RunDirectoryError
from rowmill.core.known_runs import KnownRun
from rowmill.core.reports import Status
from rowmill.runs.listing import known_at
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory

_FRESH_S = 5.0  # a supervisor on another machine, whose lock may not be seen here, has written within that


class StandingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and where it stands."""

    run: KnownRun
    supervisor: durable.LockHolder | None  # that is at work
    status: Status | None  # of the last session that has written one
    told_s: float | None  # seconds ago


def standing(path: Path) -> StandingRun:
    """Return where the run in this directory stands. Raises `RunDirectoryError` where there is none."""
    known = known_at(path) if path.is_dir() else None
    if known is None:
        raise RunDirectoryError(f"{path} holds no run: name a configuration whose run has begun, or a run directory")
    if known.state == "damaged":
        raise RunDirectoryError(known.problem)
    directory = RunDirectory(path)
    try:
        holder = directory.holder()
        status = _status(directory.status)
    except (RowmillError, OSError) as error:
        raise RunDirectoryError(f"the run in {path} cannot be looked at: {error}") from None
    told_s = None if status is None else max(0.0, time() - status.at)
    if holder is None and known.state == "stopped" and told_s is not None and told_s < _FRESH_S:
        elsewhere = _last_holder(path)
        if elsewhere is not None and elsewhere.host != socket.gethostname():
            holder = elsewhere
            known = msgspec.structs.replace(known, state="at work")
    return StandingRun(run=known, supervisor=holder, status=status, told_s=told_s)


def _status(path: Path) -> Status | None:
    """Return what the session has written; a damaged one tells nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _last_holder(path: Path) -> durable.LockHolder | None:
    fd = os.open(path / "lock", os.O_RDONLY)
    try:
        return durable.read_holder(fd)
    finally:
        os.close(fd)
