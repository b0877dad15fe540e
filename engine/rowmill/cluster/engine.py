"""Ray, as the driver uses it: the cluster, its nodes, an actor on each. The only place that knows Ray's interface."""

import asyncio
import json
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import util
from time import time
from types import ModuleType
from typing import Any, NamedTuple

from rowmill.cluster import probe
from rowmill.cluster.link import AgentDiedError
from rowmill.cluster.needs import Need
from rowmill.core.config.sections import ClusterConfig
from rowmill.core.errors import ConfigError, MachineError
from rowmill.core.plain_text import clipped, one_line

_CONNECT_S = 5.0
_STATUS_S = 2


class Node(NamedTuple):
    """A node of the cluster that is alive."""

    id: str
    name: str
    free: float  # CPUs that nobody uses
    fits: bool  # it has the other resources that are asked for
    leaves_s: float | None  # it is drained, and goes in so many seconds


class Engine:
    """A connection to a Ray cluster.

    started: there was no cluster, and one was started on this machine.
    """

    def __init__(self, settings: ClusterConfig) -> None:
        """Connect. Raises `ConfigError` where Ray is not there, `MachineError` where there is no cluster."""
        self._settings = settings
        self._ray = _imported()
        self.started = False
        self._ours = not self._ray.is_initialized()
        self._package: bytes | None = None
        self._waiting: list[Any] = []  # tasks that find no room
        if self._ours:
            self._connect()

    def _connect(self) -> None:
        ray = self._ray
        options: dict[str, Any] = {
            "log_to_driver": False,
            "configure_logging": False,
            "logging_level": logging.CRITICAL,
            "namespace": "rowmill",
        }
        address = self._settings.address or "auto"
        try:
            found = ray._private.services.canonicalize_bootstrap_address(address)  # noqa: SLF001 - as init does
            if found is None:
                self.started = True
                ray.init(address="local", include_dashboard=False, **options)
                _hush(ray)
                return
            address = found
            _reach(address)
            self._see_token(address)
            ray.init(address=address, **options)
            _hush(ray)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            if "version mismatch" in str(error).lower():  # also of the third figure: so Ray has it
                raise MachineError(
                    f"the cluster at {address} has another Python or Ray than the driver: have the same on both "
                    f"({clipped(' '.join(str(error).split()))})"
                ) from None
            raise MachineError(
                f"cannot connect to the cluster at {self._settings.address or address}: {_told(error)}; is it running "
                "(ray status), and is cluster.address right?"
            ) from None

    def _see_token(self, address: str) -> None:
        """See whether the cluster takes us: Ray itself asks for twenty seconds, and says only that it was in vain."""
        try:
            self._ray._raylet.GcsClient(address=address)  # noqa: SLF001 - as init does
        except Exception as error:  # noqa: BLE001 - of the others init tells
            if "token" in str(error).lower():
                raise MachineError(
                    f"the cluster at {address} asks for a token: set RAY_AUTH_MODE=token in the environment, with its "
                    "token in ~/.ray/auth_token or in RAY_AUTH_TOKEN, and run the same command again"
                ) from None

    # What an autoscaler sees

    def ask_for(self, nodes: int, workers: int) -> None:
        """Have an autoscaler see that so many nodes more would be used, for so many workers each; 0: no more.

        By tasks that find no room: they end with this program, however it ends, and where there is room after all they
        are over at once.
        """
        if self._waiting:
            _, self._waiting = self._ray.wait(self._waiting, num_returns=len(self._waiting), timeout=0)
        for each in self._waiting[nodes:]:
            self._ray.cancel(each)
        for _ in range(nodes - len(self._waiting)):
            self._waiting.append(
                self._ray.remote(probe.by_value("nothing"))
                .options(
                    num_cpus=workers * self._settings.cpus_per_worker,
                    resources=dict(self._settings.resources),
                    max_retries=0,
                )
                .remote()
            )

    @property
    def settled(self) -> bool:
        """Whether nothing that was asked for is left which could take room on a node that has come."""
        self.ask_for(0, 0)
        return not self._waiting

    def awaited(self) -> bool:
        """Tell whether an autoscaler is about to bring a node."""
        try:
            from ray.experimental.internal_kv import _internal_kv_get

            status = json.loads(_internal_kv_get("__autoscaling_status") or b"{}")
            report = status.get("autoscaler_report") or {}
            if report.get("pending_nodes") or report.get("pending_launches"):
                return True
            from ray.autoscaler.v2.sdk import get_cluster_status

            found = get_cluster_status(self._ray.get_runtime_context().gcs_address, timeout=_STATUS_S)
            return bool(found.pending_nodes or found.pending_launches)
        except Exception:  # noqa: BLE001 - there is none, or one of another version
            return False

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive. Blocks for a call to the cluster. Raises `MachineError`."""
        try:
            found = self._ray.nodes()
            state = self._ray._private.state.state  # noqa: SLF001 - the public one needs the dashboard
            free = state.available_resources_per_node()
            leaving = state.get_draining_nodes()
        except Exception as error:
            raise MachineError(f"the cluster does not answer: {_told(error)}") from error
        wanted = self._settings.resources
        nodes = []
        for each in found:
            number = each["NodeID"]
            if not each["Alive"]:
                continue
            now = free.get(number, {})
            due = leaving.get(number)
            nodes.append(
                Node(
                    number,
                    f"{each['NodeManagerAddress']} ({number[:6]})",
                    float(now.get("CPU", 0.0)),
                    all(now.get(name, 0.0) >= amount for name, amount in wanted.items()),
                    None if due is None else max(0.0, due / 1000 - time()) if due else 30.0,
                )
            )
        return nodes

    async def agent(self, node: Node, cpus: float, errand: bytes, needs: Sequence[Need] = ()) -> Any:
        """Start an agent on a node that has what the run needs. Raises `MachineError` with what is wrong there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        env = dict(self._settings.runtime_env)
        try:
            path = await self._probed(node, there, env, needs)
            if path:
                variables = dict(env.get("env_vars", {}))
                before = variables.get("PYTHONPATH")
                env["env_vars"] = variables | {"PYTHONPATH": path if before is None else f"{path}:{before}"}
            from rowmill.cluster.agent import Agent

            return (
                self._ray.remote(Agent)
                .options(
                    scheduling_strategy=there,
                    num_cpus=cpus,
                    resources=dict(self._settings.resources),
                    max_concurrency=64,
                    max_restarts=0,
                    **({"runtime_env": env} if env else {}),
                )
                .remote(errand)
            )
        except MachineError:
            raise
        except Exception as error:
            raise MachineError(f"node {node.name}: no agent can be started: {_told(error)}") from error

    async def _probed(self, node: Node, there: Any, env: Mapping[str, Any], needs: Sequence[Need]) -> str:
        """See that a node has what a worker needs; returns where it has the package that it was given, if it was."""
        task = self._ray.remote(probe.by_value("probe")).options(
            scheduling_strategy=there, num_cpus=0, max_retries=0, **({"runtime_env": dict(env)} if env else {})
        )
        if self._package is None:
            self._package = probe.packed()
        found = probe.NodePython(*await task.remote(*probe.asked(self._package, needs)))
        if (refused := probe.refused(found, needs)) is not None:
            raise MachineError(f"node {node.name} {refused}")
        return found.path

    async def call(self, method: Any, *arguments: Any) -> Any:
        """Call a method of an agent. Raises `AgentDiedError`, and `MachineError` where it cannot be reached."""
        try:
            return await method.remote(*arguments)
        except asyncio.CancelledError:
            raise
        except self._ray.exceptions.ActorDiedError as error:
            raise AgentDiedError(_told(error)) from error
        except Exception as error:
            raise MachineError(_told(error)) from error

    def end(self, agent: Any) -> None:
        """End an agent."""
        with suppress(Exception):  # it is gone, or the cluster is
            self._ray.kill(agent, no_restart=True)

    def close(self) -> None:
        """Disconnect, where it was connected here."""
        if self._ours:
            self._ray.shutdown()


def _reach(address: str) -> None:
    """See that somebody listens there: Ray itself tries for minutes. Raises OSError and ValueError."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


def _hush(ray: ModuleType) -> None:
    """Have Ray print nothing: it tells every end of a raylet in forty lines, whatever `log_to_driver` says."""
    worker = ray._private.worker.global_worker  # noqa: SLF001 - no option does it
    with suppress(AttributeError):
        worker.threads_stopped.set()  # of the thread that prints; `shutdown` clears it
        worker.gcs_error_subscriber.close()


def _imported() -> ModuleType:
    if util.find_spec("ray") is None:
        raise ConfigError('cluster.engine: "ray" needs the package ray: pip install "rowmill[ray]"')
    import ray

    return ray


def _told(error: BaseException) -> str:
    """Return in a line what Ray says at length."""
    cause = getattr(error, "cause", None)
    text = str(cause if isinstance(cause, BaseException) else error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return clipped(one_line(lines[-1] if len(lines) > 1 and "Traceback" in text else (lines or [""])[0]))
