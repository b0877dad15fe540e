"""The request handler: which route, which provider, and through the stations. `exchange` sends what comes out.

It is an `aiohttp.web.Server` handler rather than an `Application`: without router and match info a reply
costs 5 to 10% less (measured with wrk), and there are few routes. Mutable state: the providers, their figures and
batch endpoints, and `_stopping`.

A handler is cancelled when its client goes away (`handler_cancellation=True`), so whatever it counts as in flight
is given back in a `finally`.
"""

import asyncio
import re
import time
from contextlib import suppress
from math import ceil, inf
from typing import Annotated, Any

import msgspec
from aiohttp import web

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator import faults, refusals, replies
from rowmill.simulator.batches.api import BatchEndpoints
from rowmill.simulator.batches.storage import Archive
from rowmill.simulator.exchange import JSON, Exchange
from rowmill.simulator.limits import Denial
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.replies import event_stream
from rowmill.simulator.replies.reply import encode
from rowmill.simulator.routes import ROUTES, Route
from rowmill.simulator.settings import DEFAULT_PROVIDER, PREFIX, check
from rowmill.simulator.statistics import Statistics

_PATH = re.compile(rf"(?:/(?P<provider>{PREFIX.pattern}))?/v1(?P<route>/.*)")
_CONTROL = re.compile(rf"/providers/(?P<provider>{PREFIX.pattern})/fault")
_INVALID_KEY = "Bearer invalid"
_CLAIM_S = 5.0  # how long a process that is just ending may still have the state
_CLAIM_STEP_S = 0.05


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /providers/NAME/fault`."""

    fault: str | None  # None ends an outage
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None  # None: until it is ended


_outage_decoder = msgspec.json.Decoder(_Outage)


class Simulator:
    """All providers of one server. Raises ValueError for settings that cannot be."""

    def __init__(self, settings: SimulatorSettings) -> None:
        check(settings)
        self._settings = settings
        self._stopping = asyncio.Event()
        self._total = Statistics()
        self._providers: dict[str, SimulatedProvider] = {}
        self._provider(DEFAULT_PROVIDER)
        self._archive = Archive(settings.state)
        self._batch_endpoints: dict[str, BatchEndpoints] = {}
        self._work_lock = asyncio.Lock()
        # Raw path -> whose request it is: spares the hot path the regular expression.
        self._targets: dict[str, tuple[SimulatedProvider, Route]] = {}

    async def open(self) -> None:
        """Go on with the batches of an earlier process. Raises OSError where `state` cannot be used."""
        ends = time.monotonic() + _CLAIM_S
        while not self._archive.claim():
            if time.monotonic() > ends:
                raise OSError(f"{self._settings.state}: another simulator uses this directory for its state")
            await asyncio.sleep(_CLAIM_STEP_S)
        for name in self._archive.names():
            self._batch_endpoints_of(self._provider(name))

    async def close(self) -> None:
        """Stop the batches and let go of the state."""
        for endpoints in self._batch_endpoints.values():
            await endpoints.close()
        self._archive.close()

    def release(self) -> None:
        """Let go of every request that hangs or drips: the server is about to stop."""
        self._stopping.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        try:
            if request.method == "POST":
                target = self._targets.get(request.raw_path) or self._target(request.raw_path)
                if target is not None:
                    return await self._ask(*target, request)
            return await self._other(request)
        except replies.RequestError as error:
            return web.Response(body=error.body, status=error.status, content_type=JSON)
        except (web.RequestPayloadError, ConnectionError):
            return web.Response(status=400)  # the sender left in the middle of it; nobody reads this

    async def _other(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer what is not asked of a model. Raises `RequestError`."""
        path = request.raw_path.partition("?")[0]
        match = _PATH.fullmatch(path)
        if match is not None and match["route"].split("/")[1] in ("files", "batches"):
            return await self._keep(self._provider(match["provider"] or DEFAULT_PROVIDER), match["route"][1:], request)
        if request.method == "POST":
            if (control := _CONTROL.fullmatch(request.raw_path)) is not None:
                return await self._outage(control["provider"], request)
            if path == "/stats/reset":
                for statistics in (self._total, *(provider.statistics for provider in self._providers.values())):
                    statistics.clear()
                return web.Response(body=b"{}", content_type=JSON)
        elif request.method == "GET":
            if path == "/stats":
                second = int(time.time())
                each = {name: provider.statistics.figures(second) for name, provider in self._providers.items()}
                told = encode({"total": self._total.figures(second), "providers": each})
                return web.Response(body=told, content_type=JSON)
            if match is not None and match["route"].startswith("/models"):
                _require_key(request)
                return web.Response(body=replies.models(match["route"][len("/models/") :]), content_type=JSON)
        raise _no_such_url(request)

    def _target(self, raw_path: str) -> tuple[SimulatedProvider, Route] | None:
        match = _PATH.fullmatch(raw_path.partition("?")[0])
        route = None if match is None else ROUTES.get(match["route"])
        if match is None or route is None:
            return None
        target = (self._provider(match["provider"] or DEFAULT_PROVIDER), route)
        if "?" not in raw_path:  # queries could be without number
            self._targets[raw_path] = target
        return target

    def _provider(self, name: str) -> SimulatedProvider:
        provider = self._providers.get(name)
        if provider is None:
            settings = self._settings.providers.get(name, self._settings)
            provider = self._providers[name] = SimulatedProvider(name, settings, self._total)
        return provider

    def _batch_endpoints_of(self, provider: SimulatedProvider) -> BatchEndpoints:
        endpoints = self._batch_endpoints.get(provider.name)
        if endpoints is None:
            storage = self._archive.storage(provider.name)
            endpoints = self._batch_endpoints[provider.name] = BatchEndpoints(provider, storage, self._work_lock)
        return endpoints

    async def _keep(self, provider: SimulatedProvider, what: str, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request about files or batches."""
        _require_key(request)
        if not provider.settings.batches:
            raise _no_such_url(request)
        exchange = Exchange(request, self._stopping, provider.settings.hang_s)
        return await self._batch_endpoints_of(provider).handle(exchange, what)

    async def _outage(self, name: str, request: web.BaseRequest) -> web.Response:
        try:
            wanted = _outage_decoder.decode(await request.content.read())
            fault = faults.named(wanted.fault) if wanted.fault is not None else None
        except ValueError as error:
            raise replies.RequestError(400, str(error)) from None
        plan = self._provider(name).faults
        if fault is None:
            plan.end_outage()
        else:
            plan.begin_outage(fault, time.monotonic() + (inf if wanted.seconds is None else wanted.seconds))
        return web.Response(body=b"{}", content_type=JSON)

    async def _ask(self, provider: SimulatedProvider, route: Route, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        mark = replies.fingerprint(body)
        key = route.key(mark)
        exchange = Exchange(request, self._stopping, provider.settings.hang_s)
        now = time.time()
        for statistics in provider.counted_in:
            statistics.arrived(key, len(body), now, route.path)
        try:
            with suppress(ConnectionError):  # the client left while it was being answered
                await self._answer(provider, route, exchange, body, mark)
        finally:
            now = time.time()
            for statistics in provider.counted_in:
                statistics.left(key, exchange.status, now, success=exchange.success, damaged=exchange.damaged)
        return exchange.response

    async def _answer(
        self, provider: SimulatedProvider, route: Route, exchange: Exchange, body: bytes, mark: bytes
    ) -> None:
        try:
            _require_key(exchange.request)
            if provider.settings.refuse and route.path in event_stream.STREAMED:
                refusals.refuse(body, provider.settings.refuse)
            if (stream := event_stream.asked(route.path, body)) is not None:
                body = stream.body
            completion = provider.compose(route, body, mark)
        except replies.RequestError as error:
            await exchange.whole(error.status, error.body)
            return
        now = time.monotonic()
        denial = provider.admit(completion.charge, now)
        headers = provider.limit_headers(now)
        if denial is not None:
            for statistics in provider.counted_in:
                statistics.denied(denial.limit)
            retry = _retry_headers(denial) if provider.settings.retry_after else {}
            await exchange.whole(429, _denial_body(denial), headers={**headers, **retry})
            return
        second = time.time()
        for statistics in provider.counted_in:
            statistics.charged(completion.charge, second)
        fault, in_a_row = provider.next_fault(now)
        if fault.content or (completion.structured and fault is faults.OK):
            completion, fault = provider.damage(route, body, mark, completion, fault, plan=provider.content_faults)
        if fault is not faults.OK:
            for statistics in provider.counted_in:
                statistics.by_fault[fault.name] += 1
        if fault.produced:
            await self._produce(provider, route, completion)
        headers = {**headers, **faults.headers_of(fault, time.time(), in_a_row)}
        answer = completion.body if fault.body is None else fault.body
        if stream is not None and fault.body is None:
            answer = event_stream.events(route.path, answer, usage=stream.usage)
            fault = msgspec.structs.replace(fault, content_type=event_stream.CONTENT_TYPE)
        await exchange.deliver(fault, answer, headers)

    async def _produce(self, provider: SimulatedProvider, route: Route, completion: replies.Completion) -> None:
        """Take the time that the reply takes to make, after those before it in line."""
        tokens = completion.completion_tokens
        provider.held += 1
        try:
            async with provider.slot():
                if latency := provider.latency(tokens):
                    await asyncio.sleep(latency)
        finally:
            provider.held -= 1
        for statistics in provider.counted_in:
            statistics.billed(completion.prompt_tokens, tokens, completion.inputs, route.path)


def _require_key(request: web.BaseRequest) -> None:
    if request.headers.get("Authorization", "").startswith(_INVALID_KEY):
        raise replies.RequestError(401, "Incorrect API key provided.", code="invalid_api_key")


def _no_such_url(request: web.BaseRequest) -> replies.RequestError:
    return replies.RequestError(404, f"Invalid URL ({request.method} {request.raw_path.partition('?')[0]})")


def _denial_body(denial: Denial) -> bytes:
    figures = f"Limit {denial.allowed:.0f}, Used {denial.used:.0f}, Requested {denial.requested:.0f}."
    if denial.limit == "queue":
        message = f"Too many requests at a time: {figures}"
    elif denial.wait is None:
        message = f"Request too large on {denial.limit} per min: {figures} The tokens must be reduced."
    else:
        message = f"Rate limit reached on {denial.limit} per min: {figures} Please try again in {denial.wait:.3f}s."
    return replies.error_body(message, kind=denial.limit, code="rate_limit_exceeded")


def _retry_headers(denial: Denial) -> dict[str, Any]:
    if denial.wait is None:
        return {}
    return {"retry-after": str(ceil(denial.wait)), "retry-after-ms": str(ceil(denial.wait * 1000))}
