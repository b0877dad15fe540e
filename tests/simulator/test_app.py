"""Routes, stations, statistics and the SDK's view, over real sockets."""

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest
import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from rowmill.simulator.server import running

if TYPE_CHECKING:
    from tests.simulator.conftest import Ask, InFlight

FAST = SimulatorSettings(latency_ms=0)


def _body(content: str, **extra: Any) -> bytes:
    return json.dumps({"model": "sim-small", "messages": [{"role": "user", "content": content}], **extra}).encode()


def test_the_sdk_reads_replies_models_and_errors() -> None:
    async def exchange() -> None:
        script = ("ok", "429", "429-quota", "401", "404", "400", "503", "reset")
        async with (
            running(SimulatorSettings(latency_ms=1, script=script)) as port,
            openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0) as client,
        ):

            async def create() -> openai.types.chat.ChatCompletion:
                return await client.chat.completions.create(
                    model="sim-large", messages=[{"role": "user", "content": "What is a shard?"}]
                )

            reply = await create()
            assert reply.model == "sim-large"
            assert digest("What is a shard?") in (reply.choices[0].message.content or "")
            assert reply.usage is not None
            assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
            assert [model.id async for model in client.models.list()] == ["sim-small", "sim-large"]
            for expected in (
                openai.RateLimitError,
                openai.RateLimitError,
                openai.AuthenticationError,
                openai.NotFoundError,
                openai.BadRequestError,
                openai.InternalServerError,
                openai.APIConnectionError,
            ):
                with pytest.raises(expected) as caught:
                    await create()
                assert type(caught.value) is expected

    uvloop.run(exchange())


def test_each_prefix_is_a_provider_with_its_own_script_limits_and_figures(ask: "Ask") -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=0, script=("500",), requests_per_minute=6)
        async with running(settings) as port:
            for prefix in ("", "/east", "/west"):
                path = f"{prefix}/v1/chat/completions"
                assert (await ask(port, path, _body("a"))).status == 500
                assert (await ask(port, path, _body("b"))).status == 429
            assert (await ask(port, "/east/v1/models")).status == 200
            stats = (await ask(port, "/stats")).json
            assert set(stats["providers"]) == {"default", "east", "west"}
            assert stats["providers"]["east"]["by_status"] == {"429": 1, "500": 1}
            assert stats["providers"]["east"]["limited"] == {"requests": 1}
            assert stats["providers"]["east"]["duplicates"] == 0
            assert stats["total"]["requests"] == 6
            assert stats["total"]["max_per_request"] == 3
            assert stats["total"]["duplicates"] == 4

    uvloop.run(exchange())


def test_a_success_asked_again_is_reported_and_a_failure_asked_again_is_not(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0, script=("500", "truncated", "reset-body", "ok"))) as port:
            for _ in range(4):
                await ask(port, body=_body("a"))
            figures = (await ask(port, "/stats")).json["total"]
            assert figures["repeated_after_success"] == 0
            assert figures["duplicates"] == 3
            assert (await ask(port, body=_body("a"))).status == 200
            assert (await ask(port, body=_body("b"))).status == 200
            figures = (await ask(port, "/stats")).json["total"]
            assert figures["repeated_after_success"] == 1
            assert figures["distinct"] == 2
            assert figures["max_per_request"] == 5
            assert figures["by_status"] == {"200": 5, "500": 1}
            assert sum(count for _, count in figures["per_second"]) == 6
            assert figures["bytes_in"] == 6 * len(_body("a"))
            assert (await ask(port, "/stats/reset", b"")).status == 200
            assert (await ask(port, "/stats")).json["total"]["requests"] == 0

    uvloop.run(exchange())


def test_a_denied_request_is_told_when_and_is_admitted_then(ask: "Ask") -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=0, requests_per_minute=300)
        async with running(settings) as port:
            started = time.monotonic()
            answers = await asyncio.gather(*(ask(port, body=_body(str(row))) for row in range(20)))
            admitted = [answer for answer in answers if answer.status == 200]
            # The burst is one second's worth, and time passes while they arrive.
            assert 5 <= len(admitted) <= 5 + 5 * (time.monotonic() - started)
            last = await ask(port, body=_body("last"))
            while last.status == 200:
                last = await ask(port, body=_body("last"))
            assert (last.error["type"], last.error["code"]) == ("requests", "rate_limit_exceeded")
            wait_ms = int(last.headers["retry-after-ms"])
            assert 0 < wait_ms <= 200
            assert last.headers["retry-after"] == "1"
            assert admitted[0].headers["x-ratelimit-limit-requests"] == "300"
            assert "x-ratelimit-limit-tokens" not in last.headers
            await asyncio.sleep(wait_ms / 1000)  # the wait that was asked for is what is tested
            assert (await ask(port, body=_body("again"))).status == 200

    uvloop.run(exchange())


