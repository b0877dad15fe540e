"""Files and batches of a provider: what goes out, what is tried again, and what every failure is called.

The server here answers what a test tells it to, also things that no Batch API should say.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from traceback import format_exception
from typing import Any

import httpx2
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from aiohttp import web

import rowmill
from rowmill.core.wire import Endpoint
from rowmill.transport import results_size
from rowmill.transport.batch_api import BatchApi, BatchProblem, BatchState, BatchTrouble
from scripts.ports import kept_port

KEY = "sk-very-secret-0123456789"
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-in",
    "completion_window": "24h",
    "status": "in_progress",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": 1000,
    "expires_at": 87400,
    "request_counts": {"total": 10, "completed": 4, "failed": 1},
    "metadata": {"rowmill_run": "r1", "rowmill_part": "0"},
}
FILE = {"id": "file-1", "object": "file", "bytes": 5, "created_at": 1000, "filename": "part-0", "purpose": "batch"}
RUN = {"rowmill_run": "r1"}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_of(value: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def error_of(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    return json_of({"error": {"message": message, "code": code}}, status, **headers)


def html(status: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html><h1>Bad gateway</h1></html>", status=status, content_type="text/html")

    return answer


def content(data: bytes) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, content_type="application/octet-stream")

    return answer


def raw(data: bytes, *, reset: bool = False) -> Answer:
    """Write these bytes in the place of a response, and end the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        if reset:
            request.transport.abort()
        else:
            request.transport.write(data)
            request.transport.close()
        return web.Response()

    return answer


async def silence(request: web.Request) -> web.StreamResponse:
    """Hold the request until the client goes away."""
    await asyncio.Event().wait()
    raise AssertionError


