"""Runs of the real command, and the simulator that sees what they send and is made sick at will."""

import contextlib
import enum
import itertools
import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.process import SimulatorProcess

Tables = Mapping[str, Mapping[str, Any]]  # of a configuration: section -> key -> value

LONGEST_S = 600.0  # of one command: far above what any of them takes
SOME_FAILED = 1  # the command's exit code when it has finished, but not with a reply for every row


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
        self,
        folder: Path,
        source: Path,
        providers: str | Sequence[Mapping[str, Any]],
        prompt: str,
        *,
        workers: int,
        concurrency: int | Literal["auto"] = 64,
        tables: Tables | None = None,
    ) -> None:
        """Write the configuration.

        providers: the URL of the only one, or the keys of each. tables: keys beside or over the usual ones; None takes
        a key away.
        """
        folder.mkdir()
        self.folder = folder
        if isinstance(providers, str):
            providers = [{"name": "main", "base_url": providers, "timeout_s": 5}]
        usual: Tables = {
            "input": {"path": str(source), "id": "id"},
            "task": {"model": "sim-small", "prompt": prompt},
            "output": {"path": "out.jsonl"},
        }
        more = tables or {}
        sections = {name: {**usual.get(name, {}), **more.get(name, {})} for name in {**usual, **more}}
        self.output: Path = folder / sections["output"]["path"]
        self.errors = self.output.with_name(self.output.stem + ".errors.jsonl")
        self.run_dir: Path = self.output.with_name(self.output.name + ".run")
        heads = [(f"[{name}]", keys) for name, keys in sections.items()]
        heads += [("[[provider]]", dict(provider)) for provider in providers]
        lines = [
            [head, *(f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None)]
            for head, keys in heads
        ]
        (folder / "config.toml").write_text("\n".join(itertools.chain(*lines)) + "\n")
        self._options = {"workers.count": workers, "workers.concurrency": concurrency}

    def set(self, key: str, value: Any) -> None:
        """Give a key of the configuration another value from here on."""
        self._options[key] = value

    def _command(self, program: Sequence[str], *words: str) -> list[str]:
        options = [f"--set={key}={_toml(value)}" for key, value in self._options.items()]
        return [sys.executable, "-P", *program, *words, "config.toml", *options]

    def plan(self, *options: str) -> dict[str, Any]:
        """Return what `rowmill plan` says of the run."""
        done = subprocess.run(
            [*self._command(("-m", "rowmill"), "plan"), "--json", *options],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        if done.returncode:
            raise ItemError(
                f"rowmill plan: exit code {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}"
            )
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan

    @contextlib.contextmanager
    def started(
        self, program: tuple[str, ...] = ("-m", "rowmill"), environment: Mapping[str, str] | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the command, with more in its environment; what is left of it ends with the block."""
        command = self._command(program, "run")
        with (self.folder / "stderr.txt").open("ab") as stderr:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()

    def finish(self, *expected: int) -> int:
        """Run the command to its end, and return its exit code, which is one of these or 0."""
        with self.started() as process:
            return self.wait(process, *expected)

    def wait(self, process: "subprocess.Popen[bytes]", *expected: int) -> int:
        """Wait for the end of the command, and return its exit code, which is one of these or 0."""
        try:
            code = process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            raise ItemError(f"the run was not finished after {LONGEST_S:g} s") from None
        # A command that breaks down ends with 1 too, but without a report.
        if code not in (0, *expected) or not self._report_path.exists():
            raise ItemError(f"exit code {code}:\n{self._tail()}")
        return code

    def begin(self, process: "subprocess.Popen[bytes]", witness: "Witness") -> float:
        """Return the Unix time of the first request, once it has come."""
        until(lambda: process.poll() is not None or witness.stats()["requests"], "the first request", 30)
        first: float | None = witness.stats()["first"]
        if first is None:
            raise ItemError(f"the run has ended without a request:\n{self._tail()}")
        return first

    def last_until(self, moment: float, process: "subprocess.Popen[bytes]") -> None:
        """Return at this Unix time, with the command still at work."""
        while (left := moment - time.time()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
                raise ItemError(f"the run has ended {left:.0f} s too early for what is measured:\n{self._tail()}")

    def _tail(self) -> str:
        return (self.folder / "stderr.txt").read_text(errors="replace")[-3000:]

    @property
    def _report_path(self) -> Path:
        return self.run_dir / "report.json"

    @property
    def report(self) -> dict[str, Any]:
        """The run's report."""
        report: dict[str, Any] = json.loads(self._report_path.read_bytes())
        return report

    @property
    def session(self) -> dict[str, Any]:
        """What the report has of the latest start of the command."""
        session: dict[str, Any] = self.report["sessions"][-1]
        return session


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


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
        self._root = self.url.removesuffix("/v1")
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy has a way to loopback

    @property
    def pid(self) -> int:
        """Its process."""
        pid = self._process.pid
        assert pid is not None, "it is started"
        return pid

    def url_of(self, provider: str) -> str:
        """Return the base URL of one of its providers."""
        return f"{self._root}/{provider}/v1"

    def stats(self, provider: str | None = None) -> dict[str, Any]:
        """Return what it has seen: all of it, or one provider's part."""
        with self._direct.open(f"{self._root}/stats", timeout=30) as reply:
            seen: dict[str, Any] = json.load(reply)
        part: dict[str, Any] = seen["total"] if provider is None else seen["providers"][provider]
        return part

    def fail(self, provider: str, fault: str, seconds: float) -> None:
        """Let every request to one provider fail for so long."""
        body = json.dumps({"fault": fault, "seconds": seconds}).encode()
        with self._direct.open(f"{self._root}/providers/{provider}/fault", body, timeout=30):
            pass


class Column(enum.IntEnum):
    """What the simulator counts in each second."""

    REQUESTS = 1
    ANSWERED = 2
    REFUSED = 3
    FAILED = 4
    TOKENS = 5
    ADMITTED = 6  # not counted by itself: what is refused is refused at once


class Series:
    """What one provider saw, second by second."""

    def __init__(self, stats: Mapping[str, Any]) -> None:
        self.first: float = stats["first"]  # Unix times of the first and the last request
        self.last: float = stats["last"]
        self._seconds: dict[int, list[int]] = {
            entry[0]: [*entry, entry[Column.REQUESTS] - entry[Column.REFUSED]] for entry in stats["series"]
        }

    def count(self, column: Column, second: int) -> int:
        """Return one second's figure."""
        return self._seconds[second][column] if second in self._seconds else 0

    def per_s(self, column: Column, start: float, end: float) -> float:
        """Return the mean over the whole seconds between two Unix times."""
        seconds = range(math.ceil(start), math.floor(end))
        if not seconds:
            raise ItemError(f"no whole second lies between {start:.1f} and {end:.1f}")
        return sum(self.count(column, second) for second in seconds) / len(seconds)

    def lowest(self, column: Column, start: float, end: float, width: int) -> float:
        """Return the lowest mean of so many seconds in a row between two Unix times."""
        return min(
            self.per_s(column, first, first + width) for first in range(math.ceil(start), math.floor(end) - width + 1)
        )


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
