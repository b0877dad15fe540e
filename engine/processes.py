"""Starting the processes of a run: `spawn` context, one duplex pipe each.

No `multiprocessing.Pool` or `Queue`: a process killed while it holds one of their locks hangs all others. Modules are
named, not imported, so that the supervisor does not carry what only its children need.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NamedTuple

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_noted(note: Callable[[signal.Signals], None]) -> Iterator[None]:
    """While the context is open, signals that would end this process are only noted."""

    def handler(number: int, _frame: FrameType | None) -> None:
        note(signal.Signals(number))

    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def signals_held() -> Iterator[None]:
    """Start processes that the signals of the run never reach.

    A terminal sends its Ctrl-C and its hangup to the whole process group, also to a process that has not yet come to
    ignore them. A child is born with the mask of its parent and keeps it; what follows from a signal is decided here.
    """
    resource_tracker.ensure_running()  # the first process to be started starts it, and that lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child(NamedTuple):
    """A started process and this side's end of its pipe."""

    process: BaseProcess
    pipe: Connection


def start(module: str, name: str) -> Child:
    """Start a process that runs `module.main(pipe)`; `main` returns the exit status."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_run, args=(module, theirs), name=name, daemon=True)
    process.start()
    theirs.close()  # so that its end closes with the child
    return Child(process, ours)


def _run(module: str, pipe: Connection) -> None:
    # A terminal's Ctrl-C goes to the whole process group; only the supervisor decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = importlib.import_module(module).main
    gc.freeze()  # what is imported lives as long as the process: the collector need not walk it again
    status = main(pipe)
    sys.stderr.flush()
    # Not through the interpreter's end: threads of the HTTP client may still run, and taking the interpreter down
    # under them aborts the process. Everything worth keeping has been synced by now.
    os._exit(status)