async def pause(seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


async def drip(request: web.Request) -> web.StreamResponse:
    """Answer a byte at a time: each single read is soon over, the content never."""
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while True:
            await response.write(b"x")
            await pause(0.01)
    return response


reset = raw(b"", reset=True)
cut_length = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nwhole")
cut_chunks = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n")
unmeasured = raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole")


@dataclass
class Asked:
    """One request as it arrived."""

    call: str  # "GET /v1/batches"
    query: dict[str, str]
    body: bytes
    headers: dict[str, str]
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Provider:
    """A server that gives its answers one after another, the last one again and again."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    @property
    def calls(self) -> list[str]:
        return [asked.call for asked in self.asked]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            now = asyncio.get_running_loop().time()
            call = f"{request.method} {request.path}"
            self.asked.append(Asked(call, dict(request.query), body, dict(request.headers), now))
            return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield
        finally:
            await runner.cleanup()


class Eager(Random):
    """Draws the shortest of all waits."""

    def uniform(self, a: float, b: float) -> float:
        return a


def endpoint(url: str, timeout_s: float = 10.0) -> Endpoint:
    return Endpoint("main", url, KEY, openai_account=False, timeout_s=timeout_s, secrets=(KEY,))


def publish(temporary: Path, final: Path) -> None:
    temporary.replace(final)


Use = Callable[[BatchApi], Awaitable[Any]]


def use(provider: Provider, calls: Use, *, retry_s: float = 20.0, timeout_s: float = 10.0, **http: Any) -> Any:
    """Run some calls against the provider and return what they do."""

    async def main() -> Any:
        async with provider.serve():
            where = endpoint(provider.url, timeout_s)
            api = BatchApi(where, rng=Eager(), publish=publish, retry_s=retry_s, **{"verify": False, **http})
            try:
                async with asyncio.timeout(20):
                    return await calls(api)
            finally:
                await api.close()

    return asyncio.run(main())


def trouble(provider: Provider, calls: Use, *, retry_s: float = 20.0, timeout_s: float = 10.0) -> BatchTrouble:
    """Return the trouble that these calls end in."""
    with pytest.raises(BatchTrouble) as caught:
        use(provider, calls, retry_s=retry_s, timeout_s=timeout_s)
    traceback = "".join(format_exception(caught.value))
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.failure!r} {traceback}"
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part.jsonl"
    path.write_bytes(b'{"custom_id":"r0"}\n')
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "output.jsonl"


# Uploads


def test_an_upload_is_a_form_with_the_purpose_the_name_and_the_content(part: Path) -> None:
    provider = Provider([json_of(FILE)])
    assert use(provider, lambda api: api.upload(part, "run-1-part-0.jsonl")) == "file-1"
    (asked,) = provider.asked
    assert asked.call == "POST /v1/files"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert b'name="purpose"\r\n\r\nbatch\r\n' in asked.body
    assert b'name="file"; filename="run-1-part-0.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n' in asked.body
    assert b'\r\n\r\n{"custom_id":"r0"}\n\r\n--' in asked.body
    assert int(asked.headers["Content-Length"]) == len(asked.body)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (silence, "timeout"),
        (reset, "connection"),
        (cut_length, "connection"),
        (html(502), "server_error"),
        (error_of(503), "overloaded"),
        (html(200), "bad_reply"),
        (json_of({}), "bad_reply"),
        (json_of({**FILE, "id": ""}), "bad_reply"),
        (json_of([1]), "bad_reply"),
    ],
)
def test_what_may_have_been_done_is_not_tried_again(part: Path, answer: Answer, fault: str) -> None:
    for call in (
        lambda api: api.upload(part, "name"),
        lambda api: api.create("file-1", "/v1/chat/completions", {}),
    ):
        provider = Provider([answer])
        # Long enough for the request to be there before it is given up, also on a busy machine.
        short = {"timeout_s": 1.0, "retry_s": 0.2} if fault == "timeout" else {}
        caught = trouble(provider, call, **short)
        assert (caught.gone, caught.failure.fault.name) == (False, fault)
        assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (error_of(429, code="rate_limit_exceeded", Retry_After="7"), "rate_limited"),
        (error_of(400), "invalid_request"),
        (error_of(413, "too large"), "too_large"),
        (error_of(429, code="insufficient_quota"), "quota_exhausted"),
        (error_of(402, code="billing_not_active"), "quota_exhausted"),
        (error_of(403, code="billing_hard_limit_reached"), "quota_exhausted"),
    ],
)
def test_a_refusal_is_not_tried_again(part: Path, answer: Answer, fault: str) -> None:
    for call in (lambda api: api.upload(part, "name"), lambda api: api.create("file-1", "/v1/embeddings", {})):
        provider = Provider([answer])
        caught = trouble(provider, call)
        assert (caught.gone, caught.failure.fault.name) == (False, fault)
        assert caught.failure.retry_after == (7.0 if fault == "rate_limited" else None)
        assert [call for call in provider.calls if call.startswith("POST")] == provider.calls[:1]


def test_where_nothing_listens_the_connection_failed(part: Path) -> None:
    port = kept_port()

    async def main() -> BatchTrouble:
        api = BatchApi(endpoint(f"http://127.0.0.1:{port}/v1"), rng=Eager(), publish=publish)
        with pytest.raises(BatchTrouble, match="connection failed") as caught:
            await api.upload(part, "name")
        await api.close()
        return caught.value

    caught = asyncio.run(main())
    assert (caught.gone, caught.failure.fault.name) == (False, "connection")


def test_a_file_that_cannot_be_read_is_the_machines_trouble(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            use(Provider([json_of(FILE)]), lambda api, path=path: api.upload(path, "name"))  # type: ignore[misc]


def test_proxies_of_the_environment_are_not_asked_for_loopback(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert use(Provider([json_of(FILE)]), lambda api: api.upload(part, "name")) == "file-1"


# What a provider lacks, or a key may not

CALLS: dict[str, Use] = {
    "POST /v1/files": lambda api: api.upload(Path(__file__), "name"),
    "GET /v1/files": lambda api: api.find_upload("name", 1),
    "POST /v1/batches": lambda api: api.create("file-1", "/v1/chat/completions", RUN),
    "GET /v1/batches": lambda api: api.find(RUN, since=0.0),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [json_of({"detail": "Not Found"}, 404), html(404), error_of(405), html(501)])
def test_a_provider_without_a_batch_api_is_said_to_have_none(call: str, answer: Answer) -> None:
    provider = Provider([answer])
    caught = trouble(provider, CALLS[call])
    assert str(caught).startswith("not_found (HTTP ")
    assert """provider 'main' has no Batch API: set task.mode = "live"; it answered: """ in caught.failure.message
    assert (caught.gone, caught.failure.fault.name) == (False, "not_found")
    assert provider.calls == [call]


@pytest.mark.parametrize("call", [*CALLS, "GET /v1/batches/batch_1", "GET /v1/files/file-1/content"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_key_without_permission_is_told_so(call: str, status: int, target: Path) -> None:
    more: dict[str, Use] = {
        "GET /v1/batches/batch_1": lambda api: api.retrieve("batch_1"),
        "GET /v1/files/file-1/content": lambda api: api.download("file-1", target, requests=9, rows=9),
    }
    provider = Provider([error_of(status, f"Missing scopes: api.files.write for key {KEY}")])
    caught = trouble(provider, {**CALLS, **more}[call])
    assert caught.failure.fault.name == "auth"
    assert caught.failure.message == (
        "the key of provider 'main' may not use files and batches: give it write permission for both, "
        'or set task.mode = "live"; it answered: Missing scopes: api.files.write for key [redacted]'
    )
    assert provider.calls == [call]
    assert not target.exists()


def test_a_redirect_says_where_to(target: Path) -> None:
    provider = Provider([json_of({}, 307, Location="https://elsewhere.test/v1/batches")])
    caught = trouble(provider, CALLS["POST /v1/batches"])
    assert "redirecting to https://elsewhere.test/v1/batches: set base_url" in caught.failure.message


# Creating


def test_a_batch_is_created_of_a_file_for_a_day_with_its_metadata() -> None:
    provider = Provider([json_of(BATCH)])
    state = use(
        provider, lambda api: api.create("file-in", "/v1/responses", {"rowmill_run": "r1", "rowmill_part": "0"})
    )
    assert state == BatchState(
        id="batch_1",
        status="in_progress",
        total=10,
        completed=4,
        failed=1,
        output_file_id=None,
        error_file_id=None,
        created_at=1000.0,
        problems=(),
        metadata={"rowmill_run": "r1", "rowmill_part": "0"},
    )
    assert not state.over
    assert provider.asked[0].json == {
        "input_file_id": "file-in",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
        "metadata": {"rowmill_run": "r1", "rowmill_part": "0"},
    }


def test_a_batch_of_a_file_that_is_gone_is_no_missing_api() -> None:
    caught = trouble(
        Provider([error_of(404, "No such File object: file-in")]), lambda api: api.create("file-in", "/", {})
    )
    assert caught.gone
    assert caught.failure.message == "provider 'main' does not know file file-in: No such File object: file-in"


@pytest.mark.parametrize(("described", "gone"), [(error_of(404), True), (json_of(FILE), False), (error_of(403), False)])
def test_whether_a_refused_batch_lacks_its_file_is_asked(described: Answer, gone: bool) -> None:
    provider = Provider([error_of(400, "No such File object"), html(502), described])
    caught = trouble(provider, lambda api: api.create("file-in", "/v1/embeddings", {}))
    assert (caught.gone, caught.failure.fault.name, caught.failure.message) == (
        gone,
        "invalid_request",
        "No such File object",
    )
    assert provider.calls == ["POST /v1/batches", "GET /v1/files/file-in", "GET /v1/files/file-in"]


# Looking for what was made


def pages(*of: list[dict[str, Any]], **more: Any) -> list[Answer]:
    return [json_of({"object": "list", "data": page, "has_more": page is not of[-1], **more}) for page in of]


def batch(number: int, created_at: float, **more: Any) -> dict[str, Any]:
    return {**BATCH, "id": f"batch_{number}", "created_at": created_at, **more}


def ids(found: list[BatchState]) -> list[str]:
    return [state.id for state in found]


def test_batches_are_found_by_all_of_the_metadata_over_all_pages() -> None:
    other = {"metadata": {"rowmill_run": "r2", "rowmill_part": "0"}}
    provider = Provider(
        pages(
            [batch(1, 5000.0), batch(2, 4900.0, **other)],
            [batch(3, 4800.0, metadata=None), batch(4, 4700.0, metadata={"rowmill_run": "r1"})],
            [batch(5, 4700.0), {"id": ""}, {}],
        )
    )
    wanted = {"rowmill_run": "r1", "rowmill_part": "0"}
    assert ids(use(provider, lambda api: api.find(wanted, since=4000.0))) == ["batch_1", "batch_5"]
    assert [asked.query.get("after") for asked in provider.asked] == [None, "batch_2", "batch_4"]
    assert {asked.query["limit"] for asked in provider.asked} == {"100"}


def test_batches_from_before_the_run_are_neither_found_nor_paged_through() -> None:
    recent = [batch(1, 5000.0), batch(2, 3500.0), batch(3, 3300.0)]  # the clocks may differ by ten minutes
    provider = Provider(pages(recent, [batch(4, 3200.0)]))
    assert ids(use(provider, lambda api: api.find(RUN, since=4000.0))) == ["batch_1", "batch_2"]
    assert len(provider.asked) == 1


def test_a_list_with_the_oldest_first_is_read_to_its_end() -> None:
    provider = Provider(pages([batch(1, 100.0), batch(2, 200.0)], [batch(3, 5000.0), batch(4, 6000.0)]))
    assert ids(use(provider, lambda api: api.find(RUN, since=4000.0))) == ["batch_4", "batch_3"]


def test_a_batch_of_unknown_age_is_found() -> None:
    assert ids(use(Provider(pages([batch(1, 0.0)])), lambda api: api.find(RUN, since=4000.0))) == ["batch_1"]


def test_a_server_that_does_not_page_is_not_asked_for_ever() -> None:
    same = json_of({"data": [batch(1, 5000.0)]})
    provider = Provider([same])
    assert set(ids(use(provider, lambda api: api.find(RUN, since=4000.0)))) == {"batch_1"}
    assert len(provider.asked) == 2
    assert use(Provider([json_of({"data": []})]), lambda api: api.find(RUN, since=0.0)) == []
    assert use(Provider([json_of({"data": [FILE]})]), lambda api: api.find_upload("part-0", 5)) == "file-1"


def test_an_upload_is_found_by_its_name_size_and_purpose() -> None:
    def file(number: int, created_at: int, **more: Any) -> dict[str, Any]:
        return {**FILE, "id": f"file-{number}", "created_at": created_at, **more}

    provider = Provider(
        pages(
            [file(1, 900), file(2, 2000, purpose="batch_output"), file(3, 2001, bytes=6)],
            [file(4, 1000), file(5, 950), file(6, 3000, filename="part-1"), file(7, 3000, status="error"), {}],
        )
    )
    assert use(provider, lambda api: api.find_upload("part-0", 5)) == "file-4"
    assert [asked.query for asked in provider.asked] == [
        {"purpose": "batch", "order": "desc"},
        {"purpose": "batch", "order": "desc", "after": "file-3"},
    ]
    assert use(Provider(pages([file(1, 900)])), lambda api: api.find_upload("part-0", 4)) is None


def test_a_page_that_failed_is_asked_again() -> None:
    first, second = pages([batch(1, 5000.0)], [batch(2, 4900.0)])
    provider = Provider([html(502), first, error_of(429), html(200), json_of({"no": "data"}), second])
    assert ids(use(provider, lambda api: api.find(RUN, since=4000.0))) == ["batch_1", "batch_2"]
    assert [asked.query.get("after") for asked in provider.asked] == [None, None, *["batch_1"] * 4]


# How a batch stands


def test_a_state_is_read_from_whatever_servers_leave_out() -> None:
    bare = {"id": "", "status": "finalizing", "output_file_id": "", "error_file_id": "", "request_counts": None}
    state = use(Provider([json_of(bare)]), lambda api: api.retrieve("batch_9"))
    assert state == BatchState("batch_9", "finalizing", 0, 0, 0, None, None, 0.0, (), {})
    odd = {
        "id": "b",
        "status": "paused_by_operator",
        "request_counts": {"total": 3, "completed": None},
        "errors": {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "m", "line": 3}, {}, None]},
        "metadata": {"a": "b", "c": 1},
        "created_at": 12.5,
    }
    state = use(Provider([json_of(odd)]), lambda api: api.retrieve("b"))
    assert (state.total, state.completed, state.failed, state.over) == (3, 0, 0, False)
    assert state.problems == (BatchProblem("token_limit_exceeded", "m", 3), BatchProblem("", "", None))
    assert state.metadata == {"a": "b"}
    state = use(Provider([json_of({**odd, "errors": "broken"})]), lambda api: api.retrieve("b"))
    assert state.problems == ()


@pytest.mark.parametrize("status", ["failed", "completed", "expired", "cancelled"])
def test_four_states_are_the_last(status: str) -> None:
    state = use(Provider([json_of({**BATCH, "status": status})]), lambda api: api.retrieve("batch_1"))
    assert state.over


@pytest.mark.parametrize(
    "answer",
    [
        html(502), html(200), error_of(500), error_of(503), error_of(408), error_of(429), error_of(409), reset,
        cut_length, json_of({}), json_of({**BATCH, "status": None}), json_of(None),
    ],
)  # fmt: skip
def test_a_look_that_failed_is_taken_again(answer: Answer) -> None:
    provider = Provider([answer, answer, json_of(BATCH)])
    assert use(provider, lambda api: api.retrieve("batch_1")).id == "batch_1"
    assert provider.calls == ["GET /v1/batches/batch_1"] * 3


def test_a_state_that_comes_compressed_unasked_is_read() -> None:
    packed = pa.compress(json.dumps(BATCH).encode(), codec="brotli", asbytes=True)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"content-encoding": "br", "content-type": "application/json"})

    assert use(Provider([answer]), lambda api: api.retrieve("batch_1")).id == "batch_1"


def test_a_look_that_nobody_answers_is_taken_again() -> None:
    provider = Provider([silence, json_of(BATCH)])
    assert use(provider, lambda api: api.retrieve("batch_1"), retry_s=1.5).id == "batch_1"
    assert len(provider.asked) == 2


@pytest.mark.timed
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (silence, "timeout"),
        (reset, "connection"),
        (html(502), "server_error"),
        (error_of(503), "overloaded"),
        (json_of({}), "bad_reply"),
    ],
)
def test_trying_again_ends(answer: Answer, fault: str) -> None:
    provider = Provider([answer])
    caught = trouble(provider, lambda api: api.retrieve("batch_1"), retry_s=1.0)
    assert (caught.failure.fault.name, caught.gone) == (fault, False)
    assert 1 < len(provider.asked) <= 30
    assert provider.asked[-1].at - provider.asked[0].at < 3.0


def test_the_server_says_how_long_to_wait() -> None:
    provider = Provider([error_of(503, retry_after_ms="150"), json_of(BATCH)])
    use(provider, lambda api: api.retrieve("batch_1"))
    assert provider.asked[1].at - provider.asked[0].at >= 0.15


def test_a_wait_beyond_the_time_for_tries_is_left_to_the_caller() -> None:
    provider = Provider([error_of(429, Retry_After="600")])
    caught = trouble(provider, lambda api: api.retrieve("batch_1"))
    assert (caught.failure.fault.name, caught.failure.retry_after) == ("rate_limited", 600.0)
    assert len(provider.asked) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_a_batch_or_file_that_is_unknown_is_gone(status: int, target: Path) -> None:
    calls: dict[str, Use] = {
        "batch batch_1": lambda api: api.retrieve("batch_1"),
        "batch batch_2": lambda api: api.cancel("batch_2"),
        "file file-1": lambda api: api.download("file-1", target, requests=9, rows=9),
    }
    for name, call in calls.items():
        provider = Provider([error_of(status, "No such thing")])
        caught = trouble(provider, call)
        assert caught.gone
        assert caught.failure.message == f"provider 'main' does not know {name}: No such thing"
        assert len(provider.asked) == 1


# Cancelling


def test_a_batch_is_cancelled() -> None:
    provider = Provider([html(502), json_of({**BATCH, "status": "cancelling"})])
    assert use(provider, lambda api: api.cancel("batch_1")).status == "cancelling"
    assert provider.calls == ["POST /v1/batches/batch_1/cancel"] * 2


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled", "cancelling"])
@pytest.mark.parametrize("refusal", [400, 409])
def test_a_batch_that_is_over_needs_no_cancelling(status: str, refusal: int) -> None:
    provider = Provider([error_of(refusal, "Cannot cancel"), json_of({**BATCH, "status": status})])
    assert use(provider, lambda api: api.cancel("batch_1")).status == status
    assert provider.calls == ["POST /v1/batches/batch_1/cancel", "GET /v1/batches/batch_1"]


def test_a_batch_that_goes_on_although_cancelled_is_trouble() -> None:
    provider = Provider([error_of(400, "Not today"), json_of(BATCH)])
    caught = trouble(provider, lambda api: api.cancel("batch_1"))
    assert caught.failure.message == "Not today"


# Downloads


@pytest.mark.parametrize("data", [b"", b"whole", b"x" * 3_000_000])
def test_a_file_comes_down_whole(data: bytes, target: Path) -> None:
    provider = Provider([content(data)])
    assert use(provider, lambda api: api.download("file-1", target, requests=9, rows=9)) == len(data)
    assert target.read_bytes() == data
    assert provider.calls == ["GET /v1/files/file-1/content"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("answer", [html(502), html(200), error_of(503), reset, cut_length, cut_chunks, error_of(429)])
def test_a_download_that_failed_is_taken_again_from_its_start(answer: Answer, target: Path) -> None:
    provider = Provider([answer, answer, content(b"0123456789")])
    assert use(provider, lambda api: api.download("file-1", target, requests=9, rows=9)) == 10
    assert target.read_bytes() == b"0123456789"
    assert len(provider.asked) == 3


def test_a_content_of_unknown_length_is_measured_by_the_files_description(target: Path) -> None:
    size = json_of({**FILE, "bytes": 10})
    provider = Provider([unmeasured, size, unmeasured, html(502), content(b"0123456789"), size])
    assert use(provider, lambda api: api.download("file-1", target, requests=9, rows=9)) == 10
    assert provider.calls == ["GET /v1/files/file-1/content", "GET /v1/files/file-1"] * 2 + [
        "GET /v1/files/file-1/content"
    ]


@pytest.mark.parametrize("answer", [json_of({**FILE, "bytes": 5}), json_of({**FILE, "bytes": 0}), error_of(404)])
def test_a_content_that_nothing_measures_is_taken_as_it_comes(answer: Answer, target: Path) -> None:
    provider = Provider([unmeasured, answer])
    assert use(provider, lambda api: api.download("file-1", target, requests=9, rows=9)) == 5


def test_a_length_that_the_wire_does_not_hold_is_found(target: Path) -> None:
    """Of HTTP/1.1 the client itself counts; a transport that does not is no reason to lose rows."""

    class Short(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"whole"

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Length": "10"}, stream=Short())

    with pytest.raises(BatchTrouble, match="the content of file file-1 is cut: 5 of 10 bytes came"):
        use(
            Provider(),
            lambda api: api.download("file-1", target, requests=9, rows=9),
            retry_s=1.0,
            transport=httpx2.MockTransport(answer),
        )


@pytest.mark.parametrize(
    ("answer", "fault", "retry_s", "tries"),
    # One that goes on for ever ends by the time, the others by the number of tries: how many fit into a second is
    # the machine's affair.
    [(drip, "timeout", 1.0, 1), (cut_length, "connection", 20.0, 12), (html(502), "server_error", 20.0, 12)],
)
def test_a_download_that_never_ends_well_leaves_what_was_there(
    answer: Answer, fault: str, retry_s: float, tries: int, target: Path
) -> None:
    target.write_bytes(b"before")
    provider = Provider([answer])
    caught = trouble(provider, lambda api: api.download("file-1", target, requests=9, rows=9), retry_s=retry_s)
    assert caught.failure.fault.name == fault
    assert len(provider.asked) == tries
    assert target.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (b'{"custom_id":"r1"}\n' * 50_000, "more than 10,090 lines for 9 requests"),
        (b"x" * (1 << 20), "a line of more than 8 MiB"),
    ],
)
def test_results_that_do_not_end_are_given_up(
    piece: bytes, words: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave nothing on the disk, and are not asked for again."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(piece)
        return response

    monkeypatch.setattr(results_size, "_LINE_BYTES", 1 << 23)
    provider = Provider([endless])
    caught = trouble(provider, lambda api: api.download("file-1", target, requests=9, rows=9))
    assert caught.gone
    assert caught.failure.message == f"file file-1 has {words}, and was not read to its end"
    assert len(provider.asked) == 1
    assert sum(path.stat().st_size for path in target.parent.iterdir()) == 0


def test_a_slow_line_is_given_its_time(target: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(10 << 20)})
        await response.prepare(request)
        for _ in range(10):
            await response.write(bytes(1 << 20))
            await pause(0.15)
        return response

    provider = Provider([slow])
    assert use(provider, lambda api: api.download("file-1", target, requests=9, rows=9), retry_s=1.0) == 10 << 20
    assert len(provider.asked) == 1


def test_a_place_that_cannot_be_written_is_the_machines_trouble(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        use(
            Provider([content(b"whole")]),
            lambda api: api.download("file-1", tmp_path / "absent" / "file", requests=9, rows=9),
        )


# Memory


BIG = 120 << 20
CLIENT = """
import asyncio, resource, sys
from pathlib import Path
from random import Random
from rowmill.core.wire import Endpoint
from rowmill.transport.batch_api import BatchApi

url, big, small, target = sys.argv[1], *map(Path, sys.argv[2:])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

async def main():
    endpoint = Endpoint("main", url, None, openai_account=False, timeout_s=60.0)
    api = BatchApi(endpoint, rng=Random(1), publish=lambda temporary, final: temporary.replace(final))
    await api.upload(small, "small")
    await api.download("small", target, requests=9, rows=9)
    start = peak()
    await api.upload(big, "big")
    up = peak()
    size = await api.download("big", target, requests=9, rows=9)
    print(up - start, peak() - up, size)
    await api.close()

asyncio.run(main())
"""


def test_the_memory_of_a_transfer_does_not_grow_with_the_file(tmp_path: Path, part: Path) -> None:
    big = tmp_path / "big.jsonl"
    with big.open("wb") as file:
        file.truncate(BIG)
    taken: list[int] = []
    piece = bytes(1 << 20)

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            taken.append(0)
            async for data in request.content.iter_any():
                taken[-1] += len(data)
            return web.json_response(FILE)
        response = web.StreamResponse(headers={"Content-Length": str(BIG)})
        if "small" in request.path:
            return web.Response(body=b"whole")
        await response.prepare(request)
        for _ in range(BIG // len(piece)):
            await response.write(piece)
        return response

    async def main() -> list[int]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, url, str(big), str(part), str(tmp_path / "target")),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(rowmill.__file__).parents[1])},
        )
        told, _ = await client.communicate()
        await runner.cleanup()
        assert client.returncode == 0
        return [int(figure) for figure in told.split()]

    up, down, size = asyncio.run(main())
    assert taken[1] - BIG < 1000
    assert size == BIG
    # Nothing, as measured. Given a path in the place of an open file, the package would take 329 MiB for these 120.
    assert up < 16 << 20, f"{up >> 20} MiB for the upload"
    assert down < 16 << 20, f"{down >> 20} MiB for the download"
