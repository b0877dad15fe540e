"""Size: memory at a million rows, two gigabytes of input, the merge of a million rows, and ten rows."""

import functools
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rowmill.core.simulator import SimulatorSettings
from rowmill.files.output.jsonl import Lines
from rowmill.store.merge import Merger
from rowmill.store.seal import read_sealed
from scripts import corpus
from scripts.benchmark.server import serve
from scripts.proving.runs import ItemError, Run, check, simulator, until

PROMPT = "Summarise in one line:\n{text}"
MANY, FEW = 1_000_000, 100_000
ROW_BYTES = 200
MORE_MEMORY = 1.10
MORE_THAN_CAT = 1.5
ROUNDS = 5
LARGE_ROWS, LARGE_ROW_BYTES = 1_050_000, 2048
FIRST_REQUEST_S = 2.0
TEN_ROWS_S = 2.5

# Python tells of a rename before it is done: there the run is killed, all shards sealed and the output not there.
KILLED_AT_ITS_END = """
import os, signal, sys
def hook(event, arguments):
    if event == "os.rename" and os.path.basename(arguments[1]) == "out.jsonl":
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from rowmill.interface.cli import main
main()
"""


def synthetic(folder: Path, rows: int, row_bytes: int) -> Path:
    """Make an input once."""
    path = folder / f"synthetic-{rows}.jsonl"
    if not path.exists():
        corpus.write(corpus.synthetic(rows, row_bytes), path)
    return path


def short(folder: Path) -> bool:
    """Time ten rows, from command to exit."""
    source = synthetic(folder, 10, ROW_BYTES)
    times = []
    with simulator(SimulatorSettings(latency_ms=50)) as witness:
        for number in range(ROUNDS):
            run = Run(folder / f"short-{number}", source, witness.url, PROMPT, workers=2)
            began = time.monotonic()
            run.finish()
            times.append(time.monotonic() - began)
    shown = ", ".join(f"{seconds:.2f}" for seconds in times)
    return check("ten rows", max(times) < TEN_ROWS_S, f"{shown} s, each less than {TEN_ROWS_S:g} s")


def large(folder: Path) -> bool:
    """Time the first request of a run over two gigabytes."""
    source = synthetic(folder, LARGE_ROWS, LARGE_ROW_BYTES)
    times = []
    with simulator(SimulatorSettings(latency_ms=50)) as witness:
        for number in range(3):
            before = witness.stats()["requests"]
            run = Run(folder / f"large-{number}", source, witness.url, PROMPT, workers=2)
            began = time.monotonic()
            with run.started():
                until(lambda: witness.stats()["requests"] > before, "the first request", 60)  # noqa: B023 - used at once
                times.append(time.monotonic() - began)
            shutil.rmtree(run.folder)
    size = source.stat().st_size / 1e9
    source.unlink()
    shown = ", ".join(f"{seconds:.2f}" for seconds in times)
    return check(f"first request over {size:.1f} GB", max(times) < FIRST_REQUEST_S, f"{shown} s, each less than 2 s")


@functools.cache
def million(folder: Path) -> Run:
    """Make a finished run of a million rows; once for all items."""
    return _against_static_server(folder, MANY)


def _against_static_server(folder: Path, rows: int) -> Run:
    source = synthetic(folder, rows, ROW_BYTES)
    files = folder / f"server-{rows}"
    files.mkdir()
    with serve(files, min(os.sched_getaffinity(0))) as server:
        run = Run(folder / f"run-{rows}", source, server.url, PROMPT, workers=2)
        run.finish()
    session = run.report["sessions"][-1]
    print(f"  {rows:,} rows: {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.1f} s, {server.name}")
    return run


def memory(folder: Path) -> bool:
    """Compare the peak memory of each process at a million rows with that at a hundred thousand."""
    few, many = _against_static_server(folder, FEW), million(folder)
    before, after = (run.report["sessions"][-1] for run in (few, many))
    holds = check(
        "in flight", before["in_flight_max"] == after["in_flight_max"], f"{before['in_flight_max']} in both runs"
    )
    for process, peak in after["rss_max_bytes"].items():
        ratio = peak / before["rss_max_bytes"][process]
        figures = f"{before['rss_max_bytes'][process] / 1e6:.1f} -> {peak / 1e6:.1f} MB, {ratio:.3f} of it"
        holds &= check(f"peak of {process}", ratio <= MORE_MEMORY, f"{figures}, at most {MORE_MEMORY}")
    shutil.rmtree(few.folder)
    return holds


def merge(folder: Path) -> bool:
    """Compare the merge of a million sealed rows with `cat` of the same files, each synced, in turns."""
    run = million(folder)
    run.output.unlink()
    with run.started(("-c", KILLED_AT_ITS_END)) as process:
        process.wait()
    sealed = sorted((run.run_dir / "sealed").glob("*.sealed"))
    if run.output.exists() or not sealed:
        raise ItemError("the run could not be stopped before its end")
    target = folder / "merged"
    target.mkdir()
    ours, cats = [], []
    for _ in range(ROUNDS):
        cats.append(_timed(lambda: _cat(sealed, target / "cat")))
        ours.append(_timed(lambda: _merged(sealed, target / "out.jsonl")))
    size = (target / "out.jsonl").stat().st_size
    rows = _lines(target / "out.jsonl")
    shutil.rmtree(target)
    ratio = statistics.median(ours) / statistics.median(cats)
    shown = "; ".join(
        f"{name} {', '.join(f'{t:.2f}' for t in times)} s" for name, times in (("merge", ours), ("cat", cats))
    )
    holds = check("rows merged", rows == MANY, f"{rows:,} in {size / 1e6:.0f} MB from {len(sealed)} shards")
    began = time.monotonic()
    run.finish()
    whole = time.monotonic() - began
    print(f"  the whole command on a run that has only to be finished: {whole:.2f} s")
    return holds & check("merge against cat", ratio <= MORE_THAN_CAT, f"{shown}; medians {ratio:.2f}, at most 1.5")


def _timed(act: Callable[[], None]) -> float:
    os.sync()  # so that neither pays for what the other has left to write
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _cat(sealed: list[Path], target: Path) -> None:
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        subprocess.run(["cat", *map(str, sealed)], stdout=file, check=True)
        os.fsync(file.fileno())


def _merged(sealed: list[Path], target: Path) -> None:
    target.unlink(missing_ok=True)
    merger = Merger(target, target.with_name("errors.jsonl"), Lines())
    for path in sealed:
        footer = read_sealed(path)
        assert footer is not None
        merger.append(path, footer)
    merger.finish()


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
