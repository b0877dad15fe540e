"""Embeddings: vectors at full size to Parquet, at a memory that does not grow with the rows; where the time goes.

The shards of a small input are small, and so is what a worker holds of them while they are sealed. So the peaks of a
hundred thousand rows are held against those of twice as many; those of the small input are printed beside them.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

import psutil
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies.embeddings import vector
from scripts import corpus
from scripts.proving.runs import ItemError, Run, Tables, Witness, check, simulator, until, workers

FEW, MANY, TWICE = 20_000, 100_000, 200_000
DIMENSIONS = 1536
ROW_BYTES = 300
WORKERS = 2
MORE_MEMORY = 1.15
SAMPLED = 2_000
Peaks = Mapping[str, int]  # process -> bytes
PROMPT = "{text}"
TABLES: Tables = {
    "task": {"api": "embeddings", "params": {"dimensions": DIMENSIONS}},
    "output": {"path": "out.parquet"},
}
PROFILE_S = 4
SHOWN = 12  # functions of the profile
IDLE = "_worker in concurrent/futures/thread.py"  # a thread without work
_PLACE = re.compile(r" \((.*):\d+\)$")  # of a function, in a profile


def embeddings(folder: Path) -> bool:
    """Compare the peaks of several sizes, look at sampled vectors, and profile a worker."""
    work = folder / "embeddings"
    work.mkdir()
    with simulator(SimulatorSettings(latency_ms=0)) as witness:
        peaks = []
        holds = True
        for rows in (FEW, MANY, TWICE):
            run = _run(work, witness, rows)
            peaks.append(run.session["rss_max_bytes"])
            if rows == MANY:
                holds &= _vectors(run, rows)
            shutil.rmtree(run.folder)
        holds &= _peaks(*peaks)
        _profile(work, witness)
    shutil.rmtree(work)
    return holds


def _prepared(folder: Path, witness: Witness, rows: int, name: str) -> Run:
    source = folder / f"{rows}.jsonl"
    if not source.exists():
        corpus.write(corpus.synthetic(rows, ROW_BYTES), source)
    return Run(folder / name, source, witness.url, PROMPT, workers=WORKERS, tables=TABLES)


def _run(folder: Path, witness: Witness, rows: int) -> Run:
    run = _prepared(folder, witness, rows, f"run-{rows}")
    before = _cpu_s(witness.pid)
    run.finish()
    served = _cpu_s(witness.pid) - before
    session = run.session
    size = rows * DIMENSIONS * 4 / 1e6
    elapsed, own = session["elapsed_s"], session["cpu_s"]
    print(
        f"  {rows:,} rows: {rows / elapsed:,.0f} rows/s, {size / elapsed:,.1f} MB/s of vectors, {elapsed:.1f} s; "
        f"{own / rows * 1e6:.0f} us of CPU a row, the simulator's {served / rows * 1e6:.0f}; "
        f"output {run.output.stat().st_size / 1e6:,.0f} MB"
    )
    return run


def _peaks(few: Peaks, many: Peaks, twice: Peaks) -> bool:
    holds = True
    for process, peak in twice.items():
        ratio = peak / many[process]
        shown = " -> ".join(f"{peaks[process] / 1e6:.0f}" for peaks in (few, many, twice))
        figures = f"{shown} MB; at the last {ratio:.2f} of that before, at most {MORE_MEMORY}"
        holds &= check(f"peak of {process}", ratio <= MORE_MEMORY, figures)
    return holds


def _vectors(run: Run, rows: int) -> bool:
    """Compare sampled vectors with those that the simulator makes of their texts, byte by byte."""
    sampled = set(Random(6).sample(range(rows), min(SAMPLED, rows)))  # noqa: S311 - repeatable, no secret
    place, in_order, right = 0, 0, 0
    with (run.folder.parent / f"{rows}.jsonl").open("rb") as asked:
        for batch in pq.ParquetFile(run.output).iter_batches(1000, columns=["index", "id", "output"]):
            outputs = batch.column("output")
            questions = itertools.islice(asked, batch.num_rows)
            ids = zip(questions, batch.column("index").to_pylist(), batch.column("id").to_pylist(), strict=True)
            for number, (line, index, row_id) in enumerate(ids):
                question = json.loads(line)
                in_order += index == place and row_id == question["id"]
                if place in sampled:
                    right += array("f", outputs[number].as_py()).tobytes() == vector(question["text"], DIMENSIONS)
                place += 1
    holds = check("one row for every row, in order", place == in_order == rows, f"{in_order:,}")
    return holds & check("vectors are the texts' own", right == len(sampled), f"{right:,} of {len(sampled):,} sampled")


def _profile(folder: Path, witness: Witness) -> None:
    """Print how busy the processes are, and in which functions a worker is."""
    run = _prepared(folder, witness, TWICE, "profiled")
    with run.started() as process:
        until(lambda: process.poll() is not None or len(workers(process)) == WORKERS, "both workers at work", 30)
        known = {child.pid: f"worker {number}" for number, child in enumerate(workers(process))}
        watched = {process.pid: "supervisor", **known, witness.pid: "simulator"}
        times = {pid: _cpu_s(pid) for pid in watched}
        began = time.monotonic()
        lines = _functions(next(iter(known), process.pid), folder / "profile.txt")
        spent = time.monotonic() - began
        busy = ", ".join(f"{name} {(_cpu_s(pid) - times[pid]) / spent:.0%}" for pid, name in watched.items())
    print(f"  of a core each, over {spent:.0f} s in the middle: {busy}")
    for line in lines:
        print(f"  {line}")


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise ItemError(f"the run has ended before it was profiled: {error}") from None
    return times.user + times.system


def _functions(pid: int, raw: Path) -> list[str]:
    """Return where a process's time goes, by function; why that is not known, where it is not."""
    program = shutil.which(
        "py-spy", path=os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    )
    if program is None:
        time.sleep(PROFILE_S)
        return ["no functions: py-spy is not installed"]
    done = subprocess.run(
        [program, "record", "--pid", str(pid), "--duration", str(PROFILE_S), "--format", "raw", "--output", str(raw)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not raw.exists():
        return [f"no functions: py-spy: {done.stderr.strip()[-300:]}"]
    samples: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        samples[_PLACE.sub(r" in \1", stack.rpartition(";")[2]) or "outside Python"] += int(count)
    del samples[IDLE]
    total = samples.total()
    return [f"{count / total:6.1%}  {function}" for function, count in samples.most_common(SHOWN)]
