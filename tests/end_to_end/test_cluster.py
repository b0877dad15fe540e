"""The real command on a real Ray cluster of two nodes on loopback: the same bytes, whatever becomes of the nodes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from rowmill.core.simulator import SimulatorSettings
from rowmill.core.version import __version__
from scripts.proving.ray_nodes import RayNodes
from scripts.proving.runs import gone
from tests.end_to_end.conftest import ROOT, Done, Place, Started, Witness, until
from tests.simulator_host import SimulatorHost

pytestmark = pytest.mark.cluster  # of one process: the cluster is made once

ROWS = 900
SLOTS = 16
NODES = ["127.0.0.2", "127.0.0.3"]
FAULTS = {"500": 0.02, "reset": 0.01}


WRONG = {  # what is told of an address, with the exit code
    "a closed port": (6, "127.0.0.1:1", "cannot connect to the cluster at 127.0.0.1:1: "),
    "no port": (6, "nonsense", "cannot connect to the cluster at nonsense: "),
    "nobody": (6, "nobody.invalid:6379", "cannot connect to the cluster at nobody.invalid:6379: "),
    "a client": (2, "ray://127.0.0.1:1", "cluster.address: ray:// is for clients"),
    "without the extra": (
        2,
        "127.0.0.1:1",
        'cluster.engine: "ray" needs the package ray: pip install "rowmill[ray]"',
    ),
}


@pytest.fixture(scope="session", autouse=True)
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Started]]:
    """Start runs on clusters that there are not, while there is none: it takes seconds to come up."""
    place = Place(tmp_path_factory.mktemp("wrong"))
    place.configure("http://127.0.0.1:1/v1")
    place.write_rows(10)
    lacking = place.folder / "lacking"
    lacking.mkdir()
    (lacking / "sitecustomize.py").write_text('import sys\nsys.modules["ray"] = None\n')
    began = {}
    for number, (name, (_, address, _)) in enumerate(WRONG.items()):
        environ = dict(place.environ)
        if name == "without the extra":
            place.environ["PYTHONPATH"] = f"{lacking}{os.pathsep}{environ['PYTHONPATH']}"
        keys = {"cluster.engine": "ray", "cluster.address": address, "output.path": f"out-{number}.jsonl"}
        began[name] = place.start(*_set(keys))
        place.environ = environ
    yield began
    place.end()


class Refused(NamedTuple):
    """Runs that end in a line after some seconds, in which other tests go on."""

    without_room: Started
    another_version: Started
    lacking: Started


@pytest.fixture(scope="module", autouse=True)
def refused(nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refused]:
    """Start runs that find no room, and no node that can do them. They wait for others for 8 to 20 s."""
    folder = tmp_path_factory.mktemp("refused")
    other, hiding = folder / "other", folder / "hiding"
    shutil.copytree(ROOT / "engine" / "rowmill", other / "rowmill", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "rowmill" / "core" / "version.py").write_text('__version__ = "0.0.1"\n')
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text('import sys\nsys.modules["of_the_driver"] = None\n')
    (folder / "of_the_driver.py").write_text("import pydantic\n\nclass Order(pydantic.BaseModel):\n    product: str\n")
    places = []

    def start(name: str, **keys: str) -> Started:
        (folder / name).mkdir()
        place = Place(folder / name)
        places.append(place)
        place.configure("http://127.0.0.1:1/v1")
        place.write_rows(10)
        place.environ["PYTHONPATH"] += f"{os.pathsep}{folder}"
        on = {"cluster.address": nodes.address, "cluster.engine": "ray"}
        return place.start(*_set(on | {key.replace("__", "."): value for key, value in keys.items()}))

    def python_path(path: Path) -> str:
        return f'{{env_vars = {{PYTHONPATH = "{path}"}}}}'

    yield Refused(
        start("no-room", cluster__cpus_per_worker="64"),
        start("version", cluster__runtime_env=python_path(other)),
        start("lacks", cluster__runtime_env=python_path(hiding), task__schema="of_the_driver:Order"),
    )
    for place in places:
        place.end()


_MAP = """
import sys, ray, rowmill
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False, logging_level="CRITICAL")
import ray.data
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.from_items([{"n": n, "text": f"row {n:06d}", "more": [n]} for n in range(300)], override_num_blocks=3)
# It is made only now, and has a block without rows; one task after the other, for each has a process that imports all.
rows = rows.filter(lambda row: row["n"] < 100 or row["n"] >= 200, concurrency=1)
options = {"base_url": sys.argv[2], "prefix": "a_", "workers": {"count": 1}}
answered = rowmill.map(rows, model="sim-small", prompt="{text}", **options)
assert isinstance(answered, ray.data.Dataset), answered
taken = answered.take_all()
# In the order of its blocks, which is that in which Ray has made them.
assert sorted(row["n"] for row in taken) == [*range(100), *range(200, 300)]
assert all(row["more"] == [row["n"]] for row in taken)
assert all(f"{row['n']:06d}" in row["a_output"] for row in taken), taken[0]
assert all(row["a_error"] is None for row in taken)
assert set(taken[0]) == {"n", "text", "more", "a_output", "a_error"}
print("aligned")
"""


class Mapping(NamedTuple):
    """A program that has the rows of a Dataset answered, while other tests go on."""

    process: "subprocess.Popen[str]"
    witness: Witness


@pytest.fixture(scope="module", autouse=True)
def mapping(nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory, simulators: SimulatorHost) -> Iterator[Mapping]:
    """Start it: Ray's own part of it takes long."""
    place = Place(tmp_path_factory.mktemp("mapping"))
    witness = Witness(simulators, SimulatorSettings(latency_ms=10.0))
    with subprocess.Popen(
        [sys.executable, "-c", _MAP, nodes.address, witness.url],
        cwd=place.folder,
        env=place.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield Mapping(process, witness)
        process.kill()
    witness.stop()


def _set(keys: dict[str, str]) -> Iterator[str]:
    for key, value in keys.items():
        yield "--set"
        yield f"{key}={value}"


class OnCluster:
    """A directory whose runs are the cluster's."""

    def __init__(self, place: Place, nodes: RayNodes) -> None:
        self.place = place
        self.nodes = nodes
        keys = {"engine": "ray", "address": nodes.address, "workers_per_node": "1", "input": "carry"}
        self._on = [*_set({f"cluster.{key}": value for key, value in keys.items()})]

    def start(self, *arguments: str) -> Started:
        return self.place.start(*self._on, *arguments)

    def run(self, *arguments: str) -> Done:
        return self.start(*arguments).wait()

    def start_held(self, witness: Witness, *arguments: str) -> Started:
        """Start, but have no more answered than one worker has in flight, until `go_on_with_both`."""
        witness.hold(SLOTS)
        return self.start("--set", "provider.timeout_s=100", *arguments)

    def go_on_with_both(self, witness: Witness) -> None:
        """Go on once there is a worker on either node: the first could have done all by then."""
        log = self.place.run_dir / "run.log"
        there = re.compile(r"node .*: 1 worker\n")
        until(lambda: log.exists() and len(there.findall(log.read_text())) == len(NODES), "both nodes", 90)
        witness.go_on()

    @property
    def session(self) -> dict[str, Any]:
        """The report of the last session."""
        found: dict[str, Any] = self.place.report["sessions"][-1]
        return found


@pytest.fixture
def on_cluster(place: Place, nodes: RayNodes) -> OnCluster:
    return OnCluster(place, nodes)


@pytest.fixture
def capped(tmp_path_factory: pytest.TempPathFactory, nodes: RayNodes) -> Iterator[OnCluster]:
    place = Place(tmp_path_factory.mktemp("capped"))
    yield OnCluster(place, nodes)
    place.end()


def asked(witness: Witness, rows: int, started: Started) -> None:
    """Wait until so many requests have come."""

    def enough() -> bool:
        assert started.process.poll() is None, "it has ended before"
        return int(witness.stats()["requests"]) >= rows

    until(enough, f"{rows} requests", 40)


def assert_clean(done: Done) -> None:
    """See that nothing but Rowmill's own lines are on stderr."""
    for text in ("Traceback", "Warning", "raylet", "pid=", "INFO", "WARN", "ERROR", "core_worker", "\x1b"):
        assert text not in done.err, done.err


def test_what_is_wrong_with_a_cluster_is_a_line(wrong: dict[str, Started]) -> None:
    for name, (code, _, text) in WRONG.items():
        done = wrong[name].wait(30)
        assert done.code == code, f"{name}: {done.err}"
        assert_clean(done)
        # What the configuration cannot mean is told before a run begins.
        assert len(done.lines) == (1 if name == "a client" else 2), done.err
        assert text in done.lines[-1]
        assert done.lines[-1].startswith("rowmill: ")


def test_the_bytes_are_those_of_one_machine_and_a_cap_holds_over_all_nodes(
    on_cluster: OnCluster, capped: OnCluster, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """Of two runs that share the nodes."""
    place, witness, few = on_cluster.place, simulator(faults=FAULTS, latency_ms=20), simulator(latency_ms=20)
    place.configure(witness.url)
    place.write_rows(ROWS)
    capped.place.configure(few.url)
    capped.place.write_rows(ROWS)
    whole = on_cluster.start_held(witness)
    part = capped.start_held(few, "--set", "budget.max_requests=700")
    on_cluster.go_on_with_both(witness)
    capped.go_on_with_both(few)
    done, stopped = whole.wait(), part.wait()
    assert stopped.code == 3, stopped.err
    assert_clean(stopped)
    assert 693 <= few.stats()["requests"] <= 700
    assert len(capped.session["nodes"]) == 2
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    assert_clean(done)
    names = [node["node"] for node in on_cluster.session["nodes"]]
    assert sorted(name.partition(" ")[0] for name in names) == NODES
    assert sum(node["rows"] for node in on_cluster.session["nodes"]) == ROWS
    assert all(node["rows"] and node["workers"] == 1 and node["cpu_s"] > 0 for node in on_cluster.session["nodes"])
    for name in names:
        assert f"node {name}: 1 worker" in place.log
        assert f"{name}: " in done.err.partition("nodes")[2]


def test_a_dataset_of_ray_comes_back_as_one_row_by_row(mapping: Mapping) -> None:
    """Before a node is killed, which has tasks of it."""
    out, err = mapping.process.communicate(timeout=90)
    assert mapping.process.returncode == 0, err
    assert out == "aligned\n"
    assert mapping.witness.stats()["requests"] == 200


def test_a_killed_raylet_costs_what_was_in_flight_and_another_node_takes_over(
    on_cluster: OnCluster, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    place, nodes, witness = on_cluster.place, on_cluster.nodes, simulator(latency_ms=150)
    place.configure(witness.url)
    place.write_rows(ROWS)
    started = on_cluster.start()
    asked(witness, ROWS // 5, started)
    node = nodes.nodes[1]
    until(node.workers, "a worker on the node", 10)
    left = [*node.agents(), *node.workers()]
    assert len(left) >= 2
    node.raylet.kill()
    until(lambda: all(map(gone, left)), "the agent and the worker of a killed raylet gone", 10)
    nodes.add()
    done = started.wait()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(ROWS)
    assert_clean(done)
    report = on_cluster.session
    assert sum(each["left_s"] is not None for each in report["nodes"]) == 1
    assert "is lost: " in place.log
    # What was in flight, and what had not come to the driver yet: of a second at most.
    assert witness.stats()["requests"] <= ROWS + SLOTS + SLOTS * 1000 // 150


def test_a_run_goes_on_after_a_ctrl_c_and_after_its_driver_was_killed(
    on_cluster: OnCluster, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    place, witness = on_cluster.place, simulator(latency_ms=100)
    place.configure(witness.url)
    rows = 600
    place.write_rows(rows)
    started = on_cluster.start()
    asked(witness, rows // 6, started)
    started.signal(signal.SIGINT)
    done = started.wait()
    assert done.code == 130, done.err
    assert_clean(done)
    assert re.search(r"workers [12] on [12] nodes? .*draining", done.err), done.err
    before = place.report["totals"]["rows"]
    assert witness.stats()["requests"] == before == len(place.recorded())
    witness.hold(before + rows // 6)  # the first worker could have done all before there is a second one
    started = on_cluster.start("--set", "provider.timeout_s=60")
    asked(witness, before + rows // 6, started)

    def at_work() -> list[psutil.Process]:
        return [worker for node in on_cluster.nodes.nodes for worker in node.workers()]

    until(lambda: len(at_work()) == 2, "a worker on each node", 10)
    workers = at_work()
    witness.go_on()
    started.kill_all()
    until(lambda: all(map(gone, workers)), "the workers of a killed driver gone", 10)
    recorded = len(place.recorded())
    sent = int(witness.stats()["requests"])
    assert before < recorded <= sent
    # What had come home was on the disk, but for what was on its way: of a second at most.
    assert sent - recorded <= 2 * (SLOTS + SLOTS * 1000 // 100)
    done = on_cluster.run("--set", "cluster.nodes=1")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(rows)
    assert witness.stats()["requests"] == sent + rows - recorded


def test_a_cluster_without_free_cpus_is_a_line(refused: Refused) -> None:
    done = refused.without_room.wait(30)
    assert done.code == 6
    [_, line] = done.lines
    assert line.startswith("rowmill: no node of the cluster has 64 free CPUs (CPUs free on 127.0.0.")
    assert_clean(done)


def test_nodes_on_which_no_worker_can_be_are_a_line(refused: Refused) -> None:
    another = f" has Rowmill 0.0.1 and the driver {__version__}: have the same on both, or none there"
    lacking = (
        " cannot import of_the_driver for task.schema: of_the_driver:Order (ModuleNotFoundError: import of "
        "of_the_driver halted; None in sys.modules): install it there, or have it sent with cluster.runtime_env = "
        '{working_dir = "."}'
    )
    cases = {refused.another_version: another, refused.lacking: lacking}
    for started, text in cases.items():
        done = started.wait(30)
        assert done.code == 6, done.err
        assert_clean(done)
        # Each node, while the run waits for others; and why the run has ended.
        told = [line for line in done.lines if line.endswith(text)]
        assert 2 <= len(told) <= 2 + 2, done.err
        assert all("node 127.0.0." in line for line in told)


def test_who_has_no_cluster_loads_no_ray(place: Place) -> None:
    program = (
        "import sys, rowmill; rowmill.run, rowmill.map; import rowmill.interface.cli, rowmill.runs.session; "
        "sys.exit(str([name for name in sys.modules if name.partition('.')[0] == 'ray' or 'cluster.' in name]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=place.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip() == "[]"
