"""A run on a cluster: the same bytes as on one machine, whatever becomes of its nodes; then what it costs."""

import contextlib
import csv
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving import cluster_costs, faults, ray_elastic
from scripts.proving.ray_nodes import WITHOUT_ID, RayNode, RayNodes, ray_nodes
from scripts.proving.runs import ItemError, Run, Series, Tables, Witness, check, gone, simulator, until

ROWS = 60_000
NODES = 3
SLOTS = 64
GONE_S = 10.0  # within which no worker is left of an agent or a driver that is gone
LEASED_S = 15.0  # of a stop: longer than a lease lives, and than a driver waits
LIMIT, LIMITED_ROWS = 6_000, 12_000
LEAST_USED, MOST_REFUSED = 0.98, 0.001
BUDGET = 3  # the command's exit code
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
        holds &= cluster_costs.costs(folder, nodes)
    holds &= ray_elastic.autoscaled(folder)
    return holds & ray_elastic.environments(folder)


def _input(folder: Path) -> Path:
    everything, _ = faults.input_of(folder)
    source = folder / "cluster.jsonl"
    with everything.open("rb") as file:
        source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    return source


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
        for where, more in (("here", tables), ("there", nodes.tables(tables))):
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


def _run(folder: Path, source: Path, witness: Witness, tables: Tables) -> Run:
    run = Run(folder, source, witness.url, faults.PROMPT, workers=1, concurrency=SLOTS, tables=tables)
    if "schema" in tables.get("task", {}):
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return run


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
    cases: list[tuple[str, Callable[[Run, Witness, RayNodes], list[float]]]] = [
        ("a raylet killed three times, nodes added", _kill_raylets),
        ("an agent killed", _kill_agent),
        ("a worker killed", _kill_worker),
        ("a node stopped past its lease", _stop_node),
        ("the driver killed", _kill_driver),
    ]
    for number, (name, disturb) in enumerate(cases):
        with simulator(faults.settings(32 + number)) as witness:
            run = _run(folder / f"disturbed-{number}", source, witness, nodes.tables())
            lost = disturb(run, witness, nodes)
            stats = witness.stats()
        same = run.output.read_bytes() == reference
        holds &= check(f"{name}: bytes", same, "the same" if same else "differ")
        holds &= _accounts(name, run, stats, lost)
    return holds


def _accounts(name: str, run: Run, stats: dict[str, Any], lost: list[float]) -> bool:
    """Check that nothing was asked again but what was in flight, or in an open group, of lost workers.

    lost: of each, how many requests a second all of them had just sent. The run's own rows a second are half of that or
    less: they are of its start, too, and of the time that passes before a node is given up.
    """
    failed = sum(stats["by_fault"].values())
    # A commit interval, and as much on the way.
    group = round(sum(lost) / len(lost) / NODES * 2 * faults.GROUP_S)
    most = ROWS + failed + len(lost) * (SLOTS + group)
    return check(
        f"{name}: requests",
        stats["requests"] <= most,
        f"{stats['requests']:,} <= {ROWS:,} rows + {failed:,} failed + {len(lost)} x ({SLOTS} in flight + {group} in "
        f"an open group) = {most:,}; answered twice: {stats['repeated_after_success']}; billed twice at most by the "
        f"report: {sum(session['billed_twice_max'] for session in run.report['sessions'])}",
    )


@contextlib.contextmanager
def _at_work(run: Run, witness: Witness) -> Iterator[Callable[[float], float]]:
    """Run the command; yields what waits until a part of the rows is asked. Ends when the run has."""
    with run.started() as process:
        run.begin(process, witness)
        yield lambda part: _asked(process, witness, part)
        run.wait(process)


def _asked(process: subprocess.Popen[bytes], witness: Witness, part: float) -> float:
    """Wait until a part of the rows is asked; returns how many requests a second came of the last tenth of all."""

    def reach(least: float) -> tuple[float, int]:
        until(lambda: process.poll() is not None or witness.stats()["requests"] >= least * ROWS, f"{least:.0%}")
        if process.poll() is not None:
            raise ItemError(f"the run has ended before {least:.0%}")
        return time.monotonic(), witness.stats()["requests"]

    (began, before), (ended, after) = reach(part - 0.1), reach(part)
    return float((after - before) / (ended - began))


def _busy(nodes: RayNodes, *, not_head: bool = False) -> RayNode:
    """Return a node that has workers."""
    found: list[RayNode] = []

    def some() -> bool:
        found[:] = [each for each in nodes.nodes[int(not_head) :] if each.workers()]
        return bool(found)

    until(some, "a node with workers", 60)
    return Random(len(found)).choice(found)  # noqa: S311 - repeatable, no secret


def _kill_raylets(run: Run, witness: Witness, nodes: RayNodes) -> list[float]:
    lost = []
    with _at_work(run, witness) as asked:
        for part in (0.2, 0.45, 0.7):
            lost.append(asked(part))
            node = _busy(nodes, not_head=True)
            left = [*node.agents(), *node.workers()]
            node.raylet.kill()
            _all_gone(left, "a killed raylet's agent and workers")
            node.end()
            nodes.nodes.remove(node)
            nodes.add()
    return lost


def _kill_agent(run: Run, witness: Witness, nodes: RayNodes) -> list[float]:
    with _at_work(run, witness) as asked:
        pace = asked(0.4)
        node = _busy(nodes)
        left = node.workers()
        node.agents()[0].kill()
        _all_gone(left, "a killed agent's workers")
    return [pace]


def _kill_worker(run: Run, witness: Witness, nodes: RayNodes) -> list[float]:
    with _at_work(run, witness) as asked:
        pace = asked(0.4)
        _busy(nodes).workers()[0].kill()
    return [pace]


def _stop_node(run: Run, witness: Witness, nodes: RayNodes) -> list[float]:
    with _at_work(run, witness) as asked:
        pace = asked(0.3)
        node = _busy(nodes, not_head=True)
        left = node.workers()
        node.stop()
        time.sleep(LEASED_S)
        before = _connections(left)
        node.stop(signal.SIGCONT)
        _all_gone(left, "workers of a node that was stopped")
        print(f"  {before} connections were open when it went on")
    return [pace]


def _kill_driver(run: Run, witness: Witness, nodes: RayNodes) -> list[float]:
    with run.started() as process:
        run.begin(process, witness)
        pace = _asked(process, witness, 0.4)
        left = [worker for node in nodes.nodes for worker in node.workers()]
        process.kill()
        process.wait()
        _all_gone(left, "a killed driver's workers")
    run.finish()
    return [pace] * NODES


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
            folder / "limited",
            source,
            [provider],
            "{text}",
            workers=1,
            concurrency="auto",
            tables=nodes.tables(WITHOUT_ID),
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
            tables: Tables = {**WITHOUT_ID, "budget": {name: cap}, "prices": price}
            run = Run(
                folder / name, source, witness.url, "{text}", workers=1, concurrency=32, tables=nodes.tables(tables)
            )
            run.finish(BUDGET)
            stats = witness.stats()
        usd = (stats["prompt_tokens"] * 1.0 + stats["completion_tokens"] * 2.0) / 1e6
        spent = stats["requests"] if name == "max_requests" else usd
        holds &= check(f"{name} {cap:g}", 0.99 * cap <= spent <= cap, f"{spent:,.6g}, {spent / cap:.2%} of it")
    return holds
