"""Listening on loopback only, and stopping quickly whatever hangs."""

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.server import running, serve

if TYPE_CHECKING:
    from tests.simulator.conftest import Ask, InFlight

BODY = b'{"model":"sim-small","messages":[{"role":"user","content":"What is a row?"}]}'


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_any_host_but_loopback_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        serve(SimulatorSettings(), host=host, on_ready=lambda _: pytest.fail("it listened"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_hosts_are_served(host: str) -> None:
    async def connect() -> None:
        async with running(SimulatorSettings(), host=host) as port:
            address = "127.0.0.1" if host == "localhost" else host
            _, writer = await asyncio.open_connection(address, port)
            writer.close()

    uvloop.run(connect())


def test_a_taken_port_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(SimulatorSettings(), port=taken.getsockname()[1], on_ready=lambda _: pytest.fail("it listened"))


def test_wrong_settings_are_refused_before_anything_listens() -> None:
    with pytest.raises(ValueError, match="did you mean 'hang'"):
        serve(SimulatorSettings(script=("hung",)), on_ready=lambda _: pytest.fail("it listened"))


@pytest.mark.timed
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_stop_releases_what_hangs_at_once(
    ask: "Ask", in_flight: "InFlight", monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("rowmill.simulator.server._GRACE_S", 60)

    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0, script=(fault,) * 50)) as port:
            clients = [asyncio.ensure_future(ask(port, body=BODY)) for _ in range(50)]
            await in_flight(port, 50)
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 5  # far less than the grace: they were released, not waited out
        answers = await asyncio.gather(*clients)
        assert all(answer.was_reset for answer in answers)

    uvloop.run(exchange())


@pytest.mark.timed
def test_a_stop_does_not_wait_for_slow_replies_or_idle_connections(ask: "Ask", in_flight: "InFlight") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=60_000)) as port:
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            client = asyncio.ensure_future(ask(port, body=BODY))
            await in_flight(port, 1)
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 3
        assert (await client).status is None
        idle.close()

    uvloop.run(exchange())


def test_a_reply_on_its_way_is_finished_at_a_stop(ask: "Ask", in_flight: "InFlight") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=100, latency_sigma=0)) as port:
            client = asyncio.ensure_future(ask(port, body=BODY))
            await in_flight(port, 1)
        assert (await client).status == 200

    uvloop.run(exchange())


def test_serve_tells_its_port_and_ends_when_told() -> None:
    ports: list[int] = []
    ready = threading.Event()
    stop = threading.Event()

    def on_ready(port: int) -> None:
        ports.append(port)
        ready.set()

    async def stopped() -> None:
        await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=serve, args=(SimulatorSettings(),), kwargs={"on_ready": on_ready, "stop": stopped})
    thread.start()
    assert ready.wait(10)
    socket.create_connection(("127.0.0.1", ports[0])).close()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports[0]))
