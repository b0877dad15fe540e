"""Kills of anything, at any moment, by hundreds: nothing is lost, nothing is there twice, and the report counts right.

The server is a process of its own, which outlives every kill and counts for itself what came. What it has counted is
held against the report: requests, retries, refusals, and what may have been billed twice.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil

from rowmill.core.errors import ExitCode
from rowmill.core.simulator import SimulatorSettings
from scripts.proving.runs import SOME_FAILED, ItemError, Run, Tables, Witness, check, simulator, until, workers

PROMPT = "Say something about {text}"
WORKERS = 2
SLOTS = 32
FAULTS = {"503": 0.02, "429-ms": 0.02, "500": 0.01, "reset": 0.005}
_SOON_S = 0.1  # some kills come that early in a life
_AT_WORK_S = 0.5  # a life is this old before the others begin to come
_LATEST_S = 1.5
_LONGEST_S = 3600.0  # of all lives of one run
_KINDS = (  # what is killed, and how often it is chosen
    ("worker", 6),
    ("workers", 2),
    ("supervisor", 5),
    ("everything", 3),
    ("SIGTERM", 1),
    ("SIGINT", 1),
    ("SIGINT, SIGKILL", 1),
    ("early", 2),
)


class Case(NamedTuple):
    """One run, and how often it is hit."""

    name: str
    rows: int
    kills: int
    latency_ms: float
    seed: int
    tables: Tables | None = None
    prompts: int | None = None  # different ones among the rows; None where each has its own
    batch: bool = False
    cap: tuple[str, float] | None = None  # a key of [budget], and what of it is given at first


def random_kills(folder: Path) -> bool:
    """Hit 100,000 rows 200 times and more; then smaller runs with caps, packs, shared requests and batches."""
    holds = True
    for case in CASES:
        holds &= kill_at_random(folder, case)
    return holds


CASES = (
    Case("rows", 100_000, 210, 250.0, 11),
    Case("cap on requests", 6_000, 20, 300.0, 12, cap=("max_requests", 4_000)),
    Case(
        "cap on dollars",
        6_000,
        20,
        300.0,
        13,
        # What a kill leaves in hand counts as spent: with the most that a reply may take it would be all at once.
        tables={
            "task": {"params": {"max_tokens": 32}},
            "prices": {"sim-small": {"input": 1.0, "output": 2.0}},
        },
        cap=("max_usd", 0.1),
    ),
    Case("packs", 12_000, 20, 1000.0, 14, tables={"task": {"rows_per_request": 6}}),
    Case("shared requests", 12_000, 20, 500.0, 15, tables={"cache": {"use": "run"}}, prompts=4_000),
    Case(
        "batches",
        6_000,
        12,
        100.0,
        16,
        tables={"task": {"mode": "batch"}, "batch": {"max_requests": 500, "poll_s": 0.1, "poll_max_s": 0.3}},
        batch=True,
    ),
)


def kill_at_random(folder: Path, case: Case) -> bool:
    """Run one case to its end and hold its figures against the server's."""
    source = folder / f"{case.name}.jsonl"
    with source.open("w") as file:
        for row in range(case.rows):
            number = row if case.prompts is None else row % case.prompts
            file.write(json.dumps({"id": f"r{row}", "text": f"thing {number}"}) + "\n")
    random = Random(case.seed)  # noqa: S311 - repeatable, no secret
    print(f"  {case.name}: {case.rows:,} rows, seed {case.seed}", flush=True)
    with simulator(_settings(case)) as witness:
        run = Run(
            folder / case.name.replace(" ", "-"),
            source,
            witness.url,
            PROMPT,
            workers=WORKERS,
            concurrency=SLOTS,
            tables=case.tables,
        )
        done: Counter[str] = Counter()
        holds = True
        if case.cap is not None:
            key, most = case.cap
            run.set(f"budget.{key}", most)
            code = _lives(run, random, case.kills // 2, done)
            holds &= _capped(case, witness, code)
            run.set(f"budget.{key}", 100 * most)
        left = case.kills - done.total()
        code = _lives(run, random, left, done)
        stats = _quiet(witness)
    holds &= check(f"{case.name}: end", code in (0, SOME_FAILED), f"exit code {code}")
    shown = ", ".join(f"{count} x {kind}" for kind, count in sorted(done.items()))
    holds &= check(f"{case.name}: kills", done.total() >= case.kills, f"{done.total()} ({shown})")
    holds &= _output(case, run)
    return holds & figures(case, run, stats, done)


def _settings(case: Case) -> SimulatorSettings:
    faults = {} if case.batch else FAULTS
    lines = {"500": 0.2} if case.batch else {}
    return SimulatorSettings(latency_ms=case.latency_ms, faults=faults, batch_faults=lines, batch_s=6, seed=case.seed)


def _lives(run: Run, random: Random, kills: int, done: Counter[str]) -> int:
    """Start the command again and again, hit it so many times, and return the exit code of its last life."""
    end = time.monotonic() + _LONGEST_S
    hit = 0
    while time.monotonic() < end:
        with run.started() as process:
            while hit < kills:
                kind = random.choices([kind for kind, _ in _KINDS], [often for _, often in _KINDS])[0]
                early = kind == "early"
                wait = random.uniform(0.0, _SOON_S) if early else random.uniform(_AT_WORK_S, _LATEST_S)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(wait)
                    break
                if _hit(process, kind, random):
                    hit += 1
                    done[kind] += 1
            code = process.wait(_LONGEST_S)
        if code in (0, SOME_FAILED, ExitCode.BUDGET):
            return code
        if code not in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143, ExitCode.MACHINE):
            raise ItemError(f"exit code {code}: see {run.folder / 'stderr.txt'}")
    raise ItemError(f"not at its end after {_LONGEST_S:g} s")


