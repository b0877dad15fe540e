"""A Ray cluster on loopback, whose nodes come and go: each is a `ray start` of its own, ended by what started it."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from scripts.proving.runs import ItemError, Tables, until

_STORE_BYTES = 80_000_000  # of objects, on each node: more than any message
_HOST = "127.0.0.2"  # on loopback as 127.0.0.1, for which Ray takes this machine's other address
_PORTS = range(20000, 32768)  # above those of Ray's workers, below those that the system hands out
_START_S = 60.0
# All nodes share this machine with the server and the driver. Ray's workers give way to everything else by default,
# and what is interrupted all the time takes more CPU a row; on a machine of its own there is nothing to give way to.
_OF_NODES = {
    "RAY_worker_niceness": "0",
    # A worker of Ray takes a second of CPU to start: none are started for tasks that may come, and one that has had a
    # task is there when the node is tried again.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "20000",
    "RAY_AUTH_MODE": "disabled",  # else a head takes the token that somebody has at home, of which others do not know
}
_GRACE_S = 3.0
WITHOUT_ID: Tables = {"input": {"id": None}}  # of `corpus.synthetic`


class RayNode:
    """One node: the processes that one `ray start` keeps."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._left: list[psutil.Process] = []

    def processes(self) -> list[psutil.Process]:
        """Return all that belongs to the node, with the workers that agents have started."""
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def named(self, text: str) -> list[psutil.Process]:
        """Return those with this text in their command lines."""
        found = []
        for each in self.processes():
            with contextlib.suppress(psutil.Error):
                if text in " ".join(each.cmdline()):
                    found.append(each)
        return found

    @property
    def raylet(self) -> psutil.Process:
        """The process whose end is the node's."""
        return next(each for each in self.processes() if each.name() == "raylet")

    def agents(self) -> list[psutil.Process]:
        """Return the agents' processes."""
        return self.named("ray::Agent")

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        return self.named("rowmill-worker")

    def stop(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Send every process of the node a signal, as SIGSTOP, and SIGCONT later."""
        for each in self.processes():
            with contextlib.suppress(psutil.Error):
                each.send_signal(number)

    def begin_end(self) -> None:
        """Tell the node to end."""
        self._left += self.processes()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, grace_s: float = _GRACE_S) -> None:
        """End the node in an orderly way, if it is through in so many seconds."""
        self.begin_end()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for each in self._left:
            with contextlib.suppress(psutil.Error):
                each.kill()


def _free_port() -> int:
    """Return a port that nothing listens at: none of those that the system hands out, for it hands it out meanwhile.

    It does so too while the head listens at it: Ray's servers share their ports with whoever asks for any.
    """
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


class RayNodes:
    """The cluster. address: as cluster.address takes it. env: what a driver's environment needs."""

    def __init__(self, folder: Path) -> None:
        self.address = f"{_HOST}:{_free_port()}"
        self.env = {**os.environ, "RAY_ADDRESS": self.address}
        self._folder = folder
        self.nodes: list[RayNode] = []

    def add(self, cpus: int = 1, *, python: Path | None = None, most: int = 0) -> RayNode:
        """Start a node, the first one as the head.

        python: of another environment that has Ray. most: an autoscaler of the head starts up to so many more, each
        with two CPUs.
        """
        port = self.address.rpartition(":")[2]
        own = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        program = (python or Path(sys.executable)).with_name("ray")
        environ = {**os.environ, **_OF_NODES}
        if most:
            scaling = self._folder / "autoscaler.json"
            scaling.write_text(json.dumps(self._autoscaler(most)))
            own.append(f"--autoscaling-config={scaling}")
            environ |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
        with (self._folder / "ray.txt").open("ab") as log:
            process = subprocess.Popen(
                [
                    str(program),
                    "start",
                    # What the head's workers print comes to its log monitor, and is enough.
                    *(own if not self.nodes else [f"--address={self.address}", "--include-log-monitor=false"]),
                    f"--node-ip-address=127.0.0.{2 + len(self.nodes)}",
                    f"--num-cpus={cpus}",
                    f"--object-store-memory={_STORE_BYTES}",
                    "--disable-usage-stats",
                    "--block",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        node = RayNode(process)
        self.nodes.append(node)

        def up() -> bool:
            if process.poll() is not None:
                text = (self._folder / "ray.txt").read_text(errors="replace")
                raise ItemError(f"ray start: exit code {process.returncode}: {text[-2000:]}")
            return any(each.name() == "raylet" for each in node.processes())

        until(up, "a node of Ray", _START_S)
        return node

    def tables(self, tables: Tables | None = None) -> Tables:
        """Return the tables of a run on the cluster, whose input the driver carries there."""
        more = dict(tables or {})
        cluster = {"engine": "ray", "address": self.address, "input": "carry", **more.pop("cluster", {})}
        return {**more, "cluster": cluster}

    def _autoscaler(self, most: int) -> dict[str, Any]:
        """Return the configuration of one that starts nodes on this machine."""
        lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
                 "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
                 "worker_start_ray_commands")  # fmt: skip
        node = {"resources": {"CPU": 2, "object_store_memory": _STORE_BYTES}, "node_config": {}, "max_workers": most}
        head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        return {
            "cluster_name": "proof",
            "max_workers": most,
            "provider": {"type": "fake_multinode", "gcs_address": self.address, "disable_node_updaters": True},
            "auth": {},
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            "available_node_types": {"ray.head.default": head, "small": {**node, "min_workers": 0}},
            "head_node_type": "ray.head.default",
            "upscaling_speed": 20,
            "idle_timeout_minutes": 0.1,
            **{name: [] for name in lists},
        }

    def end(self) -> None:
        """End all nodes, the head last."""
        for node in reversed(self.nodes):
            node.begin_end()  # each takes seconds
        while self.nodes:
            node = self.nodes.pop()
            node.end(_GRACE_S if self.nodes else 0.0)  # the head would not be through in ten seconds


@contextlib.contextmanager
def ray_nodes(count: int, cpus: int = 1) -> Iterator[RayNodes]:
    """Yield a cluster of so many nodes; it ends with the block."""
    # Short: names of sockets below it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        cluster = RayNodes(Path(folder))
        try:
            for _ in range(count):
                cluster.add(cpus)
            yield cluster
        finally:
            cluster.end()
