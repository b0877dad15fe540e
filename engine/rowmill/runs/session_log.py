"""What is told of a session: to whoever looks on, to the run's log file, and to those who are somewhere else."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from rowmill.core import private_files
from rowmill.core.config import Config
from rowmill.core.plain_text import one_line
from rowmill.core.reports import Observer, Snapshot
from rowmill.runs.notify.notifier import Notifier
from rowmill.store import durable
from rowmill.supervisor.prepared import Prepared


class SessionLog:
    """Passes everything on to the observer and to the notifier, and events to the run's log file too."""

    def __init__(self, path: Path, observer: Observer, notifier: Notifier) -> None:
        self._observer = observer
        self._notifier = notifier
        with durable.machine_errors(f"write {path}"):
            self._file = os.fdopen(
                private_files.opened(path, private_files.APPEND), "a", encoding="utf-8", errors="backslashreplace"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._file.close()

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands, and log what is told of that elsewhere."""
        for line in self._notifier.look(snapshot):
            self.log(line)
        self._observer.show(snapshot)

    def log(self, line: str) -> None:
        """Write one event down, and show it."""
        line = one_line(line)
        with suppress(OSError):  # a full disk must not keep anybody from being told so
            self._file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")
            self._file.flush()
        self._observer.log(line)


def first_lines(prepared: Prepared) -> Iterator[str]:
    """Yield what is told of a session before it does anything."""
    resumed = " resumed" if prepared.resumed else ""
    yield f"rowmill run {prepared.manifest.run_id}{resumed}: {prepared.input.where}"
    if prepared.new_rows:
        begun = ", the first of which had only begun then" if prepared.completed else ""
        yield f"the input has grown: {prepared.new_rows:,} rows behind those that were planned{begun}"
    if not prepared.resumed and (taken_so := prepared.input.taken_so()):
        yield f"input: {taken_so}"
    yield from prepared.notices
    yield from _seen_by_others(prepared.config)


def _seen_by_others(config: Config) -> Iterator[str]:
    """Yield a line for each directory that others can look into though that was not asked for.

    They are left as they are, for somebody may share them on purpose.
    """
    asked = [config.run_dir] if not config.checkpoint.directory_mode & 0o077 else []
    if config.cache.use == "disk":
        asked.append(Path(config.cache.dir).expanduser())
    for path in asked:
        if private_files.seen_by_others(path):
            yield f"others can look into {path}, which holds rows and replies: chmod -R go= {path} ends that"
