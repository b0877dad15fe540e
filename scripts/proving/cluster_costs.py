"""What a row costs on a cluster, beside what it costs on one machine, and by the ways that Ray itself has."""

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from scripts import corpus
from scripts.benchmark.server import serve
from scripts.proving.ray_nodes import WITHOUT_ID, RayNodes
from scripts.proving.runs import Run, Tables, check

SLOTS = 64
SIZES, ROW_BYTES = (100_000, 1_000_000), 1_000
ROUNDS = 3  # of one run's CPU a row another differs by a tenth
OTHER_ROWS, OTHERS_S = 20_000, 120.0
MOST_RATIO, MOST_DRIVER_US, MOST_GROWTH, MOST_MB = 1.25, 6.0, 1.1, 25.0
ROOT = Path(__file__).parents[2]
_LOOK_S = 0.2  # between two looks at the CPU time of processes that may end

Sessions = list[dict[str, Any]]  # of a small run and a large one


def costs(folder: Path, nodes: RayNodes) -> bool:
    """Measure CPU and memory a row, of worker, agent and driver, against nginx; beside what Ray itself offers."""
    sources = []
    for rows in SIZES:
        source = folder / f"costs-{rows}.jsonl"
        corpus.write(corpus.synthetic(rows, ROW_BYTES), source)
        sources.append(source)
    ways: dict[str, Tables] = {
        "here": WITHOUT_ID,
        "one node": nodes.tables({"cluster": {"nodes": 1}}),
        "two nodes": nodes.tables({"cluster": {"nodes": 2}}),
    }
    place = folder / "server"
    place.mkdir()
    rounds: list[dict[str, Sessions]] = []
    with serve(place, core=1) as server:
        for number in range(ROUNDS):
            rounds.append({})
            for where in list(ways)[:: -1 if number % 2 else 1]:
                rounds[-1][where] = [
                    _measured(
                        folder / f"costs-{number}-{where.replace(' ', '-')}-{rows}",
                        source,
                        server.url,
                        nodes,
                        ways[where],
                    )
                    for rows, source in zip(SIZES, sources, strict=True)
                ]
                _print(where, rounds[-1][where])
        others = _others(sources[0], server.url, nodes)
    for line in others:
        print(f"  {line}")
    spent = [{where: _slopes(*sessions) for where, sessions in each.items()} for each in rounds]
    ratio = median(
        (each["one node"]["workers"] + each["one node"]["agents"]) / each["here"]["workers"] for each in spent
    )
    holds = check("worker and agent", ratio <= MOST_RATIO, f"{ratio:.3f} of a local worker, at most {MOST_RATIO}")
    driver = median(each["one node"]["driver"] for each in spent)
    holds &= check("driver", driver <= MOST_DRIVER_US, f"{driver:.2f} us a row, at most {MOST_DRIVER_US:g}")
    growth = median(sum(each["two nodes"].values()) / sum(each["one node"].values()) for each in spent)
    holds &= check(
        "a second node", growth <= MOST_GROWTH, f"{growth:.3f} of the CPU a row in all, at most {MOST_GROWTH}"
    )
    for name in ("supervisor", "agent", "worker"):
        small, large = (median(each["one node"][size]["held_mb"][name] for each in rounds) for size in (0, 1))
        holds &= check(f"memory of the {name}", large <= small + MOST_MB, f"{small:.0f} -> {large:.0f} MB")
    return holds


def _measured(folder: Path, source: Path, url: str, nodes: RayNodes, tables: Tables) -> dict[str, Any]:
    """Return the session of a run, with the most memory that was seen."""
    run = Run(folder, source, url, "{text}", workers=1, concurrency=SLOTS, tables=tables)
    held = _finish_watched(run, nodes)
    session = {**run.session, "held_mb": held}
    shutil.rmtree(folder)  # a gigabyte and more
    return session


def _print(where: str, sessions: Sessions) -> None:
    spent = ", ".join(f"{name} {us:.1f}" for name, us in _slopes(*sessions).items())
    print(f"  {where}: {sessions[1]['rows_per_s']:,.0f} rows/s; us a row: {spent}", flush=True)


def _finish_watched(run: Run, nodes: RayNodes) -> dict[str, float]:
    """Run to the end; returns the most memory of its own, in MB, that each kind of process was seen with.

    Pages of Ray's object store are not its own: it may touch all of them, and they are as many as the store has.
    """
    most = {"supervisor": 0.0, "agent": 0.0, "worker": 0.0}
    with run.started() as process:
        while process.poll() is None:
            seen = {"supervisor": [psutil.Process(process.pid)], "agent": [], "worker": []}
            for node in nodes.nodes:
                seen["agent"] += node.agents()
                seen["worker"] += node.workers()
            for name, processes in seen.items():
                most[name] = max(most[name], *map(_own_mb, processes), 0.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        run.wait(process)
    return most


def _own_mb(process: psutil.Process) -> float:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("RssAnon:")[2].split()[0]) / 1e3
    except (OSError, IndexError):  # it has ended
        return 0.0


def _slopes(few: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """Return microseconds of CPU a row, without what a start takes."""

    def of(session: dict[str, Any]) -> dict[str, float]:
        return {
            "driver": session["cpu_of"]["supervisor"],
            "workers": session["cpu_of"]["workers"],
            "agents": sum(node["cpu_s"] for node in session["nodes"]),
        }

    first, second = of(few), of(many)
    rows = SIZES[1] - SIZES[0]
    return {name: (second[name] - first[name]) / rows * 1e6 for name in first}


def _others(source: Path, url: str, nodes: RayNodes) -> list[str]:
    """Run the ways that Ray itself has, on the same cluster, server and rows; returns a line for each."""
    lines = []
    for way in ("map_batches", "http_processor"):
        began = time.monotonic()
        command = [sys.executable, "-m", "scripts.proving.ray_ways", way, url, str(source), str(OTHER_ROWS)]
        try:
            with _metered(nodes) as spent_s:
                done = subprocess.run(
                    command, env=nodes.env, cwd=ROOT, capture_output=True, timeout=OTHERS_S, check=False, text=True
                )
        except subprocess.TimeoutExpired:
            lines.append(f"{way}: not through within {OTHERS_S:g} s")
            continue
        if done.returncode:
            lines.append(f"{way}: did not run: {done.stderr.strip().splitlines()[-1:]}")
            continue
        seconds, own = time.monotonic() - began, float(done.stdout.split()[-1])
        spent = (sum(spent_s.values()) + own) / OTHER_ROWS * 1e6
        lines.append(
            f"{way}: {OTHER_ROWS / seconds:,.0f} rows/s, at least {spent:,.0f} us of CPU a row, with the start"
        )
    return lines


@contextlib.contextmanager
def _metered(nodes: RayNodes) -> Iterator[dict[tuple[int, float], float]]:
    """Gather the CPU seconds of each process of the nodes, also of those that end meanwhile: a raylet forgets them."""
    spent: dict[tuple[int, float], float] = {}
    before: dict[tuple[int, float], float] = {}
    over = threading.Event()

    def look() -> None:
        for each in (process for node in nodes.nodes for process in node.processes()):
            with contextlib.suppress(psutil.Error):
                times, key = each.cpu_times(), (each.pid, each.create_time())
                spent[key] = times.user + times.system - before.get(key, 0.0)

    def watch() -> None:
        while not over.wait(_LOOK_S):
            look()

    look()
    before.update(spent)
    spent.clear()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield spent
    finally:
        over.set()
        watcher.join()
        look()
