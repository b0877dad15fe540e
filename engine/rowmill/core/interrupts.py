"""Interrupting a run that is not in the main thread, which no signal reaches: another thread says so."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Left(NamedTuple):
    """What a call leaves behind that is of no use once somebody has its result."""

    remove: Callable[[], None]
    where: str  # the answers are, in words, while it is there


class Interrupts:
    """Those of one call. The first one is to let what is in flight come home, the second one to stop at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by it:
        self._note: Callable[[], None] | None = None
        self.sent = 0
        self.left: Left | None = None  # by the thread; read once it has ended

    def send(self) -> None:
        """Interrupt once more. Called from any thread; before the run has begun it is told as soon as it has."""
        with self._lock:
            self.sent += 1
            if self._note is not None:
                self._note()

    def check(self) -> None:
        """Raise `KeyboardInterrupt` where there was one: for what comes before a run."""
        if self.sent:
            raise KeyboardInterrupt("nothing was asked yet")

    @contextmanager
    def noted(self, note: Callable[[], None]) -> Iterator[None]:
        """While the context is open, `note` is called for each one, those of before included."""
        with self._lock:
            self._note = note
            for _ in range(self.sent):
                note()
        try:
            yield
        finally:
            with self._lock:  # whoever is being told has been told, and nobody is told any more
                self._note = None


class _OfThread(threading.local):
    interrupts: Interrupts | None = None


_of_thread = _OfThread()


@contextmanager
def interrupted_by(interrupts: Interrupts) -> Iterator[None]:
    """While the context is open, what this thread runs is interrupted by these."""
    _of_thread.interrupts, before = interrupts, _of_thread.interrupts
    try:
        yield
    finally:
        _of_thread.interrupts = before


def of_this_thread() -> Interrupts | None:
    """Return what interrupts this thread; None for one that nothing does."""
    return _of_thread.interrupts
