"""A run on a cluster: the same bytes as on one machine, whatever becomes of its nodes, and what it costs."""

import contextlib
import csv
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.benchmark.server import serve
from scripts.proving import faults, ray_elastic
from scripts.proving.ray_nodes import RayNode, RayNodes, ray_nodes
from scripts.proving.runs import ItemError, Run, Series, Tables, Witness, check, gone, simulator, until

ROWS = 60_000
NODES = 3
SLOTS = 64
GONE_S = 10.0  # within which no worker is left of an agent or a driver that is gone
LEASED_S = 15.0  # of a stop: longer than a lease lives, and than a driver waits
LIMIT, LIMITED_ROWS = 6_000, 12_000
LEAST_USED, MOST_REFUSED = 0.98, 0.001
BUDGET = 3  # the command's exit code
SIZES, ROW_BYTES = (100_000, 1_000_000), 1_000
OTHER_ROWS, OTHERS_S = 20_000, 120.0
MOST_RATIO, MOST_DRIVER_US, MOST_GROWTH, MOST_MB = 1.25, 6.0, 1.1, 25.0
_LOOK_S = 0.2  # between two looks at the CPU time of processes that may end
ROOT = Path(__file__).parents[2]
_CARRIED: Tables = {"input": {"id": None}}
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "score": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["topic", "score"],
    "additionalProperties": False,
}


def cluster(folder: Path) -> bool:
    """Run on three nodes what is run on one machine, disturbed in every way."""
    source = _input(folder)
    with ray_nodes(NODES) as nodes:
        holds = same_bytes(folder, source, nodes)
        holds &= disturbed(folder, source, nodes)
        holds &= limits(folder, nodes)
        holds &= costs(folder, nodes)
    holds &= ray_elastic.autoscaled(folder)
    return holds & ray_elastic.environments(folder)


def _input(folder: Path) -> Path:
    everything, _ = faults.input_of(folder)
    source = folder / "cluster.jsonl"
    with everything.open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    return source


def on(nodes: RayNodes, tables: Tables | None = None) -> dict[str, Any]:
    """Return the tables of a run on the cluster."""
    more = dict(tables or {})
    cluster = {"engine": "ray", "address": nodes.address, "input": "carry", **more.pop("cluster", {})}
    return {**more, "cluster": cluster}


# The same bytes


def same_bytes(folder: Path, source: Path, nodes: RayNodes) -> bool:
    """Compare output of the cluster with that of one machine: formats, structured replies, packs, embeddings."""
    table, parquet = folder / "cluster.csv", "out.parquet"
    _as_csv(source, table)
    cases: list[tuple[str, Path, Tables, SimulatorSettings]] = [
        ("JSON lines, faults", source, {}, faults.settings(21)),
        ("CSV to Parquet", table, {"output": {"path": parquet, "include": ["input"]}}, faults.settings(22)),
        ("structured", source, {"task": {"schema": "schema.json"}}, SimulatorSettings(seed=23)),
        ("packed", source, {"task": {"rows_per_request": 20}}, SimulatorSettings(seed=24)),
        ("embeddings", source, {"task": {"api": "embeddings"}}, SimulatorSettings(seed=25)),
    ]
    holds = True
    for number, (name, given, tables, settings) in enumerate(cases):
        outputs = []
        for where, more in (("here", tables), ("there", on(nodes, tables))):
            with simulator(settings) as witness:
                run = _run(folder / f"same-{number}-{where}", given, witness, more)
                run.finish()
                outputs.append(run.output.read_bytes())
        session = run.session
        spread = ", ".join(f"{each['node']} {each['rows']:,}" for each in session["nodes"])
        same = outputs[0] == outputs[1]
        holds &= check(
            f"{name}: same bytes",
            same and run.report["totals"]["rows"] == ROWS,
            f"{len(outputs[1]):,} bytes, {session['rows_per_s']:,.0f} rows/s; rows by node: {spread}",
        )
    return holds


