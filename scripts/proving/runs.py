"""Runs of the real command, and the simulator that sees what they send."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from engine.records import SimulatorSettings
from engine.simulator.process import SimulatorProcess

LONGEST_S = 600.0  # of one command: far above what any of them takes

_CONFIG = """
[input]
path = {input}
id = "id"
[task]
model = "sim-small"
prompt = {prompt}
[output]
path = "out.jsonl"
[[provider]]
name = "main"
base_url = {url}
timeout_s = 5
"""


class ItemError(Exception):
    """An item cannot be measured, or what was run failed. The text says why."""


def check(name: str, holds: bool, figures: str) -> bool:
    """Print one figure of an item and whether it holds; return that."""
    print(f"  {'ok  ' if holds else 'FAIL'} {name}: {figures}", flush=True)
    return holds


def until(condition: Callable[[], Any], what: str, seconds: float = LONGEST_S) -> None:
    """Return once the condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise ItemError(f"{what}: not within {seconds:g} s")
        time.sleep(0.005)


class Run:
    """A run directory, its output, and the command that works on them."""

    def __init__(
        self, folder: Path, source: Path, url: str, prompt: str, *, workers: int, concurrency: int = 64
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.output = folder / "out.jsonl"
        self.run_dir = folder / "out.jsonl.run"
        text = _CONFIG.format(input=json.dumps(str(source)), prompt=json.dumps(prompt), url=json.dumps(url))
        (folder / "config.toml").write_text(text)
        self._options = [f"--set=workers.count={workers}", f"--set=workers.concurrency={concurrency}"]

    @contextlib.contextmanager
    def started(self, program: tuple[str, ...] = ("-m", "engine")) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the command; what is left of it ends with the block."""
        command = [sys.executable, "-P", *program, "run", "config.toml", *self._options]
        with (self.folder / "stderr.txt").open("ab") as stderr:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()

    def finish(self, expected: int = 0) -> None:
        """Run the command to its end."""
        with self.started() as process:
            try:
                code = process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                raise ItemError(f"the run was not finished after {LONGEST_S:g} s") from None
        if code != expected:
            tail = (self.folder / "stderr.txt").read_text(errors="replace")[-3000:]
            raise ItemError(f"exit code {code} where {expected} was expected:\n{tail}")

    @property
    def report(self) -> dict[str, Any]:
        """The run's report."""
        report: dict[str, Any] = json.loads((self.run_dir / "report.json").read_bytes())
        return report


def children(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return every process that the command has at work now."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return those of them that hold a connection."""
    found = []
    for child in children(process):
        with contextlib.suppress(psutil.Error):
            if any(each.status == psutil.CONN_ESTABLISHED for each in child.net_connections("tcp")):
                found.append(child)
    return found


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # ended; only its parent has not looked yet
    except psutil.NoSuchProcess:
        return True


class Witness:
    """A simulator in a process of its own, which outlives every kill."""

    def __init__(self, process: SimulatorProcess) -> None:
        self._process = process
        self.url = process.base_url
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy has a way to loopback

    def stats(self) -> dict[str, Any]:
        """Return what it has seen."""
        with self._direct.open(f"{self.url.removesuffix('/v1')}/stats", timeout=30) as reply:
            total: dict[str, Any] = json.load(reply)["total"]
        return total


@contextlib.contextmanager
def simulator(settings: SimulatorSettings) -> Iterator[Witness]:
    """Serve until the block ends."""
    process = SimulatorProcess(settings)
    process.start()
    try:
        process.wait_ready(30)
        yield Witness(process)
    finally:
        process.stop()
