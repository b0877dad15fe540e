"""Real rows at size: order and digests under faults, and the same bytes after every kind of kill."""

import json
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from scripts import corpus
from scripts.proving.runs import ItemError, Run, Witness, check, children, gone, simulator, until, workers

PROMPT = "Describe the package {package} in one line:\n{description}"
FAULTS = {"500": 0.01, "429-bare": 0.009, "429-ms": 0.001, "reset": 0.002, "hang": 0.001}
LATENCY_MS = 20.0
SLOTS = 64
WORKERS = 2  # of all runs but those that compare their number
LEAST_ROWS = 60_000
ORPHANS_S = 10.0
SUPERVISOR_KILLS = 5
WORKER_KILLS = 10
GROUP_S = 0.2  # of replies are in a killed worker's open group: one commit interval, and a sync on a busy disk


def input_of(folder: Path) -> tuple[Path, int]:
    """Make the input once; return it with its rows."""
    path = folder / "packages.jsonl"
    if not path.exists():
        corpus.write(corpus.packages(), path)
    with path.open("rb") as file:
        rows = sum(1 for _ in file)
    if rows < LEAST_ROWS:
        raise ItemError(f"apt knows only {rows:,} packages here, {LEAST_ROWS:,} are wanted")
    return path, rows


def settings(seed: int) -> SimulatorSettings:
    """Return the simulator's settings for one run."""
    return SimulatorSettings(latency_ms=LATENCY_MS, faults=FAULTS, seed=seed)


def packages(folder: Path) -> bool:
    """Run all package descriptions through two workers and a simulator with faults."""
    source, rows = input_of(folder)
    with simulator(settings(1)) as witness:
        run = Run(folder / "packages", source, witness.url, PROMPT, workers=WORKERS, concurrency=SLOTS)
        run.finish()
        stats = witness.stats()
    lines, in_order, own = 0, 0, 0
    with source.open("rb") as asked, run.output.open("rb") as answered:
        for index, (row, line) in enumerate(zip(asked, answered, strict=True)):
            question, answer = json.loads(row), json.loads(line)
            lines += 1
            in_order += answer["index"] == index and answer["id"] == question["id"]
            own += (answer["output"] or "").endswith(f"[{digest(PROMPT.format(**question))}]")
    session = run.report["sessions"][-1]
    print(f"  {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.1f} s, faults {stats['by_fault']}")
    holds = check("one line for every row", lines == rows, f"{lines:,} lines for {rows:,} rows")
    holds &= check("in order, by index and id", in_order == rows, f"{in_order:,}")
    holds &= check("each reply is its own row's", own == rows, f"{own:,} digests")
    return holds & accounts("packages", run, stats, rows, kills=0)


def accounts(name: str, run: Run, stats: dict[str, Any], rows: int, *, kills: int) -> bool:
    """Check that nothing was asked for that was there already. `kills`: of workers, who take requests with them."""
    failed = sum(stats["by_fault"].values())
    report = run.report
    spent = sum(session["elapsed_s"] for session in report["sessions"])
    group = round(rows / spent / WORKERS * GROUP_S)
    most = rows + failed + kills * (SLOTS + group)
    twice = sum(session["billed_twice_max"] for session in report["sessions"])
    return check(
        f"{name}: requests",
        stats["requests"] <= most,
        f"{stats['requests']:,} <= {rows:,} rows + {failed:,} failed + {kills} x ({SLOTS} in flight + {group} in an "
        f"open group) = {most:,}; asked again after an answer: {stats['repeated_after_success']}, "
        f"billed twice at most by the report: {twice}",
    )


def kills(folder: Path) -> bool:
    """Compare the bytes of runs that are killed in every way with those of runs that are not."""
    source, rows = input_of(folder)
    with simulator(settings(2)) as witness:
        run = Run(folder / "one", source, witness.url, PROMPT, workers=1, concurrency=SLOTS)
        run.finish()
        reference = run.output.read_bytes()
        holds = accounts("1 worker", run, witness.stats(), rows, kills=0)
    holds &= check(
        "1 worker", reference.count(b"\n") == rows, f"{len(reference):,} bytes are what all others must have"
    )
    for name, number, one in (
        ("4 workers", 4, _undisturbed),
        (f"supervisor killed {SUPERVISOR_KILLS} times", WORKERS, _kill_supervisor),
        (f"workers killed {WORKER_KILLS} times", WORKERS, _kill_workers),
        ("SIGINT and resume", WORKERS, _interrupt),
    ):
        with simulator(settings(2 + number)) as witness:
            run = Run(folder / name.replace(" ", "-"), source, witness.url, PROMPT, workers=number, concurrency=SLOTS)
            holds &= one(run, witness, rows)
            same = run.output.read_bytes() == reference
            holds &= check(name, same, f"bytes {'are the same' if same else 'differ'}")
            holds &= accounts(name, run, witness.stats(), rows, kills=WORKER_KILLS if one is _kill_workers else 0)
    return holds


def _undisturbed(run: Run, _witness: Witness, _rows: int) -> bool:
    run.finish()
    return True


def _moments(count: int, rows: int) -> list[int]:
    """Return so many random numbers of requests after which to strike, spread over the run."""
    random = Random(rows)  # noqa: S311 - repeatable, no secret
    part = rows // (count + 1)
    return [part * number + random.randint(part // 2, part) for number in range(count)]


def _kill_supervisor(run: Run, witness: Witness, rows: int) -> bool:
    lifetimes = []
    for moment in _moments(SUPERVISOR_KILLS, rows):
        with run.started() as process:
            until(lambda: witness.stats()["requests"] >= moment, "requests")  # noqa: B023 - used at once
            orphans = children(process)
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: all(map(gone, orphans)), "the end of the workers", 60)  # noqa: B023 - used at once
            lifetimes.append(time.monotonic() - killed)
            process.wait()
    run.finish()
    shown = ", ".join(f"{seconds:.1f}" for seconds in lifetimes)
    return check(
        "orphans", max(lifetimes) <= ORPHANS_S, f"outlived the supervisor by {shown} s, at most {ORPHANS_S:g} s"
    )


def _kill_workers(run: Run, witness: Witness, rows: int) -> bool:
    random = Random(rows)  # noqa: S311 - repeatable, no secret
    with run.started() as process:
        for moment in _moments(WORKER_KILLS, rows):
            until(lambda: witness.stats()["requests"] >= moment and workers(process), "requests")  # noqa: B023 - at once
            random.choice(workers(process)).send_signal(signal.SIGKILL)
        code = process.wait()
    deaths = run.report["sessions"][-1]["deaths"]
    return check("workers killed", code == 0 and deaths == WORKER_KILLS, f"{deaths} deaths, exit code {code}")


def _interrupt(run: Run, witness: Witness, rows: int) -> bool:
    with run.started() as process:
        until(lambda: witness.stats()["requests"] >= rows // 2, "requests")
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        code = process.wait()
    took = time.monotonic() - sent
    run.finish()
    return check("SIGINT", code == 130, f"exit code {code} after {took:.1f} s")  # noqa: PLR2004 - the code is the point
