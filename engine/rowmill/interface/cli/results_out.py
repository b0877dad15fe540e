"""Results to stdout, in order, while the run goes on: the growing output is copied out as shards join it.

The merge appends to a file beside the output, which gets the output's name at the end; what stands in it does not
change any more. A thread copies it, so that a reader who takes his time holds up nothing: the rows go on, and wait in
the file. A reader who is gone has had enough: the run ends, and what it was answered is kept.
"""

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rowmill.core.errors import ExitCode, MachineError, RowmillError
from rowmill.core.reports import Snapshot
from rowmill.interface.ui.screen import PatientWriter, ProgressDisplay

_LOOK_MS = 50  # how often the file is looked at
_BLOCK = 1 << 16  # bytes copied at a time


class ReaderGone(RowmillError):
    """Whoever read the results has had enough. No failure: what was wanted was given."""

    exit_code = ExitCode.OK


def while_wanted(source: BinaryIO, descriptor: int) -> Iterator[bytes]:
    """Yield what a stream has, as it comes. Raises `ReaderGone` where nobody reads from the descriptor any more."""
    looking = select.poll()
    looking.register(source.fileno(), select.POLLIN)
    looking.register(descriptor, 0)  # nothing is asked: that a reader is gone is told all the same
    while True:
        seen = dict(looking.poll())
        if seen.get(descriptor, 0) & (select.POLLERR | select.POLLNVAL):
            raise ReaderGone("whoever read the results has had enough")
        if source.fileno() in seen:
            if not (block := os.read(source.fileno(), _BLOCK)):
                return
            yield block


class ResultsOut:
    """An observer that passes everything on to another one, and copies the results out from the first news on.

    names: what is called otherwise in the lines that it passes on, for nobody knows the files by their own names.
    """

    def __init__(
        self, progress: ProgressDisplay, output: Path, descriptor: int, names: dict[str, str] | None = None
    ) -> None:
        self._progress = progress
        self._output = output
        self._part = output.with_name(f".{output.name}.rowmill-part")
        self._descriptor = descriptor
        self._writer = PatientWriter(descriptor)
        self._names = names or {}
        self._file: BinaryIO | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self._told = False

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands. Raises `ReaderGone`, once, where it need not go on, `MachineError` likewise."""
        self._progress.show(snapshot)
        if self._thread is None:
            # Only now: what a killed session left there has been emptied.
            self._file = self._opened(self._part) or self._opened(self._output)
            self._begin()
        if self._error is not None and not self._told:
            self._told = True
            if isinstance(self._error, BrokenPipeError):
                raise ReaderGone("whoever read the results has had enough")
            raise MachineError(f"stdout cannot be written to: {self._error.strerror or self._error}")

    def log(self, line: str) -> None:
        """Pass the line on."""
        for name, instead in self._names.items():
            line = line.replace(name, instead)
        self._progress.log(line)

    def close(self) -> None:
        """Leave the stream of the progress ready for other output."""
        self._progress.close()

    def finish(self, *, finished: bool) -> bool:
        """Copy what is left, and return whether all of it was taken. finished: the output is there, whole."""
        if self._thread is None and finished:
            self._file = self._opened(self._output)
            self._begin()
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
        if self._error is not None and not isinstance(self._error, BrokenPipeError) and not self._told:
            self._told = True
            raise MachineError(f"stdout cannot be written to: {self._error.strerror or self._error}")
        return self._error is None

    @property
    def gone(self) -> bool:
        """Whether the reader is."""
        return isinstance(self._error, BrokenPipeError)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def _opened(self, path: Path) -> BinaryIO | None:
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            return None

    def _run(self) -> None:
        # The supervisor waits for signals in its own thread: none is to be spent on this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        reader = select.poll()
        reader.register(self._descriptor, 0)  # nothing is asked: that a reader is gone is told all the same
        held: list[bytes] = []  # of a line that is not there whole
        try:
            while True:
                last = self._ended.is_set()
                while self._file is not None and (block := self._file.read(_BLOCK)):
                    whole, newline, rest = block.rpartition(b"\n")
                    if newline:
                        self._writer.write(b"".join((*held, whole, newline)))
                        held.clear()
                    held.append(rest)
                if last:
                    return
                if any(event & (select.POLLERR | select.POLLNVAL) for _, event in reader.poll(_LOOK_MS)):
                    raise BrokenPipeError
        except OSError as error:
            self._error = error
        finally:
            if self._file is not None:
                self._file.close()
