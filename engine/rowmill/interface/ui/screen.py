"""Writing to a terminal or a pipe that may stop taking anything, without ever stopping the run.

Ctrl-S stops a terminal; a pipe whose reader sleeps fills up. A write to either then waits, for hours if need be. The
supervisor has one thread, and what it does not do for three seconds (renewing leases) stops every worker. So:

- The real display runs in a thread of its own, the `Screen`'s. The supervisor only leaves things there and goes on:
  the latest snapshot, where a newer one replaces an older one, and the events, which wait in a queue of bounded length.
- The thread writes through a `PatientWriter`, which asks the kernel before each small write whether there is room. So
  it waits where it can be told to give up, and not inside a lock: the interpreter's own stream objects have one, and
  an interpreter that is to end while a thread holds it hangs, or aborts.

Known gap: a write to a terminal may still wait when the terminal was stopped between the question and the write. The
thread is then left behind, and ends with the process.
"""

import io
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from rowmill.core.reports import Snapshot

_LINES = 10_000  # events that wait; each is well below a kilobyte
_CLOSE_S = 2.0  # time for what is left at the end
_LOOK_MS = 250  # how soon a writer that waits for room sees that it has been told to give up


class ProgressDisplay(Protocol):
    """Where a run's progress goes."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands now."""

    def log(self, line: str) -> None:
        """Tell of one event."""

    def close(self) -> None:
        """Leave the stream ready for other output. May be called twice."""


class Screen:
    """Runs a `ProgressDisplay` in a thread. Its methods return at once, `close` in time, and none raises."""

    def __init__(self, progress: ProgressDisplay, give_up: Callable[[], None] | None = None) -> None:
        """`give_up` is called when `close` has waited long enough: what is still being written is to be left."""
        self._progress = progress
        self._give_up = give_up
        self._changed = threading.Condition()
        # Guarded by it:
        self._before: deque[str] = deque()  # events older than the snapshot
        self._snapshot: Snapshot | None = None
        self._after: deque[str] = deque()  # events younger than the snapshot
        self._dropped = 0  # events since the queue is full
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread to be had: whatever the run meets for the same reason is told by the run
            self._closing = True

    def show(self, snapshot: Snapshot) -> None:
        """Leave a snapshot. An older one that has not been shown yet never will be."""
        with self._changed:
            if self._closing:
                return
            self._before += self._after
            self._after.clear()
            self._snapshot = snapshot
            self._changed.notify()

    def log(self, line: str) -> None:
        """Leave an event. Where 10,000 wait already, it is only counted."""
        with self._changed:
            if self._closing:
                return
            if len(self._before) + len(self._after) >= _LINES:
                self._dropped += 1
                return
            if self._dropped:
                self._after.append(self._note_dropped())
            self._after.append(line)
            self._changed.notify()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Let what is left be written, for so long at most. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._give_up is not None:
            self._give_up()

    def _run(self) -> None:
        # The supervisor waits for signals in its own thread: none is to be spent on this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        while (item := self._next()) is not None:
            with suppress(Exception):  # a display that fails must not end the run, nor the display of what follows
                if isinstance(item, str):
                    self._progress.log(item)
                else:
                    self._progress.show(item)
        with suppress(Exception):
            self._progress.close()

    def _next(self) -> Snapshot | str | None:
        """Wait for the next thing to be shown; None at the end."""
        with self._changed:
            while True:
                if self._before:
                    return self._before.popleft()
                if (snapshot := self._snapshot) is not None:
                    self._snapshot = None
                    return snapshot
                if self._after:
                    return self._after.popleft()
                if self._dropped:
                    return self._note_dropped()
                if self._closing:
                    return None
                self._changed.wait()

    def _note_dropped(self) -> str:
        dropped, self._dropped = self._dropped, 0
        return f"{dropped:,} events not shown: nothing could be written for too long; the run's log file has them"


class PatientWriter(io.BufferedIOBase):
    """Writes to a descriptor that it does not own, and waits for room where it can be told to give up."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.name = descriptor  # as `open(descriptor)` has it
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._gave_up = False

    def give_up(self) -> None:
        """Fail what is being written, soon, and every later write at once. Called from another thread."""
        self._gave_up = True

    def write(self, data: Any, /) -> int:
        """Write all of it, however long that takes. Raises `OSError` where the reader is gone or it has given up."""
        view = memoryview(data)
        while view:
            ready = self._room.poll(_LOOK_MS)
            if self._gave_up:
                raise BrokenPipeError("given up")
            if ready:
                with suppress(BlockingIOError):  # others have the same terminal, and may have filled it meanwhile
                    # So much a pipe takes without waiting when it has said that it has room.
                    view = view[os.write(self.name, view[: select.PIPE_BUF]) :]
        return len(data)

    def writable(self) -> bool:
        """Return True: that is what it is for."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.name

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self.name)