def _run(folder: Path, source: Path, witness: Witness, tables: Tables, prompt: str = faults.PROMPT) -> Run:
    if "schema" in tables.get("task", {}):
        run = Run(folder, source, witness.url, prompt, workers=1, concurrency=SLOTS, tables=tables)
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        return run
    return Run(folder, source, witness.url, prompt, workers=1, concurrency=SLOTS, tables=tables)


def _as_csv(source: Path, target: Path) -> None:
    with source.open("rb") as lines, target.open("w", newline="") as file:
        first = json.loads(next(lines))
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(map(json.loads, lines))


# Disturbed


def disturbed(folder: Path, source: Path, nodes: RayNodes) -> bool:
    """Compare the bytes of runs whose nodes, agents, workers and driver are killed or stopped with those of one not."""
    with simulator(faults.settings(31)) as witness:
        run = _run(folder / "undisturbed", source, witness, {})
        run.finish()
        reference = run.output.read_bytes()
    holds = True
    cases: list[tuple[str, Callable[[Run, Witness, RayNodes], int]]] = [
        ("a raylet killed three times, nodes added", _kill_raylets),
        ("an agent killed", _kill_agent),
        ("a worker killed", _kill_worker),
        ("a node stopped past its lease", _stop_node),
        ("the driver killed", _kill_driver),
    ]
    for number, (name, disturb) in enumerate(cases):
        with simulator(faults.settings(32 + number)) as witness:
            run = _run(folder / f"disturbed-{number}", source, witness, on(nodes))
            lost = disturb(run, witness, nodes)
            stats = witness.stats()
        same = run.output.read_bytes() == reference
        holds &= check(f"{name}: bytes", same, "the same" if same else "differ")
        holds &= _accounts(name, run, stats, lost)
    return holds


def _accounts(name: str, run: Run, stats: dict[str, Any], lost: int) -> bool:
    """Check that nothing was asked again but what was in flight, or in an open group, of so many lost workers."""
    failed = sum(stats["by_fault"].values())
    speed = max(session["rows_per_s"] for session in run.report["sessions"])
    group = round(speed / NODES * 2 * faults.GROUP_S)  # a commit interval, and as much on the way
    most = ROWS + failed + lost * (SLOTS + group)
    return check(
        f"{name}: requests",
        stats["requests"] <= most,
        f"{stats['requests']:,} <= {ROWS:,} rows + {failed:,} failed + {lost} x ({SLOTS} in flight + {group} in an "
        f"open group) = {most:,}; answered twice: {stats['repeated_after_success']}; billed twice at most by the "
        f"report: {sum(session['billed_twice_max'] for session in run.report['sessions'])}",
    )


@contextlib.contextmanager
def _at_work(run: Run, witness: Witness) -> Iterator[Callable[[float], None]]:
    """Run the command; yields what waits until a part of the rows is asked. Ends when the run has."""
    with run.started() as process:
        run.begin(process, witness)

        def asked(part: float) -> None:
            until(lambda: process.poll() is not None or witness.stats()["requests"] >= part * ROWS, f"{part:.0%}")
            if process.poll() is not None:
                raise ItemError(f"the run has ended before {part:.0%}")

        yield asked
        run.wait(process)


def _busy(nodes: RayNodes, *, not_head: bool = False) -> RayNode:
    """Return a node that has workers."""
    found: list[RayNode] = []

    def some() -> bool:
        found[:] = [each for each in nodes.nodes[int(not_head) :] if each.workers()]
        return bool(found)

    until(some, "a node with workers", 60)
    return Random(len(found)).choice(found)  # noqa: S311 - repeatable, no secret


def _kill_raylets(run: Run, witness: Witness, nodes: RayNodes) -> int:
    with _at_work(run, witness) as asked:
        for part in (0.2, 0.45, 0.7):
            asked(part)
            node = _busy(nodes, not_head=True)
            left = [*node.agents(), *node.workers()]
            node.raylet.kill()
            _all_gone(left, "a killed raylet's agent and workers")
            node.end()
            nodes.nodes.remove(node)
            nodes.add()
    return 3


