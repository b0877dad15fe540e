"""The runs below a folder, as their directories tell: what is damaged is told and stops nothing. Nothing is written."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.errors import InputError, RowmillError
from rowmill.core.known_runs import KnownRun
from rowmill.core.reports import RunReport, report_at, status_at
from rowmill.store import manifest as manifests
from rowmill.store.manifest import bytes_of
from rowmill.store.run_directory import RunDirectory


class _Named(msgspec.Struct):
    """What a manifest of ours has, and nobody else's has by chance."""

    format: int
    run_id: str


def below(folder: Path) -> Iterator[KnownRun]:
    """Yield the runs in a folder and below it, in the order of their names. Raises `InputError` where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    manifest = RunDirectory(folder).manifest.name
    for place, folders, files in os.walk(folder):
        folders.sort()
        path = Path(place)
        if manifest in files and (known := known_at(path)) is not None:
            folders.clear()
            yield known
        elif _is_left(path, folders, files):
            folders.clear()
            yield KnownRun(run_dir=_text(path), state="damaged", problem="it has no manifest", size=size_of(path))


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                size += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - there can be very many
            except OSError:
                continue
    return size


def _is_left(path: Path, folders: list[str], files: list[str]) -> bool:
    """Whether this looks like a run directory whose manifest is gone."""
    return path.name.endswith(".run") and "lock" in files and "checkpoints" in folders


def known_at(path: Path) -> KnownRun | None:
    """Return what a directory with a manifest tells; None where it is somebody else's."""
    directory = RunDirectory(path)
    try:
        directory.refuse_odd()
        manifest = manifests.load(directory.manifest)
        if manifest is None:
            return None
        holder = directory.holder()
    except (RowmillError, OSError) as error:
        if not path.name.endswith(".run") and not _is_ours(directory.manifest):
            return None
        return KnownRun(run_dir=_text(path), state="damaged", problem=str(error), size=size_of(path))
    report = report_at(directory.report)
    done = manifest.finished
    whole = done is not None and not done.grown and bytes_of(Path(done.output)) == done.output_bytes
    rows, failed = (report.totals.rows, report.totals.failed) if report is not None else (0, 0)
    of = None if report is None else report.rows
    usd = None if report is None or report.cost is None else report.cost.usd
    state = "finished" if whole else "stopped"
    if holder is not None:
        state = "at work"
    if not whole:
        rows += _of_session(directory.spending, report)
        if (told := status_at(directory.status)) is not None:
            of = told.snapshot.total_rows if of is None else of
            if told.snapshot.totals.rows > rows:  # it has those of sessions that were killed before, too
                rows, failed = told.snapshot.totals.rows, told.snapshot.totals.failed
            if told.snapshot.cost is not None and (report is None or told.snapshot.totals.rows > report.totals.rows):
                usd = told.snapshot.cost.usd
    problem = "" if whole or done is None else "its output is gone, or another one"
    return KnownRun(
        run_dir=_text(path),
        state=state,
        problem="the input has grown" if done is not None and done.grown else problem,
        created=manifest.created,
        input=", ".join(file.path for file in manifest.input[:3]) + (", ..." if len(manifest.input) > 3 else ""),  # noqa: PLR2004
        output="" if done is None else done.delivered or done.output,
        rows=rows,
        of=of,
        failed=failed,
        usd=usd,
        size=size_of(path),
    )


def _text(path: Path) -> str:
    """Return a path as text that can be written down whatever bytes are in its name."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_ours(path: Path) -> bool:
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        msgspec.json.decode(path.read_bytes(), type=_Named)
    except (OSError, ValueError, RecursionError):
        return False
    return True


def _of_session(path: Path, report: RunReport | None) -> int:
    """Return the rows of the session at work, or of one that was killed, as far as it has told."""
    try:
        told: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        session = told["session"]
        if report is not None and any(each.id == session["id"] for each in report.sessions):
            return 0
        return int(session["rows"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0