def _hit(process: "subprocess.Popen[bytes]", kind: str, random: Random) -> bool:
    """Kill what is named; False where there is none of it now."""
    if kind in ("worker", "workers"):
        until(lambda: process.poll() is not None or workers(process), "a worker that sends", 60)
        at_work = workers(process)
        if not at_work:
            return False
        for each in at_work if kind == "workers" else [random.choice(at_work)]:
            with contextlib.suppress(psutil.Error):
                each.send_signal(signal.SIGKILL)
        return True
    if kind == "everything":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return True
    if kind.startswith("SIGINT"):
        process.send_signal(signal.SIGINT)
        if kind != "SIGINT":
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.0, 0.2))
            process.kill()
    else:
        process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
    process.wait()
    return True


def _quiet(witness: Witness) -> dict[str, Any]:
    """Return the server's figures once it has nothing in flight."""
    stats = witness.stats()
    while stats["in_flight"]:
        time.sleep(0.05)
        stats = witness.stats()
    return stats


def _output(case: Case, run: Run) -> bool:
    """Check that each row has its one line."""
    with run.output.open("rb") as file:
        indexes = Counter(json.loads(line)["index"] for line in file)
    lost = case.rows - len(indexes)
    doubled = sum(count - 1 for count in indexes.values())
    return check(f"{case.name}: output", not lost and not doubled, f"{lost} rows lost, {doubled} doubled")


def figures(case: Case, run: Run, stats: dict[str, Any], done: Counter[str]) -> bool:
    """Hold the report's sums against what the server counted: at least that, and at most in flight more a kill."""
    report = run.report
    sessions = report["sessions"]
    name, room = case.name, SLOTS * WORKERS * done.total()
    batches = stats["batches"]
    counted = {
        # Of a batch, the lines that have brought an answer: the others cost nothing.
        "cost.requests": (report["cost"]["requests"], stats["requests"] + batches["completed"]),
        "requests of all sessions": (
            sum(session["counters"]["requests"] for session in sessions),
            stats["requests"] + batches["requests"],
        ),
    }
    holds = True
    print(f"  {name}: {len(sessions)} sessions in the report")
    for what, (figure, came) in counted.items():
        holds &= check(
            f"{name}: {what}",
            came <= figure <= came + room,
            f"{figure:,}; the server has counted {came:,}",
        )
    twice = sum(session["billed_twice_max"] for session in sessions)
    holds &= check(
        f"{name}: billed twice at most",
        twice >= stats["repeated_after_success"],
        f"{twice:,}; the server has had {stats['repeated_after_success']:,} again after an answer",
    )
    tokens, billed = (
        report["cost"]["tokens"],
        sum(seen[kind] for seen in (stats, batches) for kind in ("prompt_tokens", "completion_tokens")),
    )
    lost = report["cost"]["lost"]
    whole = tokens + lost["prompt_tokens"] + lost["completion_tokens"]
    holds &= check(
        f"{name}: tokens",
        tokens <= billed <= whole * 1.005,
        f"{tokens:,}, and {whole - tokens:,} that may be lost; the server has billed {billed:,}",
    )
    faults: Counter[str] = Counter()
    for session in sessions:
        faults.update(session["counters"]["faults"])
    print(f"  {name}: failures of all sessions {dict(faults)}; the server's {stats['by_fault']}")
    return holds


def _capped(case: Case, witness: Witness, code: int) -> bool:
    assert case.cap is not None
    key, most = case.cap
    stats = _quiet(witness)
    billed = stats["requests"] if key == "max_requests" else _usd(stats, case.tables)
    holds = check(f"{case.name}: exit code", code == ExitCode.BUDGET, str(code))
    return holds & check(f"{case.name}: the bill", billed <= most, f"{billed:,.5f} of {most:,}")


def _usd(stats: dict[str, Any], tables: Tables | None) -> float:
    assert tables is not None
    price = tables["prices"]["sim-small"]
    return float(stats["prompt_tokens"] * price["input"] + stats["completion_tokens"] * price["output"]) / 1e6
