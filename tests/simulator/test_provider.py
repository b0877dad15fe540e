"""A provider's speed: alone, by length, past its knee, with a line in front of it. Its own limits, headers, faults."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.server import running
from rowmill.simulator.statistics import Statistics

if TYPE_CHECKING:
    from tests.simulator.conftest import Answer, Ask, InFlight

FAST = SimulatorSettings(latency_ms=0)


def _body(content: object, **extra: Any) -> bytes:
    message = {"role": "user", "content": str(content)}
    return json.dumps({"model": "sim-small", "messages": [message], **extra}).encode()


def _statuses(answers: "list[Answer]") -> dict[int | None, int]:
    statuses = [answer.status for answer in answers]
    return {status: statuses.count(status) for status in statuses}


def test_latency_has_the_settings_median_and_repeats_with_the_seed() -> None:
    settings = SimulatorSettings(latency_ms=80, latency_sigma=0.5, seed=3)
    one, same, other = (SimulatedProvider(name, settings, Statistics()) for name in ("a", "a", "b"))
    times = [one.latency(0) for _ in range(4001)]
    assert times == [same.latency(0) for _ in range(4001)]
    assert times[0] != other.latency(0)
    assert sorted(times)[2000] == pytest.approx(0.08, rel=0.05)
    assert SimulatedProvider("a", FAST, Statistics()).latency(0) == 0


def test_latency_grows_with_the_replys_tokens() -> None:
    provider = SimulatedProvider("a", SimulatorSettings(latency_ms=100, latency_sigma=0, per_token_ms=2), Statistics())
    assert provider.latency(0) == pytest.approx(0.1)
    assert provider.latency(300) == pytest.approx(0.7)


def test_past_the_knee_goodput_falls() -> None:
    provider = SimulatedProvider("a", SimulatorSettings(latency_ms=100, latency_sigma=0, knee=10), Statistics())
    goodput = {}
    for in_flight in range(1, 31):
        provider.statistics.arrived(in_flight, 1, 0.0)
        goodput[in_flight] = in_flight / provider.latency(0)
    assert goodput[10] == pytest.approx(100)
    assert max(goodput.values()) == pytest.approx(goodput[10])
    assert goodput[20] == pytest.approx(50)
    assert [goodput[n] > goodput[n + 1] for n in range(10, 30)] == [True] * 20


def test_so_many_are_worked_on_at_a_time_and_the_others_wait_their_turn(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=100, latency_sigma=0, parallel=5)) as port:
            started = time.monotonic()
            ends: list[float] = []

            async def one(row: int) -> None:
                assert (await ask(port, body=_body(row))).status == 200
                ends.append(time.monotonic() - started)

            await asyncio.gather(*map(one, range(20)))
            for group in range(4):
                assert min(ends[5 * group : 5 * group + 5]) >= 0.1 * (group + 1) - 0.001
            figures = (await ask(port, "/stats")).json["providers"]["default"]
            assert (figures["in_flight_max"], figures["waiting_max"], figures["waiting"]) == (20, 15, 0)
            assert figures["by_status"] == {"200": 20}

    uvloop.run(exchange())


def test_who_leaves_the_line_or_the_work_gives_its_place_back(ask: "Ask", in_flight: "InFlight") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=60_000, latency_sigma=0, parallel=2, queue=8)) as port:
            for _ in range(2):
                clients = [asyncio.ensure_future(ask(port, body=_body(row))) for row in range(10)]
                figures = await in_flight(port, 10)
                assert figures["waiting"] == 8
                assert (await ask(port, body=_body("eleventh"))).status == 429
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
                assert (await in_flight(port, 0))["waiting"] == 0

    uvloop.run(exchange())


def test_a_full_line_refuses_and_charges_nothing(ask: "Ask") -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=100, latency_sigma=0, parallel=3, queue=2, requests_per_minute=60_000)
        async with running(settings) as port:
            answers = await asyncio.gather(*(ask(port, body=_body(row)) for row in range(12)))
            assert _statuses(answers) == {200: 5, 429: 7}
            refused = next(answer for answer in answers if answer.status == 429)
            assert (refused.error["type"], refused.error["code"]) == ("queue", "rate_limit_exceeded")
            assert "retry-after" not in refused.headers
            figures = (await ask(port, "/stats")).json["total"]
            assert (figures["limited"], figures["admitted"]) == ({"queue": 7}, 5)

    uvloop.run(exchange())


@pytest.mark.parametrize("told", [True, False])
def test_headers_are_left_off_where_the_settings_say_so(ask: "Ask", *, told: bool) -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=0, requests_per_minute=6, limit_headers=told, retry_after=told)
        async with running(settings) as port:
            good, refused = await ask(port, body=_body("a")), await ask(port, body=_body("b"))
            assert (good.status, refused.status) == (200, 429)
            for answer in (good, refused):
                assert any(name.startswith("x-ratelimit-") for name in answer.headers) is told
            assert any(name.startswith("retry-after") for name in refused.headers) is told

    uvloop.run(exchange())


def test_providers_have_settings_of_their_own(ask: "Ask") -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(
            latency_ms=0,
            requests_per_minute=6,
            providers={"free": FAST, "sick": SimulatorSettings(latency_ms=0, faults={"503": 1.0})},
        )
        async with running(settings) as port:
            for prefix, expected in (
                ("", [200, 429]),
                ("/free", [200, 200]),
                ("/sick", [503, 503]),
                ("/x", [200, 429]),
            ):
                path = f"{prefix}/v1/chat/completions"
                assert [(await ask(port, path, _body(row))).status for row in range(2)] == expected

    uvloop.run(exchange())


def test_an_outage_begins_and_ends_when_told_and_strikes_one_provider(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0)) as port:
            paths = {name: f"/{name}/v1/chat/completions" for name in ("east", "west")}
            assert (await ask(port, "/providers/east/fault", b'{"fault": "503"}')).status == 200
            assert (await ask(port, paths["east"], _body("a"))).status == 503
            assert (await ask(port, paths["west"], _body("a"))).status == 200
            assert (await ask(port, "/providers/east/fault", b'{"fault": "reset", "seconds": 60}')).status == 200
            assert (await ask(port, paths["east"], _body("a"))).was_reset
            assert (await ask(port, "/providers/east/fault", b'{"fault": null}')).status == 200
            assert (await ask(port, paths["east"], _body("a"))).status == 200
            stats = (await ask(port, "/stats")).json["providers"]
            assert stats["east"]["by_fault"] == {"503": 1, "reset": 1}
            assert stats["west"]["by_fault"] == {}

    uvloop.run(exchange())


def test_an_outage_ends_by_itself(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(FAST) as port:
            started = time.monotonic()
            await ask(port, "/providers/default/fault", b'{"fault": "503", "seconds": 0.2}')
            assert (await ask(port, body=_body("a"))).status == 503
            async with asyncio.timeout(10):
                while (await ask(port, body=_body("a"))).status == 503:
                    pass
            assert time.monotonic() - started >= 0.2

    uvloop.run(exchange())


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b'{"fault": "504"}', b'{"fault": "503", "seconds": 0}', b'{"fault": "503", "s": 1}']
)
def test_an_outage_that_cannot_be_is_refused(ask: "Ask", body: bytes) -> None:
    async def exchange() -> None:
        async with running(FAST) as port:
            answer = await ask(port, "/providers/default/fault", body)
            assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
            assert (await ask(port, body=_body("a"))).status == 200

    uvloop.run(exchange())
