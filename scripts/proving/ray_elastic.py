"""A cluster that grows when a run asks for it, and nodes on which Rowmill is not installed."""

import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

from rowmill.cluster.probe import needed
from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving.ray_nodes import WITHOUT_ID, RayNodes, ray_nodes
from scripts.proving.runs import Run, Tables, check, simulator

ROWS, SLOTS = 6_000, 8
WANTED, MOST = 2, 3
CANNOT = 6  # the command's exit code where the machine, or a node, lacks something
TOLD_S = 30.0


def autoscaled(folder: Path) -> bool:
    """Run on a cluster of a head without CPUs, whose autoscaler may start more nodes than are wanted."""
    with ray_nodes(0) as nodes:
        nodes.add(0, most=MOST)
        session, log = _run(folder / "autoscaled", nodes, {"cluster": {"nodes": WANTED}})
    brought = len(session["nodes"])
    rows = ", ".join(f"{each['rows']:,}" for each in session["nodes"])
    waited = "waiting for one that the autoscaler starts" in log
    return check("an autoscaler brings what is wanted", brought == WANTED and waited, f"{brought} nodes: {rows} rows")


def environments(folder: Path) -> bool:
    """Run on a node that has Ray and nothing else: refused in a line, then with an environment that Ray makes."""
    bare = folder / "bare"
    venv.create(bare, with_pip=True)
    python = bare / "bin" / "python"
    words = [str(python), "-m", "pip", "install", "--quiet", f"ray=={metadata.version('ray')}", "virtualenv"]
    subprocess.run(words, check=True)
    with ray_nodes(0) as nodes:
        nodes.add(0)
        nodes.add(1, python=python)
        session, log = _run(folder / "lacking", nodes, {}, CANNOT)
        told = [line for line in log.splitlines() if " lacks " in line]
        holds = check(
            "a node without packages",
            bool(told) and session["elapsed_s"] <= TOLD_S,
            f"{session['elapsed_s']:.0f} s: {(told or ['nothing is told'])[0][:100]}...",
        )
        session, _ = _run(folder / "installed", nodes, {"cluster": {"runtime_env": {"pip": needed()}}})
        rows = sum(each["rows"] for each in session["nodes"])
        return holds & check(
            "its packages by runtime_env, Rowmill itself sent", rows == ROWS, f"{rows:,} rows, {sys.version_info[:2]}"
        )


def _run(folder: Path, nodes: RayNodes, tables: Tables, *expected: int) -> tuple[dict[str, Any], str]:
    """Run to the end; returns the session's report, and the log."""
    source = folder.with_suffix(".jsonl")
    corpus.write(corpus.synthetic(ROWS, 400), source)
    with simulator(SimulatorSettings(latency_ms=150)) as witness:
        run = Run(
            folder,
            source,
            witness.url,
            "{text}",
            workers=2,
            concurrency=SLOTS,
            tables=nodes.tables({**WITHOUT_ID, **tables}),
        )
        run.finish(*expected)
        return run.session, (run.run_dir / "run.log").read_text()
