"""The endpoints of a run, as they come up: the real simulator, and the real openai package in its process."""

from collections.abc import Iterator
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import SIMULATOR, Config
from rowmill.core.errors import ConfigError
from rowmill.core.simulator import SimulatorSettings
from rowmill.core.wire import Endpoint
from rowmill.simulator.process import SimulatorProcess
from rowmill.supervisor.endpoints import EndpointStart


def configured(transport: str) -> Config:
    tree = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "p"},
        "output": {"path": "out.jsonl"},
        "client": {"transport": transport},
    }
    return configuration.parse(tree, "test.toml")


def endpoint(name: str, url: str, **more: Any) -> Endpoint:
    return Endpoint(name, url, more.pop("key", None), False, 20.0, **more)


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    process = SimulatorProcess(SimulatorSettings())
    yield process
    process.stop()


def started(transport: str, endpoints: list[Endpoint], simulator: SimulatorProcess | None) -> list[Endpoint]:
    starting = EndpointStart(configured(transport), endpoints, simulator)
    try:
        return starting.wait()
    finally:
        starting.end()


def test_one_provider_on_the_simulator_is_at_its_plain_path(simulator: SimulatorProcess) -> None:
    (ready,) = started("sdk", [endpoint("main", SIMULATOR)], simulator)
    assert ready.base_url == simulator.base_url
    assert ready.base_url.endswith("/v1")


def test_each_of_several_providers_on_the_simulator_has_a_path_of_its_own(simulator: SimulatorProcess) -> None:
    """Resolved in one process, each with what is its own, and in the order of the configuration."""
    given = [
        endpoint("a", SIMULATOR, key="sk-a", extra_headers=(("X-Team", "one"),), secrets=("sk-a",)),
        endpoint("elsewhere", "http://127.0.0.1:9/v1?api-version=1", extra_headers=(("api-key", "az"),)),
        endpoint("b", SIMULATOR),
    ]
    a, elsewhere, b = started("direct", given, simulator)
    root = simulator.base_url.removesuffix("/v1")
    assert (a.base_url, b.base_url) == (f"{root}/a/v1", f"{root}/b/v1")
    assert (a.url, b.url) == (f"{root}/a/v1/chat/completions", f"{root}/b/v1/chat/completions")
    assert elsewhere.url == "http://127.0.0.1:9/v1/chat/completions?api-version=1"
    sent = [dict(each.headers) for each in (a, elsewhere, b)]
    assert [headers.get("authorization") for headers in sent] == ["Bearer sk-a", None, None]
    assert [headers.get("x-team") for headers in sent] == ["one", None, None]
    assert [headers.get("api-key") for headers in sent] == [None, "az", None]
    assert a.secrets == ("sk-a",)


def test_settings_that_the_openai_package_refuses_are_told_with_the_provider_and_without_its_key() -> None:
    bad = endpoint("second", "http://[::1/v1/sk-secret", key="sk-secret", secrets=("sk-secret",))
    with pytest.raises(ConfigError, match="the openai package refuses the settings of provider 'second': ") as caught:
        started("direct", [endpoint("first", "http://127.0.0.1:9/v1"), bad], None)
    assert "sk-secret" not in str(caught.value)