def _kill_agent(run: Run, witness: Witness, nodes: RayNodes) -> int:
    with _at_work(run, witness) as asked:
        asked(0.4)
        node = _busy(nodes)
        left = node.workers()
        node.agents()[0].kill()
        _all_gone(left, "a killed agent's workers")
    return 1


def _kill_worker(run: Run, witness: Witness, nodes: RayNodes) -> int:
    with _at_work(run, witness) as asked:
        asked(0.4)
        _busy(nodes).workers()[0].kill()
    return 1


def _stop_node(run: Run, witness: Witness, nodes: RayNodes) -> int:
    with _at_work(run, witness) as asked:
        asked(0.3)
        node = _busy(nodes, not_head=True)
        left = node.workers()
        node.stop()
        time.sleep(LEASED_S)
        before = _connections(left)
        node.stop(signal.SIGCONT)
        _all_gone(left, "workers of a node that was stopped")
        print(f"  {before} connections were open when it went on")
    return 1


def _kill_driver(run: Run, witness: Witness, nodes: RayNodes) -> int:
    with run.started() as process:
        run.begin(process, witness)
        until(lambda: witness.stats()["requests"] >= 0.4 * ROWS, "40%")
        left = [worker for node in nodes.nodes for worker in node.workers()]
        process.kill()
        process.wait()
        _all_gone(left, "a killed driver's workers")
    run.finish()
    return NODES


def _connections(processes: list[psutil.Process]) -> int:
    count = 0
    for each in processes:
        with contextlib.suppress(psutil.Error):
            count += len(each.net_connections("tcp"))
    return count


def _all_gone(processes: list[psutil.Process], what: str) -> None:
    began = time.monotonic()
    until(lambda: all(map(gone, processes)), f"{what}: all {len(processes)} gone", GONE_S)
    print(f"  {what}: {len(processes)} gone within {time.monotonic() - began:.1f} s")


# Limits and caps


def limits(folder: Path, nodes: RayNodes) -> bool:
    """Use up a limit over all nodes, while one dies and another joins; then stop at caps."""
    source = folder / "limits.jsonl"
    rows = corpus.write(corpus.synthetic(LIMITED_ROWS, 200), source)
    settings = SimulatorSettings(latency_ms=200, requests_per_minute=LIMIT)
    with simulator(settings) as witness:
        provider = {"name": "main", "base_url": witness.url, "timeout_s": 60, "requests_per_minute": LIMIT}
        run = Run(
            folder / "limited", source, [provider], "{text}", workers=1, concurrency="auto", tables=on(nodes, _CARRIED)
        )
        with run.started() as process:
            first = run.begin(process, witness)
            run.last_until(first + 20, process)
            node = _busy(nodes, not_head=True)
            node.raylet.kill()
            node.end()
            nodes.nodes.remove(node)
            nodes.add()
            run.wait(process)
        stats = witness.stats()
    series = Series(stats)
    seconds = series.last - series.first
    used = stats["admitted"] / (LIMIT / 60 * seconds)
    refused = stats["by_status"].get("429", 0)
    holds = check(f"{LIMIT:,} a minute: used", used >= LEAST_USED, f"{used:.2%} in {seconds:.1f} s")
    holds &= check(
        f"{LIMIT:,} a minute: refused",
        refused <= MOST_REFUSED * stats["requests"],
        f"{refused} of {stats['requests']:,}, at most {MOST_REFUSED:.1%}; {rows:,} rows, a node died and one joined",
    )
    return holds & _caps(folder, source, nodes)


