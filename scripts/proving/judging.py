"""The judge recipe on 2,000 real rows: killed twice, its output has the bytes of a run that nothing befell."""

import csv
import itertools
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from rowmill.interface.cli import recipes
from scripts import corpus
from scripts.proving.runs import ItemError, Run, Witness, check, simulator, until

ROWS = 2_000
STEPS = 4
KILLS = 2
_SETTINGS = SimulatorSettings(latency_ms=50.0, faults={"500": 0.01}, seed=3)


def judge(folder: Path) -> bool:
    """Run the recipe over package descriptions twice, the second time with kills, and count who wins."""
    work = folder / "judge"
    work.mkdir()
    source = work / "packages.jsonl"
    corpus.write(itertools.islice(corpus.packages(), ROWS), source)
    with simulator(_SETTINGS) as witness:
        whole = _prepared(work / "whole", source, witness)
        whole.finish()
    with simulator(_SETTINGS) as witness:
        killed = _prepared(work / "killed", source, witness)
        for kill in range(1, KILLS + 1):
            _kill(killed, witness, kill)
        killed.finish()
        stats = witness.stats()
    same = killed.output.read_bytes() == whole.output.read_bytes()
    report = killed.report
    twice = sum(session["billed_twice_max"] for session in report["sessions"])
    more = stats["requests"] - STEPS * ROWS - sum(stats["by_fault"].values())
    holds = check(
        f"killed {KILLS} times",
        same and report["totals"]["rows"] == ROWS and len(report["sessions"]) == KILLS + 1,
        f"{'the same bytes' if same else 'OTHER BYTES'}, {report['totals']['rows']:,} rows, "
        f"{len(report['sessions'])} starts",
    )
    holds &= check("requests", 0 <= more <= twice, f"{more:,} beside answers and faults, {twice:,} told at most")
    (rates,) = report["win_rates"]
    told = [each["rows"] for each in (*rates["wins"], rates["ties"])]
    holds &= check(
        "who wins",
        told == _counted(killed.output) and report["win_rates"] == whole.report["win_rates"],
        f"{rates['between'][0]} {told[0]:,}, {rates['between'][1]} {told[1]:,}, ties {told[2]:,}; else the first "
        f"has {rates['decided']['share']:.1%} ({rates['decided']['low']:.1%} to {rates['decided']['high']:.1%})",
    )
    return holds


def _prepared(folder: Path, source: Path, witness: Witness) -> Run:
    """Write the recipe's files, with its input and its provider changed as somebody would."""
    tables: dict[str, Any] = {"output": {"path": "verdicts.csv"}}
    run = Run(folder, source, witness.url, "", workers=1, tables=tables)
    path = folder / "config.toml"
    path.unlink()
    recipes.write("judge", folder)
    text = path.read_text(encoding="utf-8")
    for old, new in (
        ('"questions.jsonl"', f'"{source}"'),
        ("{question}", "What is the package {package} for? {description}"),
        ('base_url = "simulator"', f'base_url = "{witness.url}"'),
    ):
        if old not in text:
            raise ItemError(f"the recipe has no {old}")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return run


def _kill(run: Run, witness: Witness, kill: int) -> None:
    """Kill all processes once a part of all requests has come."""
    part = kill * STEPS * ROWS // (KILLS + 1)
    with run.started() as process:
        until(lambda: process.poll() is not None or witness.stats()["requests"] >= part, f"{part:,} requests")
        if process.poll() is not None:
            raise ItemError(f"the run had ended before kill {kill}")
        os.killpg(process.pid, signal.SIGKILL)


def _counted(output: Path) -> list[int]:
    """Count who wins by the verdicts in the output: the first answer, the second one, neither."""
    wins: Counter[str] = Counter()
    with output.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            wins[
                {"first second": "first", "second first": "second"}.get(f"{row['judge.winner']} {row['winner']}", "")
            ] += 1
    return [wins["first"], wins["second"], wins[""]]