def test_tokens_are_charged_up_front_with_the_cap(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0, tokens_per_minute=6000)) as port:
            first = await ask(port, body=_body("x" * 40, max_tokens=990))
            assert (first.status, first.headers["x-ratelimit-remaining-tokens"]) == (200, "5000")
            second = await ask(port, body=_body("y"))
            assert (second.status, second.error["type"]) == (429, "tokens")
            too_large = await ask(port, body=_body("z", max_tokens=7000))
            assert (too_large.status, "retry-after" in too_large.headers) == (429, False)
            assert too_large.error["message"].startswith("Request too large")

    uvloop.run(exchange())


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/chat/completions", "GET", 404),
        ("/v1/embeddings", "GET", 404),
        ("/v1/embedding", "POST", 404),
        ("/v1/audio/speech", "POST", 404),
        ("/a/b/v1/chat/completions", "POST", 404),
        ("/", "GET", 404),
        ("/stats", "POST", 404),
        ("/v1/models", "GET", 200),
        ("/v1/chat/completions?api-version=1", "POST", 200),
    ],
)
def test_routes(ask: "Ask", path: str, method: str, status: int) -> None:
    async def exchange() -> None:
        async with running(FAST) as port:
            answer = await ask(port, path, _body("a"), method=method)
            assert answer.status == status
            if status == 404:
                assert answer.error["type"] == "invalid_request_error"

    uvloop.run(exchange())


def test_a_wrong_key_is_refused_everywhere_and_uses_up_no_script(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0, script=("503",))) as port:
            for path, body in (("/v1/chat/completions", _body("a")), ("/v1/models", None)):
                answer = await ask(port, path, body, key="invalid-1")
                assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert (await ask(port, body=_body("a"))).status == 503

    uvloop.run(exchange())


def test_a_row_of_ten_megabytes_is_read_and_answered(ask: "Ask") -> None:
    async def exchange() -> None:
        async with running(FAST) as port:
            answer = await ask(port, body=_body("x" * 10_000_000))
            assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
            assert (await ask(port, body=_body("x" * 512_000) + b" " * 10_000_000)).status == 200

    uvloop.run(exchange())


@pytest.mark.timed
def test_requests_overlap_for_their_latency(ask: "Ask") -> None:
    async def exchange() -> None:
        # So long that the last one has come before the first one is answered.
        async with running(SimulatorSettings(latency_ms=1000, latency_sigma=0)) as port:
            started = time.monotonic()
            answers = await asyncio.gather(*(ask(port, body=_body(str(row))) for row in range(50)))
            took = time.monotonic() - started
            assert {answer.status for answer in answers} == {200}
            assert 1.0 <= took < 5  # one after the other they would take 50
            figures = (await ask(port, "/stats")).json["total"]
            assert (figures["in_flight"], figures["in_flight_max"]) == (0, 50)

    uvloop.run(exchange())


@pytest.mark.parametrize("script", [(), ("hang",) * 300, ("drip",) * 300])
def test_clients_that_leave_give_back_what_was_in_flight_without_a_word(
    ask: "Ask", in_flight: "InFlight", caplog: pytest.LogCaptureFixture, script: tuple[str, ...]
) -> None:
    async def exchange() -> None:
        latency_ms = 0 if script else 60_000
        async with running(SimulatorSettings(latency_ms=latency_ms, script=script)) as port:
            clients = [asyncio.ensure_future(ask(port, body=_body(str(row)))) for row in range(300)]
            await in_flight(port, 300)
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            figures = await in_flight(port, 0)
            assert figures["requests"] == 300
            assert figures["no_answer"] + sum(figures["by_status"].values()) == 300
            assert figures["repeated_after_success"] == 0
            assert (await ask(port, "/v1/models")).status == 200

    with caplog.at_level(logging.WARNING):
        uvloop.run(exchange())
    assert caplog.records == []


def test_an_upload_that_breaks_off_is_no_request(ask: "Ask", caplog: pytest.LogCaptureFixture) -> None:
    async def exchange() -> None:
        async with running(FAST) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            assert (await ask(port, body=_body("a"))).status == 200
            assert (await ask(port, "/stats")).json["total"]["requests"] == 1

    with caplog.at_level(logging.WARNING):
        uvloop.run(exchange())
    assert caplog.records == []


def test_a_drip_sends_a_byte_a_second() -> None:
    async def exchange() -> None:
        async with running(SimulatorSettings(latency_ms=0, script=("drip",))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = _body("a")
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\n")
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(1) == b"{"
            started = time.monotonic()
            assert await reader.readexactly(1) == b'"'
            assert time.monotonic() - started > 0.9
            writer.transport.abort()

    uvloop.run(exchange())
