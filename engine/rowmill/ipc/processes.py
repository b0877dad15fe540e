"""Starting the processes of a run: an interpreter of its own each, joined to this one by one duplex pipe.

Not by `multiprocessing`: its `spawn` runs the program that started it once more in every child, to find what it
pickled, so that a script that calls `rowmill.run` outside of `if __name__ == "__main__"` would start itself without
end. Nothing of that program is needed here: a child is told the name of a module, and imports that alone. Nor is there
a `Pool` or a `Queue`: a process killed while it holds one of their locks hangs all others. Modules are named, not
imported, so that the supervisor does not carry what only its children need.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rowmill.core.defects import told
from rowmill.core.errors import ExitCode
from rowmill.core.interrupts import of_this_thread
from rowmill.core.own_modules import FOUND, PACKAGES, module_path

if TYPE_CHECKING:
    import psutil  # for those that start processes: their children need not import it

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# What a child runs. It is told where its modules are found; see `own_modules`.
_CHILD = (
    "import sys, typing; from multiprocessing.connection import Connection; pipe = Connection(int(sys.argv[1])); "
    f"here, path = pipe.recv(); {FOUND}"
    "from rowmill.ipc.processes import run_child; run_child(sys.argv[2], pipe)"
)
# Rows in hand are thousands of objects that hold no cycles: to walk the young ones after every 700 is 2% of a row.
_COLLECTED = (10_000, 20, 20)


@contextmanager
def signals_noted(note: Callable[[signal.Signals], None]) -> Iterator[None]:
    """While the context is open, signals that would end this process are only noted.

    In a thread that is not the main one nothing changes: only the main one can say what a signal does, and its own
    program goes on there; but for what a program itself sends it (`core.interrupts`), which is noted as a Ctrl-C. A
    hangup that is ignored (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        interrupts = of_this_thread()
        with nullcontext() if interrupts is None else interrupts.noted(lambda: note(signal.SIGINT)):
            yield
        return

    def handler(number: int, _frame: FrameType | None) -> None:
        note(signal.Signals(number))

    numbers = [each for each in _SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            # None: set by something that is not Python, and out of its reach
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def signals_held() -> Iterator[None]:
    """Start processes that the signals of the run never reach.

    A terminal sends its Ctrl-C and its hangup to the whole process group, also to a process that has not yet come to
    ignore them. A child is born with the mask of its parent and keeps it; what follows from a signal is decided here.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Usage(NamedTuple):
    """What a process takes of its machine."""

    rss: int  # bytes
    cpu_s: float  # so far


class Process(Protocol):
    """A child process, as those that start one need it."""

    @property
    def end(self) -> str:
        """How it ended, in words."""

    def usage(self) -> Usage | None:
        """Return what it takes; None where nobody knows, as when it has ended."""

    def is_stopped(self) -> bool:
        """Tell whether somebody has stopped it (SIGSTOP, a debugger)."""

    def wake(self) -> None:
        """Have it go on where somebody has stopped it."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    @property
    def exitcode(self) -> int | None:
        """Its exit status, or the negative number of the signal that killed it; None while it runs."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most so many seconds."""

    def kill(self) -> None:
        """End it at once."""

    def is_alive(self) -> bool:
        """Tell whether it still runs."""


class Child(NamedTuple):
    """A started process and this side's end of its pipe."""

    process: Process
    pipe: Connection


def start(module: str, name: str, errors: Path | None = None) -> Child:
    """Start a process that runs `module.main(pipe)`; `main` returns the exit status. `name` is shown by `ps`.

    errors: the file that takes what it writes to stderr, where that is not this process's own.
    """
    ours, theirs = multiprocessing.Pipe(duplex=True)
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to them
    # Told before there is a child: at a child that died at once there would be nobody to tell.
    ours.send((PACKAGES, module_path()))
    with theirs, nullcontext() if errors is None else errors.open("ab") as stderr:  # closed here, so with the child
        process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
            [sys.executable, *flags, "-P", "-c", _CHILD, str(theirs.fileno()), module, name],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(theirs.fileno(),),
        )
    return Child(_Started(process), ours)


class _Started:
    """A `subprocess.Popen` in the words of `Process`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid: int | None = process.pid
        self._seen: psutil.Process | None = None

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def join(self, timeout: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    @property
    def end(self) -> str:
        return how_ended(self.exitcode)

    def usage(self) -> Usage | None:
        import psutil

        try:
            if self._seen is None:
                self._seen = psutil.Process(self._process.pid)
            with self._seen.oneshot():
                times = self._seen.cpu_times()
                return Usage(self._seen.memory_info().rss, times.user + times.system)
        except psutil.Error:
            return None  # it ended just now

    def is_stopped(self) -> bool:
        import psutil

        try:
            status = psutil.Process(self._process.pid).status()
        except psutil.Error:
            return False
        return status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}

    def wake(self) -> None:
        if self.is_alive():
            os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()

    def is_alive(self) -> bool:
        return self._process.poll() is None


def how_ended(exitcode: int | None) -> str:
    """Return in words how a process ended that has this exit code."""
    return f"killed by signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit status {exitcode}"


def stay_awake(on_stop: Callable[[], None] | None = None) -> None:
    """Go on where a terminal's Ctrl-Z stops the process group: for a child that brings home what is on its way.

    What a server has begun is paid for, and its reply would be lost in a stop that is longer than the request may take.
    `on_stop` is called in the running event loop.
    """
    if on_stop is None:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    else:
        import asyncio  # here: the supervisor has no loop of that kind, and it is a tenth of its start

        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, on_stop)


def run_child(module: str, pipe: Connection) -> None:
    """Be the child: run `module.main` and end with its status."""
    # A terminal's Ctrl-C goes to the whole process group; only the supervisor decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # what is imported lives as long as the process: the collector need not walk it, now or later
    main = importlib.import_module(module).main
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
    gc.enable()
    try:
        status = main(pipe)
    except Exception as error:  # noqa: BLE001 - the last edge of a child: one line, and no traceback
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"rowmill: {module}: {told(error)}\n")
        status = ExitCode.DEFECT
    with suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it
        sys.stderr.flush()
    # Not through the interpreter's end: threads of libraries may still run, and taking the interpreter down under them
    # aborts the process or waits for them. Everything worth keeping has been synced by now.
    os._exit(status)
