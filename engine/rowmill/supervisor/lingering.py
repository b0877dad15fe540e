"""Waits after the end of a run, unless somebody wants the command to be over."""

import threading

from rowmill.ipc import processes


def linger(seconds: float) -> None:
    """Return after so long, or at a signal that would have ended the run."""
    over = threading.Event()
    with processes.signals_noted(lambda _signal: over.set()):
        over.wait(seconds)