def _caps(folder: Path, source: Path, nodes: RayNodes) -> bool:
    holds = True
    price = {"sim-small": {"input": 1.0, "output": 2.0}}
    for name, cap in (("max_requests", 3_000), ("max_usd", 0.5)):
        with simulator(SimulatorSettings(latency_ms=20, faults={"500": 0.005})) as witness:
            tables: Tables = {**_CARRIED, "budget": {name: cap}, "prices": price}
            run = Run(folder / name, source, witness.url, "{text}", workers=1, concurrency=32, tables=on(nodes, tables))
            run.finish(BUDGET)
            stats = witness.stats()
        usd = (stats["prompt_tokens"] * 1.0 + stats["completion_tokens"] * 2.0) / 1e6
        spent = stats["requests"] if name == "max_requests" else usd
        holds &= check(f"{name} {cap:g}", 0.99 * cap <= spent <= cap, f"{spent:,.6g}, {spent / cap:.2%} of it")
    return holds


# What it costs


def costs(folder: Path, nodes: RayNodes) -> bool:
    """Measure CPU and memory a row, of worker, agent and driver, against nginx; beside what Ray itself offers."""
    sources = []
    for rows in SIZES:
        source = folder / f"costs-{rows}.jsonl"
        corpus.write(corpus.synthetic(rows, ROW_BYTES), source)
        sources.append(source)
    few, many = SIZES
    place = folder / "server"
    place.mkdir()
    figures: dict[str, list[dict[str, Any]]] = {}
    with serve(place, core=1) as server:
        for where, tables in (
            ("here", _CARRIED),
            ("one node", on(nodes, {"cluster": {"nodes": 1}})),
            ("two nodes", on(nodes, {"cluster": {"nodes": 2}})),
        ):
            for rows, source in zip(SIZES, sources, strict=True):
                run = Run(
                    folder / f"costs-{where.replace(' ', '-')}-{rows}",
                    source,
                    server.url,
                    "{text}",
                    workers=1,
                    concurrency=SLOTS,
                    tables=tables,
                )
                held = _finish_watched(run, nodes)
                figures.setdefault(where, []).append({**run.session, "held_mb": held})
                run.output.unlink()
        others = _others(sources[0], server.url, nodes)
    spent = {where: _slopes(sessions[0], sessions[1], many - few) for where, sessions in figures.items()}
    for where, each in spent.items():
        rate = figures[where][1]["rows_per_s"]
        print(f"  {where}: {rate:,.0f} rows/s; us a row: " + ", ".join(f"{name} {us:.1f}" for name, us in each.items()))
    for line in others:
        print(f"  {line}")
    ratio = (spent["one node"]["workers"] + spent["one node"]["agents"]) / spent["here"]["workers"]
    holds = check("worker and agent", ratio <= MOST_RATIO, f"{ratio:.3f} of a local worker, at most {MOST_RATIO}")
    driver = spent["one node"]["driver"]
    holds &= check("driver", driver <= MOST_DRIVER_US, f"{driver:.2f} us a row, at most {MOST_DRIVER_US:g}")
    both = [sum(spent[where].values()) for where in ("one node", "two nodes")]
    holds &= check("a second node", both[1] <= MOST_GROWTH * both[0], f"{both[0]:.1f} -> {both[1]:.1f} us a row in all")
    for name in ("supervisor", "agent", "worker"):
        sizes = [session["held_mb"][name] for session in figures["one node"]]
        holds &= check(f"memory of the {name}", sizes[1] <= sizes[0] + MOST_MB, f"{sizes[0]:.0f} -> {sizes[1]:.0f} MB")
    return holds


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


def _slopes(few: dict[str, Any], many: dict[str, Any], rows: int) -> dict[str, float]:
    """Return microseconds of CPU a row, without what a start takes."""

    def of(session: dict[str, Any]) -> dict[str, float]:
        return {
            "driver": session["cpu_of"]["supervisor"],
            "workers": session["cpu_of"]["workers"],
            "agents": sum(node["cpu_s"] for node in session["nodes"]),
        }

    first, second = of(few), of(many)
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
