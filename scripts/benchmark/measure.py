"""Runs one client as a process of its own on one core, and takes its time, CPU and memory from outside."""

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from scripts.benchmark.server import pinned

LIMIT_S = 600.0  # a client that takes longer hangs
ORPHANS_S = 10.0  # how long what a client left running may take to end by itself
LOOK_S = 0.2  # between two looks at the memory, each of which takes milliseconds

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ClientError(Exception):
    """The client failed. The text holds the last of what it wrote."""


class Usage(NamedTuple):
    """What a client took, from its start to its exit."""

    wall_s: float
    cpu_s: float  # user and system time of the whole process tree
    first_cpu_s: float  # of it, that of the process that was started
    first_bytes: int = 0  # the highest memory of that process, as often as it was looked at
    child_bytes: int = 0  # the highest of any process that it started


class Sample(NamedTuple):
    """One measured run of a client over so many rows."""

    rows: int
    usage: Usage
    in_flight: int | None = None  # the most at a time, as the server saw it


def adopt_orphans() -> None:
    """Make this process the parent of what its clients leave behind, so that their CPU time is counted too.

    `multiprocessing` starts helpers that outlive the process that started them by a moment, Ray a cluster.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: list[str], environ: Mapping[str, str], log: Path, core: int, *, watched: bool = False) -> Usage:
    """Run a client on a core to its end; `watched`: with its memory. Raises `ClientError` unless it exits 0."""
    others = children()
    with pinned(core):
        started = time.perf_counter()
        pid = os.posix_spawn(
            command[0],
            command,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setpgroup=0,
        )
    first = psutil.Process(pid)
    ending = os.pidfd_open(pid)
    peaks = (0, 0)
    try:
        while not select.select([ending], [], [], LOOK_S if watched else LIMIT_S)[0]:
            if time.perf_counter() - started > LIMIT_S:
                raise ClientError(f"no end after {LIMIT_S:g} s: {tail(log)}")
            seen = memory(first)
            peaks = (max(peaks[0], seen[0]), max(peaks[1], seen[1]))
        wall = time.perf_counter() - started
        own = first.cpu_times()  # it has ended and nobody has waited for it yet: its figures are final
        _, status, usage = os.wait4(pid, 0)
        cpu = usage.ru_utime + usage.ru_stime + wait_for_orphans(others)
    finally:
        os.close(ending)
        end(others)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise ClientError(f"exit code {code}: {tail(log)}")
    return Usage(wall, cpu, own.user + own.system, *peaks)


def children() -> set[int]:
    """Return the processes that this one has to wait for, adopted ones included."""
    return {child.pid for child in psutil.Process().children()}


def memory(first: psutil.Process) -> tuple[int, int]:
    """Return the resident bytes of a process, and of the largest of those that it started."""
    found = [0, 0]
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                place = 0 if process == first else 1
                found[place] = max(found[place], process.memory_info().rss)
    return found[0], found[1]


def wait_for_orphans(others: set[int]) -> float:
    """Wait for the adopted processes, which are none of the others. Returns their CPU seconds."""
    cpu = 0.0
    stop = time.monotonic() + ORPHANS_S
    while (left := children() - others) and time.monotonic() < stop:
        for pid in left:
            ended, _, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                cpu += usage.ru_utime + usage.ru_stime
        time.sleep(0.01)
    return cpu


def end(others: set[int]) -> None:
    """End what is left of a client: whatever is a child of this process, or becomes one thereby, and none of others."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        told: set[int] = set()
        stop = time.monotonic() + 3
        while (left := children() - others) and time.monotonic() < stop:
            for pid in left - told:
                os.kill(pid, kind)
            told |= left
            for pid in left:
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)


def tail(log: Path) -> str:
    """Return the last lines that a client wrote."""
    return log.read_text(errors="replace").strip()[-2000:] or "it wrote nothing"
