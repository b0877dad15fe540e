"""What is said of a cluster that cannot be used, and of nodes that lack something. Ray itself is not here."""

from types import SimpleNamespace
from typing import Any

import pytest

from rowmill.cluster import engine
from rowmill.core.config.sections import ClusterConfig
from rowmill.core.errors import MachineError

MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node 10.0.0.9 was started with:
    Ray: 2.60.0
    Python: 3.12.1
"""


def stub(monkeypatch: pytest.MonkeyPatch, *, init: Exception | None = None, reach: Exception | None = None) -> None:
    def raising(error: Exception | None) -> Any:
        def call(*_: Any, **__: Any) -> None:
            if error is not None:
                raise error

        return call

    services = SimpleNamespace(canonicalize_bootstrap_address=lambda address: address)
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=raising(init),
        _raylet=SimpleNamespace(GcsClient=raising(reach)),
        _private=SimpleNamespace(services=services),
    )
    monkeypatch.setattr(engine, "_imported", lambda: ray)
    monkeypatch.setattr(engine, "_reach", lambda _: None)
    monkeypatch.setattr(engine, "_hush", lambda _: None)


def test_a_cluster_of_another_python_is_told_apart_from_a_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, init=RuntimeError(MISMATCH))
    with pytest.raises(MachineError) as caught:
        engine.Engine(ClusterConfig(address="10.0.0.1:6379"))
    assert str(caught.value) == (
        "the cluster at 10.0.0.1:6379 has another Python or Ray than the driver: have the same on both (Version "
        "mismatch: The cluster was started with: Ray: 2.60.0 Python: 3.11.7 This process on node 10.0.0.9 was started "
        "with: Ray: 2.60.0 Python: 3.12.1)"
    )


def test_a_cluster_that_asks_for_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, reach=RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect"))
    with pytest.raises(
        MachineError, match=r"^the cluster at 10\.0\.0\.1:6379 asks for a token: set RAY_AUTH_MODE=token"
    ):
        engine.Engine(ClusterConfig(address="10.0.0.1:6379"))


class Tasks:
    """Ray's tasks, which find no room until a test says so."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []
        self.cancelled: list[int] = []
        self.over: set[int] = set()

    def remote(self, _function: Any) -> Any:
        def options(**given: Any) -> Any:
            self.options.append(given)
            number = len(self.options)
            return SimpleNamespace(remote=lambda: number)

        return SimpleNamespace(options=options)

    def wait(self, tasks: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        assert (num_returns, timeout) == (len(tasks), 0)
        return [each for each in tasks if each in self.over], [each for each in tasks if each not in self.over]

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)


def test_nodes_are_asked_for_by_tasks_that_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    asked = engine.Engine(ClusterConfig(address="10.0.0.1:6379", cpus_per_worker=0.5, resources={"label": 1.0}))
    tasks = Tasks()
    vars(asked)["_ray"] = tasks
    asked.ask_for(2, 4)
    asked.ask_for(2, 4)
    assert tasks.options == [{"num_cpus": 2.0, "resources": {"label": 1.0}, "max_retries": 0}] * 2
    tasks.over = {1}  # a node has come, or there was room
    asked.ask_for(2, 4)
    assert len(tasks.options) == 3
    asked.ask_for(1, 4)
    assert tasks.cancelled == [3]
    assert not asked.settled
    assert tasks.cancelled == [3, 2, 3]  # the one that was cancelled is not over yet
    tasks.over = {1, 2, 3}
    assert asked.settled
