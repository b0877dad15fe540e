"""Deadlines: batches for the bulk, the live API for what is late, and all answers in time."""

import itertools
import json
import time
from pathlib import Path

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from scripts.proving import faults
from scripts.proving.estimates import PRICES, PROMPT
from scripts.proving.runs import Run, Tables, check, simulator

ROWS = 6_000
PART_ROWS = 2_000
DEADLINE_S = 30.0
BATCH_S = 3.0
TABLES: Tables = {
    "task": {"mode": "auto"},
    "batch": {"deadline_s": DEADLINE_S, "max_requests": PART_ROWS, "poll_s": 0.25, "poll_max_s": 1.0},
    **PRICES,
}


def deadline(folder: Path) -> bool:
    """Run with batches that are in time, with one that is stuck, and with one that cannot even be cancelled."""
    work = folder / "deadline"
    work.mkdir()
    everything, _ = faults.input_of(folder)
    source = work / "rows.jsonl"
    with everything.open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    holds = _run(work, source, "in time", "ok")
    holds &= _run(work, source, "stuck", "stuck:0.5")
    return holds & _run(work, source, "stuck for good", "stuck:cancelling")


def _run(folder: Path, source: Path, name: str, fate: str) -> bool:
    """Run with this fate of the second of three batches."""
    with simulator(SimulatorSettings(batch_s=BATCH_S, batch_script=("ok", fate, "ok"))) as witness:
        run = Run(folder / name.replace(" ", "-"), source, witness.url, PROMPT, workers=2, tables=TABLES)
        began = time.monotonic()
        run.finish()
        took = time.monotonic() - began
        stats = witness.stats()
    own = _own_answers(run, source)
    holds = check(
        f"{name}: all answers are there",
        own == ROWS and took < DEADLINE_S,
        f"{own:,} after {took:.1f} s of {DEADLINE_S:g}",
    )
    cost = run.report["cost"]
    for line in cost["lines"]:
        print(f"       by the report: {line['spent']['requests']:,} {line['mode']} for {line['usd']:.4f} USD")
    by_batch, live = stats["batches"]["completed"], stats["requests"]
    twice = by_batch + live - ROWS
    most = sum(session["billed_twice_max"] for session in run.report["sessions"])
    holds &= check(
        f"{name}: paid twice",
        twice == 0 if fate != "stuck:cancelling" else 0 < twice <= most,
        f"{twice:,}: {by_batch:,} answered in batches, {live:,} live; {most:,} at most by the report",
    )
    if fate == "ok":
        holds &= check(f"{name}: live requests", live == 0, f"{live:,}")
    return holds


def _own_answers(run: Run, source: Path) -> int:
    own = 0
    with source.open("rb") as asked, run.output.open("rb") as answered:
        for question, line in itertools.zip_longest(asked, answered, fillvalue=b"{}"):
            row, answer = json.loads(question), json.loads(line)
            if answer.get("id") == row.get("id"):
                own += (answer["output"] or "").endswith(f"[{digest(PROMPT.format(**row))}]")
    return own
