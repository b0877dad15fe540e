"""Duplicates: rows that ask the same are sent once, by all workers together, and never again where replies are kept."""

import itertools
import json
import os
import shutil
import statistics
from pathlib import Path
from random import Random
from typing import Any

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from scripts.benchmark.server import serve
from scripts.proving import faults
from scripts.proving.runs import Run, Tables, check, simulator

ROWS = 100_000
REPEATED = 0.4
WORKERS = 4
ROUNDS = 3
FAULTS = {"500": 0.002}


def duplicates(folder: Path) -> bool:
    """Count requests of a run, and of a second one that shares its cache; print what a row costs either way."""
    work = folder / "duplicates"
    work.mkdir()
    source, distinct = _write(folder, work / "rows.jsonl")
    tables: Tables = {"cache": {"use": "disk", "dir": str(work / "cache")}}
    holds = True
    with simulator(SimulatorSettings(latency_ms=faults.LATENCY_MS, faults=FAULTS)) as witness:
        runs = [Run(work / name, source, witness.url, faults.PROMPT, workers=WORKERS, tables=tables) for name in "ab"]
        asked = []
        for run in runs:
            run.finish()
            asked.append(witness.stats()["requests"])
            session = run.session
            print(f"  {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.1f} s")
        failed = sum(witness.stats()["by_fault"].values())
    first, second = (run.session["counters"] for run in runs)
    holds &= check(
        "first run: requests",
        asked[0] == distinct + failed,
        f"{asked[0]:,} = {distinct:,} distinct of {ROWS:,} rows + {failed:,} that failed",
    )
    holds &= _counted("first run", first, cached=0, duplicates=ROWS - distinct)
    again = asked[1] - asked[0]
    holds &= check("second run: requests", again == 0, f"{again:,}")
    holds &= _counted("second run", second, cached=ROWS, duplicates=0)
    holds &= _own_answers("first run", runs[0], source)
    same = runs[0].output.read_bytes() == runs[1].output.read_bytes()
    holds &= check("second run: output", same, f"bytes {'are the same' if same else 'differ'}")
    _print_costs(work, source)
    shutil.rmtree(work)
    return holds


def _write(folder: Path, path: Path) -> tuple[Path, int]:
    """Write rows of which some ask what another one asks; return the file and how many different things they ask."""
    source, _ = faults.input_of(folder)
    different: dict[str, dict[str, str]] = {}
    wanted = round(ROWS * (1 - REPEATED))
    with source.open("rb") as file:
        for row in map(json.loads, file):
            different.setdefault(faults.PROMPT.format(**row), row)  # two versions of a package may be told of alike
            if len(different) == wanted:
                break
    random = Random(5)  # noqa: S311 - repeatable, no secret
    rows = list(different.values())
    rows += random.choices(rows, k=ROWS - len(rows))
    random.shuffle(rows)
    with path.open("w", encoding="utf-8") as file:
        for index, row in enumerate(rows):
            file.write(json.dumps({**row, "id": f"row-{index}"}, ensure_ascii=False) + "\n")
    return path, len(different)


def _counted(name: str, counters: dict[str, Any], **wanted: int) -> bool:
    found = {key: counters[key] for key in wanted}
    return check(f"{name}: counted", found == wanted, ", ".join(f"{count:,} {key}" for key, count in found.items()))


def _own_answers(name: str, run: Run, source: Path) -> bool:
    own = 0
    with source.open("rb") as asked, run.output.open("rb") as answered:
        for index, (question, line) in enumerate(itertools.zip_longest(asked, answered, fillvalue=b"{}")):
            row, answer = json.loads(question), json.loads(line)
            if answer.get("index") == index and answer["id"] == row.get("id"):
                own += (answer["output"] or "").endswith(f"[{digest(faults.PROMPT.format(**row))}]")
    return check(f"{name}: each row has its own answer, in order", own == ROWS, f"{own:,}")


def _print_costs(folder: Path, source: Path) -> None:
    """Print the CPU of a row in each mode, against a server whose own cost does not count."""
    costs: dict[str, list[float]] = {"off": [], "run": [], "disk, empty": [], "disk, full": []}
    with serve(folder, min(os.sched_getaffinity(0))) as server:
        for number in range(ROUNDS):
            kept = folder / f"kept-{number}"
            for name, found in costs.items():
                cache = {"use": name.partition(",")[0], "dir": str(kept)}
                run = Run(folder / "cost", source, server.url, faults.PROMPT, workers=2, tables={"cache": cache})
                run.finish()
                found.append(run.session["cpu_s"] / ROWS * 1e6)
                shutil.rmtree(run.folder)
            shutil.rmtree(kept)
    for name, found in costs.items():
        shown = ", ".join(f"{each:.0f}" for each in found)
        print(f"  cache {name}: {shown}; median {statistics.median(found):.0f} us of CPU a row, all processes")
