"""The judge recipe on 2,000 real rows: killed twice, its output has the bytes of a run that nothing befell."""

import itertools
import os
import runpy
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from rowmill.interface.cli import recipes
from scripts.proving import faults
from scripts.proving.runs import ItemError, Run, Witness, check, simulator

ROWS = 2_000
STEPS = 4
KILLS = 2
_SETTINGS = SimulatorSettings(latency_ms=50.0, faults={"500": 0.01}, seed=3)


def judge(folder: Path) -> bool:
    """Run the recipe over package descriptions twice, the second time with kills, and count who wins."""
    work = folder / "judge"
    work.mkdir()
    everything, _ = faults.input_of(folder)
    source = work / "descriptions.jsonl"
    with everything.open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    with simulator(_SETTINGS) as witness:
        whole = _prepared(work, "whole", source, witness)
        whole.finish()
    with simulator(_SETTINGS) as witness:
        killed = _prepared(work, "killed", source, witness)
        for kill in range(1, KILLS + 1):
            _kill(killed, witness, kill)
        killed.finish()
        stats = witness.stats()
    same = killed.output.read_bytes() == whole.output.read_bytes()
    twice = sum(session["billed_twice_max"] for session in killed.report["sessions"])
    more = stats["requests"] - STEPS * ROWS - sum(stats["by_fault"].values())
    rates = runpy.run_path(str(killed.folder / "win_rates.py"))
    with killed.output.open(newline="", encoding="utf-8") as file:
        for line in rates["told"](rates["csv"].DictReader(file)):
            print(f"  {line}")
    return check(
        f"killed {KILLS} times",
        same and 0 <= more <= twice,
        f"{'the same bytes' if same else 'OTHER BYTES'}, {killed.report['totals']['rows']:,} rows, {more:,} requests "
        f"more than answers and faults, {twice:,} told at most",
    )


def _prepared(folder: Path, name: str, source: Path, witness: Witness) -> Run:
    """Write the recipe's files, with its input and its provider changed as somebody would."""
    tables: dict[str, Any] = {"output": {"path": "verdicts.csv"}}
    run = Run(folder / name, source, witness.url, "", workers=1, tables=tables)
    (run.folder / "config.toml").unlink()
    recipes.write("judge", run.folder)
    text = (run.folder / "config.toml").read_text(encoding="utf-8")
    text = text.replace('"questions.jsonl"', f'"{source}"').replace("{question}", "What is this? {text}")
    text = text.replace('base_url = "simulator"', f'base_url = "{witness.url}"', 1)
    tomllib.loads(text)
    (run.folder / "config.toml").write_text(text, encoding="utf-8")
    return run


def _kill(run: Run, witness: Witness, kill: int) -> None:
    """Kill all processes once a part of all requests has come."""
    with run.started() as process:
        while process.poll() is None and witness.stats()["requests"] < kill * STEPS * ROWS / (KILLS + 1):
            time.sleep(0.02)
        if process.poll() is not None:
            raise ItemError(f"the run had ended before kill {kill}")
        os.killpg(process.pid, signal.SIGKILL)
