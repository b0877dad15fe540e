"""Formats: the same real rows from every input format to every output format, whole and in order, and at what cost.

The machine's speed drifts while all of them run, so each is compared with the runs from JSON Lines to JSON Lines that
came before and after the runs of its input format. What must hold is measured by itself, in turns.
"""

import itertools
import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.benchmark.server import serve
from scripts.proving import faults
from scripts.proving.format_files import INPUTS, OUTPUTS, Answered, Row, request
from scripts.proving.runs import ItemError, Run, check

ROWS = 60_000
WORKERS = 2
PAIRS = 5
LEAST_PARQUET = 0.8
MODEL = "sim-small"
USUAL = "jsonl"
TABLE = "parquet"


class Cell(NamedTuple):
    """One run."""

    wrong: str  # what is wrong with its output; empty where nothing is
    seconds: float = 0.0  # from command to exit
    cpu_us: float = 0.0  # of a row: of all processes, their start included
    rss: Mapping[str, int] = {}  # peak bytes of the supervisor and of the largest worker


def formats(folder: Path) -> bool:
    """Run every input format to every output format; then Parquet to Parquet beside JSON Lines, in turns."""
    source, _ = faults.input_of(folder)
    with source.open("rb") as file:
        rows = [json.loads(line) for line in itertools.islice(file, ROWS)]
    work = folder / "formats"
    work.mkdir()
    with serve(work, min(os.sched_getaffinity(0))) as server:
        bench = Bench(work, rows, server.url)
        print(f"  {len(rows):,} rows, {WORKERS} workers, {server.name}")
        holds = _table(bench)
        holds &= _parquet(bench)
    shutil.rmtree(work)
    return holds


class Bench:
    """Runs the rows from one format to another. Mutable state: the number of the next run."""

    def __init__(self, folder: Path, rows: Sequence[Row], url: str) -> None:
        """Write the inputs."""
        self._folder = folder
        self._rows = rows
        self._url = url
        self._runs = itertools.count()
        requests = [request(row, faults.PROMPT, MODEL) for row in rows]
        self._inputs = {
            name: write(requests if name == "batch" else rows, folder / path) for name, (path, write) in INPUTS.items()
        }

    def run(self, source: str, target: str) -> Cell:
        """Run once and look at all that was written."""
        output = OUTPUTS[target]
        tables: dict[str, Mapping[str, Any]] = {"output": output.keys}
        if source == "batch":  # its lines say it themselves
            tables |= {"input": {"id": None}, "task": {"model": None, "prompt": None}}
        folder = self._folder / f"run-{next(self._runs)}"
        run = Run(folder, self._inputs[source], self._url, faults.PROMPT, workers=WORKERS, tables=tables)
        began = time.monotonic()
        try:
            run.finish()
            seconds = time.monotonic() - began
            wrong = self._wrong(source, list(output.read(run.output)), kept="include" in output.keys)
            session = run.session
        except (ItemError, KeyError, ValueError, OSError) as error:  # one that is broken must not hide the others
            return Cell(str(error) or repr(error))
        finally:
            shutil.rmtree(folder)
        return Cell(wrong, seconds, session["cpu_s"] / len(self._rows) * 1e6, session["rss_max_bytes"])

    def _wrong(self, source: str, found: Sequence[Answered], *, kept: bool) -> str:
        if len(found) != len(self._rows):
            return f"{len(found):,} rows"
        for index, (row, one) in enumerate(zip(self._rows, found, strict=True)):
            if one.place != index or one.id != row["id"]:
                return f"row {index}, {row['id']!r}, is in the output as {one.place}, {one.id!r}"
            if not one.output:
                return f"row {index} has no output"
            if kept and not _same(source, row, one.input):
                return f"the input of row {index} is in the output as {one.input}"
        return ""


def _same(source: str, row: Row, given: Mapping[str, Any] | None) -> bool:
    if source != "batch" or given is None:
        return given == row
    return {**given, "body": json.loads(given["body"])} == request(row, faults.PROMPT, MODEL)


def _table(bench: Bench) -> bool:
    print(f"  {'input -> output':24}{'s':>6} {'CPU us/row':>11} {'of JSONL':>9}  peak RSS of worker, supervisor")
    wrong = []
    usual = bench.run(USUAL, USUAL)
    for source in INPUTS:
        cells = {target: bench.run(source, target) for target in OUTPUTS if (source, target) != (USUAL, USUAL)}
        before, usual = usual, bench.run(USUAL, USUAL)
        around = (before.cpu_us + usual.cpu_us) / 2
        if source == USUAL:
            cells = {USUAL: before, **cells}
        for target, cell in cells.items():
            name = f"{source} -> {target}"
            if cell.wrong:
                wrong.append(f"{name}: {cell.wrong}")
                print(f"  {name:24}  {cell.wrong.splitlines()[-1]}")
            else:
                ratio = f"{cell.cpu_us / around:9.2f}" if around else f"{'-':>9}"
                print(
                    f"  {name:24}{cell.seconds:6.1f} {cell.cpu_us:11.0f} {ratio}  {_memory(cell, 'worker')}, "
                    f"{_memory(cell, 'supervisor')}",
                    flush=True,
                )
    for each in wrong:
        print(f"  {each}")
    cells_in_all = len(INPUTS) * len(OUTPUTS)
    return check("complete and in order", not wrong, f"{cells_in_all - len(wrong)} of {cells_in_all}")


def _memory(cell: Cell, process: str) -> str:
    return f"{cell.rss[process] / 1e6:.0f} MB" if process in cell.rss else "-"


def _parquet(bench: Bench) -> bool:
    runs: dict[str, list[Cell]] = {USUAL: [], TABLE: []}
    for _ in range(PAIRS):
        for name, cells in runs.items():
            cells.append(bench.run(name, name))
    for cell in itertools.chain(*runs.values()):
        if cell.wrong:
            raise ItemError(cell.wrong)
    per_s = {name: [1e6 / cell.cpu_us for cell in cells] for name, cells in runs.items()}
    share = statistics.median(per_s[TABLE]) / statistics.median(per_s[USUAL])
    shown = "; ".join(f"{name} {', '.join(f'{each:,.0f}' for each in found)}" for name, found in per_s.items())
    return check(
        "Parquet to Parquet, rows/s of a core",
        share >= LEAST_PARQUET,
        f"{shown}; medians {share:.1%} of JSON Lines', at least {LEAST_PARQUET:.0%}",
    )
