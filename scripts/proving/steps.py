"""Three steps take little longer than the slowest one alone; killed in any of them, or capped, they lose nothing."""

import json
import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

from rowmill.core.errors import ExitCode
from rowmill.core.simulator import SimulatorSettings
from scripts.proving.runs import ItemError, Run, Witness, check, simulator

ROWS = 60_000
FEW = 6_000  # rows whose memory is the measure
RATES = {"draft": 40_000, "judge": 30_000, "title": 36_000}  # requests a minute that each step's provider lets through
SLOWEST = "judge"
MOST_OF_SLOWEST = 1.15
MOST_MORE_MEMORY = 1.2
MOST_OFF = 0.01  # of the cap
KILLS = 4
LATENCY_MS = 100.0
_SCHEMA = {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}}
_STEPS: list[dict[str, Any]] = [
    {"name": "draft", "prompt": "Draft: {text}"},
    {"name": "judge", "prompt": "Judge {draft}", "schema": _SCHEMA},
    {"name": "title", "prompt": "Title of {draft}, at {judge.score}"},
]


def steps(folder: Path) -> bool:
    """Run three steps over 60,000 rows beside the slowest of them alone, then the same killed and capped."""
    work = folder / "steps"
    work.mkdir()
    source, few = _source(work, ROWS), _source(work, FEW)
    alone = _timed(work, "alone", source, only=SLOWEST)
    run = _timed(work, "together", source)
    together = run.session["elapsed_s"]
    limit = alone.session["elapsed_s"]
    holds = check(
        "three steps beside the slowest alone",
        together <= MOST_OF_SLOWEST * limit,
        f"{together:.1f} s, {limit:.1f} s: {together / limit:.3f} of it",
    )
    small = _timed(work, "few", few).session["rss_max_bytes"]
    large = run.session["rss_max_bytes"]
    holds &= check(
        f"memory at {ROWS:,} rows beside {FEW:,}",
        all(large[who] <= MOST_MORE_MEMORY * small[who] for who in small),
        ", ".join(f"{who} {large[who] / 2**20:.0f} MiB, {small[who] / 2**20:.0f} MiB" for who in small),
    )
    holds &= _complete(run)
    return holds & _killed(work, source, run) & _capped(work, source)


def _source(folder: Path, rows: int) -> Path:
    path = folder / f"rows-{rows}.jsonl"
    words = "one line of text of no meaning, there to make a prompt that is as long as most; " * 4
    lines = (json.dumps({"id": index, "text": f"row {index}: {words}"}) + "\n" for index in range(rows))
    path.write_text("".join(lines))
    return path


def _served() -> SimulatorSettings:
    return SimulatorSettings(
        latency_ms=LATENCY_MS,
        providers={
            name: SimulatorSettings(latency_ms=LATENCY_MS, requests_per_minute=rate) for name, rate in RATES.items()
        },
    )


def _prepared(folder: Path, name: str, source: Path, witness: Witness, *, only: str | None = None) -> Run:
    """Write the configuration of all three steps, or of the one that is asked for, about what it is asked in all."""
    names = list(RATES) if only is None else [only]
    providers = [{"name": each, "base_url": witness.url_of(each), "requests_per_minute": RATES[each]} for each in names]
    prompt = None if only is None else "Judge {text}"
    run = Run(folder / name, source, providers, "", workers=1, concurrency="auto", tables={"task": {"prompt": prompt}})
    if only is None:
        with (run.folder / "config.toml").open("a") as config:
            for step in _STEPS:
                config.write("[[step]]\n")
                config.writelines(
                    f"{key} = {_toml(value)}\n" for key, value in (step | {"provider": step["name"]}).items()
                )
    return run


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def _timed(folder: Path, name: str, source: Path, *, only: str | None = None) -> Run:
    with simulator(_served()) as witness:
        run = _prepared(folder, name, source, witness, only=only)
        run.finish()
        session = run.session
        print(
            f"  {name}: {run.report['totals']['rows']:,} rows in {session['elapsed_s']:.1f} s, CPU {session['cpu_of']}"
        )
        return run


def _complete(run: Run) -> bool:
    lines = sum(1 for _ in run.output.open("rb"))
    figures = [(step["rows"], step["failed"]) for step in run.report["steps"]]
    return check("every row of every step", (lines, figures) == (ROWS, [(ROWS, 0)] * 3), f"{lines:,} lines, {figures}")


def _killed(folder: Path, source: Path, whole: Run) -> bool:
    """Kill all processes at moments that lie all over the run, and hold its output against that of the whole one."""
    random = Random(7)  # noqa: S311 - repeatable, no secret
    with simulator(_served()) as witness:
        run = _prepared(folder, "killed", source, witness)
        for kill in range(KILLS):
            with run.started() as process:
                run.begin(process, witness)
                asked = witness.stats()["requests"]
                more = random.uniform(0.5, 1.0) * 3 * ROWS / (KILLS + 1)
                while process.poll() is None and witness.stats()["requests"] < asked + more:
                    time.sleep(0.05)
                if process.poll() is not None:
                    raise ItemError(f"the run had ended before kill {kill + 1}")
                os.killpg(process.pid, signal.SIGKILL)
        run.finish()
        stats = witness.stats()
    same = run.output.read_bytes() == whole.output.read_bytes()
    twice = sum(session["billed_twice_max"] for session in run.report["sessions"])
    asked = stats["requests"] - 3 * ROWS
    return check(
        f"killed {KILLS} times",
        same and 0 <= asked <= twice,
        f"{'the same bytes' if same else 'OTHER BYTES'}, {asked:,} requests more than rows, {twice:,} told at most",
    )


def _capped(folder: Path, source: Path) -> bool:
    cap = ROWS
    with simulator(_served()) as witness:
        run = _prepared(folder, "capped", source, witness)
        run.set("budget.max_requests", cap)
        run.finish(ExitCode.BUDGET)
        asked = witness.stats()["requests"]
    figures = [(step["name"], step["requests"]) for step in run.report["steps"]]
    return check("one cap over all steps", abs(asked / cap - 1) <= MOST_OFF, f"{asked:,} of {cap:,}: {figures}")
