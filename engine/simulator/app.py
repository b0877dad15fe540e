"""The request handler: which route, which provider, through the stations, and out by the fault's delivery.

It is an `aiohttp.web.Server` handler rather than an `Application`: without router and match info a reply
costs 5 to 10% less (measured with wrk), and there are four routes. Mutable state: the providers, their figures and
`_stopping`.

A handler is cancelled when its client goes away (`handler_cancellation=True`), so whatever it counts as in flight
is given back in a `finally`.
"""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from math import ceil, log
from random import Random
from typing import Any

import msgspec
from aiohttp import web

from engine.records import SimulatorSettings
from engine.simulator import faults, replies
from engine.simulator.faults import Delivery, Fault, FaultPlan
from engine.simulator.limits import Denial, Limits
from engine.simulator.stats import Ledger

DEFAULT_PROVIDER = "default"  # the provider of plain /v1
DRIP_S = 1.0  # seconds between two bytes of a dripping reply

_PATH = re.compile(r"(?:/(?P<provider>[A-Za-z0-9._-]+))?/v1(?P<route>/.*)")
_CHAT = "/chat/completions"
_JSON = "application/json"
_INVALID_KEY = "Bearer invalid"
# SO_LINGER with a time of 0: closing sends RST and drops what is unsent, as a crashed server or a middlebox would.
_LINGER_0 = struct.pack("ii", 1, 0)
_encode = msgspec.json.Encoder().encode


class Provider:
    """One path prefix: its limits, its faults, its latencies and its figures."""

    def __init__(self, name: str, settings: SimulatorSettings) -> None:
        self.limits = Limits(settings.requests_per_minute, settings.tokens_per_minute)
        self.faults = FaultPlan(settings, Random(f"{settings.seed} faults {name}"))  # noqa: S311 - repeatable, no secret
        self.ledger = Ledger()
        self._random = Random(f"{settings.seed} latency {name}")  # noqa: S311 - repeatable, no secret
        self._sigma = settings.latency_sigma
        self._log_median = log(settings.latency_ms / 1000) if settings.latency_ms > 0 else None

    def latency(self) -> float:
        """Draw the next reply's time in seconds; 0 where the settings' median is 0."""
        return self._random.lognormvariate(self._log_median, self._sigma) if self._log_median is not None else 0.0


