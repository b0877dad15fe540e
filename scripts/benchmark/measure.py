"""Runs one client as a process of its own on one core, and takes its time and CPU from outside."""

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark.server import pinned

LIMIT_S = 600.0  # a client that takes longer hangs
ORPHANS_S = 10.0  # how long what a client left running may take to end by itself

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ClientError(Exception):
    """The client failed. The text holds the last of what it wrote."""


class Sample(NamedTuple):
    """One measured run of a client, from its start to its exit."""

    rows: int
    wall_s: float
    cpu_s: float  # user and system time of the whole process tree


def adopt_orphans() -> None:
    """Make this process the parent of what its clients leave behind, so that their CPU time is counted too.

    `multiprocessing` starts helpers that outlive the process that started them by a moment.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: list[str], environ: Mapping[str, str], log: Path, core: int) -> tuple[float, float]:
    """Run a client on a core to its end. Returns wall and CPU seconds; raises `ClientError` unless it exits 0."""
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
    watched = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([watched], [], [], LIMIT_S)
        wall = time.perf_counter() - started
        if not ended:
            raise ClientError(f"no end after {LIMIT_S:g} s: {tail(log)}")
        _, status, usage = os.wait4(pid, 0)
        cpu = usage.ru_utime + usage.ru_stime + wait_for_orphans(pid)
    finally:
        os.close(watched)
        end_group(pid)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise ClientError(f"exit code {code}: {tail(log)}")
    return wall, cpu


def wait_for_orphans(group: int) -> float:
    """Wait for the adopted processes of a group. Returns their CPU seconds."""
    cpu = 0.0
    end = time.monotonic() + ORPHANS_S
    with contextlib.suppress(ChildProcessError):  # the normal end: none is left
        while time.monotonic() < end:
            pid, _, usage = os.wait4(-group, os.WNOHANG)
            cpu += usage.ru_utime + usage.ru_stime
            if not pid:
                time.sleep(0.01)
    return cpu


def end_group(group: int) -> None:
    """End what is left of a client and its children, by their process group."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        for kind in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(group, kind)
            end = time.monotonic() + 3
            while time.monotonic() < end:
                if os.waitpid(-group, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)


def tail(log: Path) -> str:
    """Return the last lines that a client wrote."""
    return log.read_text(errors="replace").strip()[-2000:] or "it wrote nothing"
