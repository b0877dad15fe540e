"""The endpoints of a run, as they come up with the real simulator."""

from collections.abc import Iterator
from typing import Any

import pytest

from rowmill.core.config import SIMULATOR
from rowmill.core.simulator import SimulatorSettings
from rowmill.core.wire import Endpoint
from rowmill.simulator.process import SimulatorProcess
from rowmill.supervisor.endpoints import EndpointStart


def endpoint(name: str, base_url: str, **more: Any) -> Endpoint:
    return Endpoint(name, base_url, None, False, 20.0, **more)


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    process = SimulatorProcess(SimulatorSettings())
    yield process
    process.stop()


def started(endpoints: list[Endpoint], simulator: SimulatorProcess | None) -> list[Endpoint]:
    starting = EndpointStart(endpoints, simulator)
    try:
        return starting.wait()
    finally:
        starting.end()


def test_one_provider_on_the_simulator_is_at_its_plain_path(simulator: SimulatorProcess) -> None:
    (ready,) = started([endpoint("main", SIMULATOR)], simulator)
    assert ready.base_url == simulator.base_url
    assert ready.base_url.endswith("/v1")
    assert ready.url == ""


def test_each_of_several_providers_on_the_simulator_has_a_path_of_its_own(simulator: SimulatorProcess) -> None:
    """Each with what is its own, and in the order of the configuration."""
    given = [
        endpoint("a", SIMULATOR, url=f"{SIMULATOR}/chat/completions", headers=(("x-team", "one"),), secrets=("sk-a",)),
        endpoint("elsewhere", "http://127.0.0.1:9/v1?api-version=1", url="http://127.0.0.1:9/v1/x?api-version=1"),
        endpoint("b", SIMULATOR, url=f"{SIMULATOR}/chat/completions"),
    ]
    a, elsewhere, b = started(given, simulator)
    root = simulator.base_url.removesuffix("/v1")
    assert (a.base_url, b.base_url) == (f"{root}/a/v1", f"{root}/b/v1")
    assert (a.url, b.url) == (f"{root}/a/v1/chat/completions", f"{root}/b/v1/chat/completions")
    assert (a.headers, a.secrets) == ((("x-team", "one"),), ("sk-a",))
    assert elsewhere == given[1]


def test_endpoints_of_real_servers_alone_are_there_at_once() -> None:
    given = [endpoint("a", "http://127.0.0.1:9/v1", url="http://127.0.0.1:9/v1/chat/completions")]
    assert started(given, None) == given
