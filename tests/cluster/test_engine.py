"""What is said of a cluster that cannot be used, and of nodes that lack something. Ray itself is not here."""

import importlib
import os
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rowmill.cluster import engine
from rowmill.core.config.sections import ClusterConfig
from rowmill.core.errors import MachineError
from tests.end_to_end.conftest import ROOT

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


def test_what_a_node_is_asked_for_is_what_the_package_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it: a worker that lacks the last of its packages dies without a word about it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [line.split(">")[0].split("<")[0].strip() for line in project["dependencies"]]
    assert engine.needed() == names
    probe = engine._by_value("probe")
    assert probe("1.0", "rowmill-1.0", None, names)[3] == []
    assert probe("1.0", "rowmill-1.0", None, [*names, "no-such-package"])[3] == ["no-such-package"]
    monkeypatch.setattr(metadata, "requires", lambda name: importlib.metadata.version(f"no-{name}"))
    assert engine.needed() == []


def test_a_node_without_the_package_is_given_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub(monkeypatch)
    package = engine.Engine(ClusterConfig(address="10.0.0.1:6379"))._packed()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "rowmill" else name)
    for _ in range(2):
        _, version, where, _ = engine._by_value("probe")("1.2", "rowmill-1.2-5", package, [])
        assert version == "1.2"
        assert Path(where) == tmp_path / f"rowmill-1.2-5-{os.getuid()}"
        assert Path(where, "rowmill", "cluster", "agent.py").exists()
        assert Path(where, "rowmill", "py.typed").exists()