class Simulator:
    """All providers of one server. Raises ValueError for settings that cannot be."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._total = Ledger()
        self._providers: dict[str, Provider] = {DEFAULT_PROVIDER: Provider(DEFAULT_PROVIDER, settings)}
        self._chat_paths: dict[str, Provider] = {}  # raw path -> provider: spares the hot path the regular expression

    def release(self) -> None:
        """Let go of every request that hangs or drips: the server is about to stop."""
        self._stopping.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        if request.method == "POST":
            provider = self._chat_paths.get(request.raw_path) or self._chat_provider(request.raw_path)
            if provider is not None:
                return await self._chat(provider, request)
        return self._other(request)

    def _chat_provider(self, raw_path: str) -> Provider | None:
        match = _PATH.fullmatch(raw_path.partition("?")[0])
        if match is None or match["route"] != _CHAT:
            return None
        name = match["provider"] or DEFAULT_PROVIDER
        provider = self._providers.get(name)
        if provider is None:
            provider = self._providers[name] = Provider(name, self._settings)
        if "?" not in raw_path:  # queries could be without number
            self._chat_paths[raw_path] = provider
        return provider

    def _other(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if path == "/stats" and request.method == "GET":
            return web.Response(body=self._figures(), content_type=_JSON)
        if path == "/stats/reset" and request.method == "POST":
            for ledger in self._ledgers():
                ledger.clear()
            return web.Response(body=b"{}", content_type=_JSON)
        match = _PATH.fullmatch(path)
        if match is not None and match["route"] == "/models" and request.method == "GET":
            if request.headers.get("Authorization", "").startswith(_INVALID_KEY):
                wrong_key = _wrong_key()
                return web.Response(body=wrong_key.body, status=wrong_key.status, content_type=_JSON)
            return web.Response(body=replies.models(), content_type=_JSON)
        message = f"Invalid URL ({request.method} {path})"
        body = replies.error_body(message, kind="invalid_request_error", code=None)
        return web.Response(body=body, status=404, content_type=_JSON)

    def _ledgers(self) -> list[Ledger]:
        return [self._total, *(provider.ledger for provider in self._providers.values())]

    def _figures(self) -> bytes:
        second = int(time.time())
        providers = {name: provider.ledger.figures(second) for name, provider in self._providers.items()}
        return _encode({"total": self._total.figures(second), "providers": providers})

    async def _chat(self, provider: Provider, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.content.read()
        except (web.RequestPayloadError, ConnectionError):
            return web.Response(status=400)  # the sender left in the middle of its request; nobody reads this
        mark = replies.fingerprint(body)
        key = int.from_bytes(mark[:8], "little")
        exchange = _Exchange(request, self._stopping, self._settings.hang_s)
        second = int(time.time())
        self._total.arrived(key, len(body), second)
        provider.ledger.arrived(key, len(body), second)
        try:
            with suppress(ConnectionError):  # the client left while it was being answered
                await self._answer(provider, exchange, body, mark)
        finally:
            self._total.left(key, exchange.status, success=exchange.success)
            provider.ledger.left(key, exchange.status, success=exchange.success)
        return exchange.response

    async def _answer(self, provider: Provider, exchange: "_Exchange", body: bytes, mark: bytes) -> None:
        try:
            if exchange.request.headers.get("Authorization", "").startswith(_INVALID_KEY):
                raise _wrong_key()
            completion = replies.compose(body, mark)
        except replies.RequestError as error:
            await exchange.whole(error.status, error.body)
            return
        now = time.monotonic()
        denial = provider.limits.admit(completion.charge, now)
        headers = provider.limits.headers(now)
        if denial is not None:
            self._total.denied(denial.limit)
            provider.ledger.denied(denial.limit)
            await exchange.whole(429, _denial_body(denial), headers={**headers, **_retry_headers(denial)})
            return
        fault = provider.faults.next()
        if fault is not faults.OK:
            self._total.faulted(fault.name)
            provider.ledger.faulted(fault.name)
        if fault.produced:
            if latency := provider.latency():
                await asyncio.sleep(latency)
            self._total.billed(completion.prompt_tokens, completion.completion_tokens)
            provider.ledger.billed(completion.prompt_tokens, completion.completion_tokens)
        if fault.headers or fault.retry_at_s is not None:
            headers = {**headers, **faults.headers_of(fault, time.time())}
        await exchange.deliver(fault, completion.body if fault.body is None else fault.body, headers)


class _Exchange:
    """One request and how far its answer got. The last of a request's stations, and the only one that sends."""

    def __init__(self, request: web.BaseRequest, stopping: asyncio.Event, hang_s: float) -> None:
        self.request = request
        self.response: web.StreamResponse = web.Response()
        self.status: int | None = None  # None until an answer was begun
        self.success = False  # a whole, valid reply was handed to the kernel
        self._stopping = stopping
        self._hang_s = hang_s

    async def whole(
        self,
        status: int,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> None:
        """Send an answer as HTTP wants it."""
        self.response = response = web.Response(body=body, status=status, headers=headers, content_type=content_type)
        await response.prepare(self.request)
        await response.write_eof()
        self.status = status

    async def deliver(self, fault: Fault, body: bytes, headers: Mapping[str, str]) -> None:
        """Send `body`, or as much of it, and as, the fault says."""
        match fault.delivery:
            case Delivery.WHOLE:
                await self.whole(fault.status, body, headers=headers, content_type=fault.content_type)
                self.success = fault.valid
            case Delivery.HALF:
                await self.whole(fault.status, body[: len(body) // 2], headers=headers)
            case Delivery.RESET:
                self._reset()
            case Delivery.RESET_IN_BODY:
                await self._begin(fault.status, len(body), headers)
                await self.response.write(body[: len(body) // 2])  # sent at once: it is far less than a socket buffer
                self._reset()
            case Delivery.HANG:
                await self._pause(self._hang_s)
                self._reset()
            case Delivery.DRIP:
                await self._begin(fault.status, len(body), headers)
                for at in range(len(body)):
                    await self.response.write(body[at : at + 1])
                    if await self._pause(DRIP_S):
                        self._reset()
                        return
                await self.response.write_eof()
                self.success = fault.valid

    async def _begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.response = web.StreamResponse(status=status, headers={**headers, "Content-Type": _JSON})
        self.response.content_length = length
        await self.response.prepare(self.request)
        self.status = status

    async def _pause(self, seconds: float) -> bool:
        """Wait; True where the server is stopping."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _reset(self) -> None:
        transport = self.request.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            transport.abort()


def _wrong_key() -> replies.RequestError:
    return replies.RequestError(401, "Incorrect API key provided.", code="invalid_api_key")


def _denial_body(denial: Denial) -> bytes:
    figures = f"Limit {denial.per_minute:.0f}, Used {denial.used:.0f}, Requested {denial.requested:.0f}."
    if denial.wait is None:
        message = f"Request too large on {denial.limit} per min: {figures} The tokens must be reduced."
    else:
        message = f"Rate limit reached on {denial.limit} per min: {figures} Please try again in {denial.wait:.3f}s."
    return replies.error_body(message, kind=denial.limit, code="rate_limit_exceeded")


def _retry_headers(denial: Denial) -> dict[str, Any]:
    if denial.wait is None:
        return {}
    return {"retry-after": str(ceil(denial.wait)), "retry-after-ms": str(ceil(denial.wait * 1000))}
