"""What both transports really put on the wire, and what they make of what comes back.

The server here is a raw socket: it shows every byte of a request, and can answer with things that no server
library would send.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import re
import resource
import socket
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.wire import Endpoint, Failure, Reply
from rowmill.transport import Transport, open_transport
from rowmill.transport.reply_size import LONGEST
from rowmill.transport.request_head import with_head

API = "chat.completions"
KINDS = ["direct", "sdk"]
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
BODY = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": 'Say "ä\u2028\U0001f600"'}],
    "temperature": 0.2,
    "max_tokens": 5,
    "top_k": 4,  # known to other servers only
    "response_format": {"type": "json_object"},
    "extra": {"deep": [1, 2.5, None, True]},
}


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} came more than once"
        return values[0] if values else None


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes, *, length: int | None = None, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Text\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def bytes_then(data: bytes, *, close: bool) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hold the request until the client goes away."""
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a byte at a time: each single read is soon over, the reply never."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    gone = asyncio.ensure_future(reader.read())
    while not gone.done():
        writer.write(b"{")
        await asyncio.wait([gone], timeout=0.02)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


fine = bytes_then(http(200, json.dumps(COMPLETION).encode(), headers="Content-Type: application/json\r\n"), close=False)


@dataclass
class Wire:
    """A server on loopback that records each request and gives each the same answer."""

    answer: Answer = fine
    requests: list[Received] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._changed = asyncio.Event()

    def url(self, path: str = "/v1") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._connection, sock=self.socket, backlog=4096)
        try:
            yield
        finally:
            server.close()
            for writer in self.open:
                writer.transport.abort()
            await self.all_closed()

    async def all_closed(self) -> None:
        """Return once no connection is open."""
        await self._until(lambda: not self.open)

    async def arrived(self, count: int) -> None:
        """Return once so many requests have come."""
        await self._until(lambda: len(self.requests) >= count)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    self.requests.append(await self._request(reader))
                    self._changed.set()
                    await self.answer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.open.discard(writer)
            self._changed.set()

    async def _request(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip("\r\n").split("\r\n")
        method, target, version = line.split(" ")
        assert version == "HTTP/1.1"
        headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in fields)]
        received = Received(method, target, headers, b"")
        length = received.header("content-length")
        assert length is not None, "a body of known length is sent with its length"
        received.body = await reader.readexactly(int(length))
        return received


Headers = tuple[tuple[str, str], ...]


def endpoint(url: str, *, key: str | None = "sk-test", timeout_s: float = 20.0, extra: Headers = ()) -> Endpoint:
    return Endpoint(provider="p", base_url=url, key=key, openai_account=False, timeout_s=timeout_s, extra_headers=extra)


def send(
    kind: str,
    wire: Wire,
    base_url: str = "",
    *,
    key: str | None = "sk-test",
    timeout_s: float = 20.0,
    times: int = 1,
    extra: Headers = (),
) -> list[Reply | Failure]:
    """Send so many requests one after the other through a transport of that kind; return what came back."""
    target = endpoint(base_url or wire.url(), key=key, timeout_s=timeout_s, extra=extra)
    resolved = with_head(target, API, {}) if kind == "direct" else target

    async def run() -> list[Reply | Failure]:
        async with wire.serve(), opened(kind, resolved) as transport:
            return [await transport.send(json.dumps(BODY).encode()) for _ in range(times)]

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def opened(kind: str, target: Endpoint, concurrency: int = 8, api: str = API) -> AsyncIterator[Transport]:
    transport = open_transport(kind, target, api=api, concurrency=concurrency)
    try:
        yield transport
    finally:
        await transport.close()


def failed(kind: str, wire: Wire, base_url: str = "", *, timeout_s: float = 20.0) -> Failure:
    (found,) = send(kind, wire, base_url, timeout_s=timeout_s)
    assert isinstance(found, Failure), found
    return found


# What is sent


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/gateway/team-a/v1", "/gateway/team-a/v1/chat/completions"),
        ("/deployments/d?api-version=2024-10-21", "/deployments/d/chat/completions?api-version=2024-10-21"),
        ("/v1/?api-version=1&x=a%20b", re.compile(r"/v1/chat/completions\?api-version=1&x=a(\+|%20)b")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["sk-test", None])
def test_both_transports_put_the_same_request_on_the_wire(path: str, target: Any, key: str | None) -> None:
    sent = {}
    hosts = {}
    for kind in KINDS:
        wire = Wire()
        (reply,) = send(kind, wire, wire.url(path), key=key)
        assert isinstance(reply, Reply)
        (sent[kind],) = wire.requests
        hosts[kind] = wire.port
    direct, sdk = sent["direct"], sent["sdk"]
    assert direct.method == sdk.method == "POST"
    assert direct.target == sdk.target
    assert re.fullmatch(target if isinstance(target, re.Pattern) else re.escape(target), direct.target)
    for name in ("authorization", "accept", "content-type", "user-agent", "openai-organization", "openai-project"):
        assert direct.header(name) == sdk.header(name), name
    assert direct.header("authorization") == (None if key is None else "Bearer sk-test")
    assert direct.header("content-type") == "application/json"
    assert direct.header("accept") == "application/json"
    for kind in KINDS:
        assert sent[kind].header("host") == f"127.0.0.1:{hosts[kind]}"
    assert json.loads(direct.body) == json.loads(sdk.body) == BODY


def test_direct_sends_no_figures_about_a_package_that_does_not_send_it() -> None:
    wire = Wire()
    send("direct", wire)
    names = {name.lower() for name, _ in wire.requests[0].headers}
    assert not any(name.startswith("x-stainless") for name in names)
    assert names <= {
        "accept", "authorization", "content-type", "user-agent", "host", "content-length", "accept-encoding",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["sk-test", None])
def test_both_transports_send_the_headers_that_the_configuration_adds(key: str | None) -> None:
    extra = (("X-Team", "one, two"), ("api-key", "az-secret"), ("User-Agent", "mine/1"), ("X-Stainless-Lang", "own"))
    for kind in KINDS:
        wire = Wire()
        (reply,) = send(kind, wire, key=key, extra=extra)
        assert isinstance(reply, Reply)
        (sent,) = wire.requests
        assert [sent.header(name.lower()) for name, _ in extra] == [value for _, value in extra], kind
        assert sent.header("authorization") == (None if key is None else "Bearer sk-test")
        assert sent.header("content-type") == "application/json"
        assert json.loads(sent.body) == BODY


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("key", ["sk-test", None])
def test_an_authorization_of_the_configuration_is_the_only_one(name: str, key: str | None) -> None:
    for kind in KINDS:
        wire = Wire()
        send(kind, wire, key=key, extra=((name, "Basic abc"),))
        assert wire.requests[0].header("authorization") == "Basic abc", kind


@pytest.mark.parametrize("kind", KINDS)
def test_connections_are_kept_and_used_again(kind: str) -> None:
    wire = Wire()
    opened_before = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened_before.append(writer)
        await fine(reader, writer)

    wire.answer = answer
    assert all(isinstance(reply, Reply) for reply in send(kind, wire, times=5))
    assert len(wire.requests) == 5
    assert len(set(opened_before)) == 1


# What the environment may and may not add

ACCOUNT = {
    "OPENAI_API_KEY": "sk-env-key",
    "OPENAI_ADMIN_KEY": "sk-env-admin",
    "OPENAI_ORG_ID": "org-env",
    "OPENAI_PROJECT_ID": "proj-env",
    "OPENAI_CUSTOM_HEADERS": "X-Env: env-header",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/env-url",
    "OPENAI_WEBHOOK_SECRET": "sk-env-webhook",
}
DRIVE = """
import asyncio, os, sys
from rowmill.core.wire import Endpoint, Reply
from rowmill.transport import open_transport
from rowmill.transport.reply_size import LONGEST
from rowmill.transport.request_head import with_head

kind, url, key, *accounts = sys.argv[1:]

async def send(endpoint):
    transport = open_transport(kind, endpoint, api="chat.completions", concurrency=1)
    result = await transport.send(b'{"model": "m", "messages": []}')
    await transport.close()
    assert isinstance(result, Reply), result

for account in accounts:
    endpoint = Endpoint("p", url, key or None, account == "account", 20.0)
    if kind == "direct":
        endpoint = with_head(endpoint, "chat.completions", os.environ)
    asyncio.run(send(endpoint))
os._exit(0)  # as workers end
"""


def sent_with_environment(
    kinds: list[str], environment: dict[str, str], *, key: str, account: bool
) -> dict[str, Received]:
    """Send one request through each of these transports, each in a process of its own; return what arrived."""
    sent = sent_in_turn(kinds, environment, key=key, accounts=["account" if account else "other"])
    return {kind: received for kind, (received,) in sent.items()}


def sent_in_turn(
    kinds: list[str], environment: dict[str, str], *, key: str, accounts: list[str]
) -> dict[str, list[Received]]:
    """Send requests for each of these accounts in turn, those of one transport all in one process."""

    async def run(kind: str) -> list[Received]:
        wire = Wire()
        async with wire.serve():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DRIVE, kind, wire.url(), key, *accounts,
                env=os.environ | environment, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return wire.requests

    async def all_kinds() -> list[list[Received]]:
        return await asyncio.gather(*(run(kind) for kind in kinds))

    return dict(zip(kinds, asyncio.run(all_kinds()), strict=True))


@pytest.mark.parametrize("key", ["", "sk-own"])
def test_nothing_of_the_openai_account_reaches_another_server(key: str, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password env-password\n", encoding="utf-8")
    netrc.chmod(0o600)
    environment = ACCOUNT | {"NETRC": str(netrc)}
    for kind, received in sent_with_environment(KINDS, environment, key=key, account=False).items():
        text = repr(received.headers) + received.target + received.body.decode()
        assert "env" not in text, f"{kind}: {text}"
        assert received.header("openai-organization") is None
        assert received.header("openai-project") is None
        assert received.header("authorization") == (f"Bearer {key}" if key else None)


def test_openais_own_server_gets_the_accounts_organisation_and_project_from_both() -> None:
    environment = {name: value for name, value in ACCOUNT.items() if name != "OPENAI_BASE_URL"}
    for received in sent_with_environment(KINDS, environment, key="sk-own", account=True).values():
        assert received.header("authorization") == "Bearer sk-own"
        assert received.header("openai-organization") == "org-env"
        assert received.header("openai-project") == "proj-env"
        assert received.header("x-env") == "env-header"


def test_openai_beside_other_providers_keeps_its_account_and_the_others_get_none_of_it() -> None:
    environment = {name: value for name, value in ACCOUNT.items() if name != "OPENAI_BASE_URL"}
    sent = sent_in_turn(KINDS, environment, key="sk-own", accounts=["other", "account", "other", "account"])
    for kind, received in sent.items():
        assert [each.header("openai-organization") for each in received] == [None, "org-env"] * 2, kind
        assert [each.header("x-env") for each in received] == [None, "env-header"] * 2, kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_on_this_machine_is_reached_without_the_environments_proxy(kind: str) -> None:
    names = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    proxies = dict.fromkeys(names, "http://127.0.0.1:9") | {"NO_PROXY": "", "no_proxy": ""}
    assert sent_with_environment([kind], proxies, key="sk-own", account=False)[kind].method == "POST"


# What comes back


_PLAIN = json.dumps(COMPLETION).encode()
ENCODED = {
    "gzip": gzip.compress(_PLAIN),
    "deflate": zlib.compress(_PLAIN),
    "br": pa.compress(_PLAIN, codec="brotli", asbytes=True),
    "zstd": pa.compress(_PLAIN, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [(kind, each) for kind in ("direct", "sdk") for each in ENCODED],
)
def test_a_compressed_reply_that_nobody_has_asked_for_is_read(kind: str, encoding: str) -> None:
    headers = f"Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n"
    wire = Wire(bytes_then(http(200, ENCODED[encoding], headers=headers), close=False))
    (reply,) = send(kind, wire)
    assert isinstance(reply, Reply)
    assert reply.body == _PLAIN


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_reply_that_is_none_is_a_failure(kind: str, encoding: str) -> None:
    headers = f"Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n"
    wire = Wire(bytes_then(http(200, b"no gzip at all", headers=headers), close=False))
    (failure,) = send(kind, wire)
    assert isinstance(failure, Failure)
    assert failure.maybe_billed


AS_IT_IS: list[tuple[str, bytes]] = [
    ("gzip", _PLAIN),
    ("br", _PLAIN),
    ("zstd", _PLAIN),
    ("deflate", _PLAIN),
    ("zstd", ENCODED["gzip"]),
    ("gzip", ENCODED["zstd"]),
    ("gzip", ENCODED["deflate"]),
    ("br", ENCODED["br"]),
    ("deflate", ENCODED["deflate"][2:-4]),
    ("identity, gzip", ENCODED["gzip"]),
    ("gzip, identity", ENCODED["gzip"]),
    ("gzip, gzip", gzip.compress(ENCODED["gzip"])),
    ("x-gzip", ENCODED["gzip"]),
    ("utf-8", _PLAIN),
    ("snappy", _PLAIN),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_is_unpacked_by_what_its_bytes_are_whatever_its_headers_say(kind: str) -> None:
    answers = iter(AS_IT_IS)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encoding, body = next(answers)
        await bytes_then(http(200, body, headers=f"Content-Encoding: {encoding}\r\n"), close=False)(reader, writer)

    replies = send(kind, Wire(answer), times=len(AS_IT_IS))
    for reply, (encoding, _) in zip(replies, AS_IT_IS, strict=True):
        assert isinstance(reply, Reply), encoding
        assert reply.body == _PLAIN, encoding


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_installation_reads_every_coding(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    whole = [(200, "gzip", ENCODED["gzip"]), (200, "zstd", ENCODED["zstd"]), (200, "br", ENCODED["br"])]
    answers = iter([*whole, (429, "zstd", ENCODED["zstd"])])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, encoding, body = next(answers)
        await bytes_then(http(status, body, headers=f"Content-Encoding: {encoding}\r\n"), close=False)(reader, writer)

    replies = send(kind, Wire(answer), times=4)
    assert [reply.body for reply in replies if isinstance(reply, Reply)] == [_PLAIN] * 4


def chunked(status: int, pieces: Iterable[bytes], headers: str = "") -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Text\r\nTransfer-Encoding: chunked\r\n{headers}\r\n".encode())
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_comes_whole_whatever_it_says_of_its_length(kind: str) -> None:
    edges = (1, 1 << 16, 999_999, 1 << 20)
    sizes = sorted({0, 5 << 20, *(edge + off for edge in edges for off in (-1, 0, 1))})
    bodies = [bytes(index % 251 for index in range(256)) * (size // 256 + 1) for size in sizes]
    bodies = [body[:size] for body, size in zip(bodies, sizes, strict=True)]
    answers = [
        answer
        for body in bodies
        for answer in (
            bytes_then(http(200, body), close=False),
            chunked(200, [body[start : start + 50_000] for start in range(0, len(body), 50_000)]),
        )
    ]
    wire = Wire()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answers[len(wire.requests) - 1](reader, writer)

    wire.answer = answer
    replies = send(kind, wire, times=len(answers))
    assert all(isinstance(reply, Reply) and reply.body == bodies[at // 2] for at, reply in enumerate(replies))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_events_comes_whole_however_long_it_is_and_however_it_comes(kind: str) -> None:
    def split(body: bytes, size: int, headers: str = "") -> Answer:
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        return chunked(200, pieces, f"Content-Type: text/event-stream\r\n{headers}")

    event = 'data: {"choices":[{"delta":{"content":"wörd"}}]}\n\n'.encode()
    short, long = event * 3, event * (5 * (1 << 20) // len(event))
    cases = [
        (short, split(short, 1)),
        (long, split(long, 70_001)),
        (long, split(gzip.compress(long, 1), 70_001, "Content-Encoding: gzip\r\n")),
    ]
    wire = Wire()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(wire.requests) > len(cases):
            await chunked(200, itertools.repeat(event * 20_000), "Content-Type: text/event-stream\r\n")(reader, writer)
        await cases[len(wire.requests) - 1][1](reader, writer)

    wire.answer = answer
    *replies, endless = send(kind, wire, times=len(cases) + 1)
    assert [reply.body if isinstance(reply, Reply) else reply for reply in replies] == [body for body, _ in cases]
    assert isinstance(endless, Failure)
    assert endless.fault.name == "reply_too_large"


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_is_read_than_a_reply_may_have(kind: str) -> None:
    def whole(status: int, body: bytes, coding: str) -> Answer:
        # What comes whole leaves its connection for another request, if that is there in time: chance is kept out.
        headers = f"Content-Encoding: {coding}\r\nConnection: close\r\n"
        return bytes_then(http(status, body, headers=headers), close=True)

    piece = b"x" * (1 << 20)
    bomb = gzip.compress(b" " * (LONGEST + 1), 1)
    bombs = {codec: pa.compress(b" " * (LONGEST + 1), codec=codec, asbytes=True) for codec in ("brotli", "zstd")}
    answers = [
        chunked(200, itertools.repeat(piece)),
        bytes_then(http(200, b"", length=1 << 40) + piece * 66, close=False),
        whole(200, bomb, "gzip"),
        whole(200, bombs["brotli"], "br"),
        whole(200, bombs["zstd"], "zstd"),
        whole(429, bombs["brotli"], "br"),
        whole(429, bomb, "gzip"),
        chunked(500, itertools.repeat(piece), "Retry-After: 7\r\n"),
        fine,
    ]
    wire = Wire()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answers[len(wire.requests) - 1](reader, writer)

    wire.answer = answer
    target = endpoint(wire.url())
    resolved = with_head(target, API, {}) if kind == "direct" else target

    async def run() -> list[Reply | Failure]:
        async with wire.serve(), opened(kind, resolved) as transport:
            found = [await transport.send(json.dumps(BODY).encode()) for _ in answers[:-1]]
            await wire.all_closed()  # what was left is not kept waiting
            return [*found, await transport.send(json.dumps(BODY).encode())]

    *long, limited, limited_too, server_error, good = asyncio.run(run())
    assert [each.fault.name for each in long if isinstance(each, Failure)] == ["reply_too_large"] * 5
    assert all(isinstance(each, Failure) and each.maybe_billed and each.status == 200 for each in long)
    assert isinstance(server_error, Reply)
    assert (server_error.status, server_error.header("retry-after"), server_error.body) == (500, "7", piece[: 1 << 16])
    for each in (limited, limited_too):
        assert isinstance(each, Reply)
        assert (each.status, each.body) == (429, b" " * (1 << 16))
    assert isinstance(good, Reply)
    assert good.status == 200


def test_the_package_is_read_for_in_any_encoding_and_one_that_nobody_knows_is_named() -> None:
    def encoded(status: int, body: bytes, encodings: str) -> Reply | Failure:
        wire = Wire(bytes_then(http(status, body, headers=f"Content-Encoding: {encodings}\r\n"), close=False))
        (found,) = send("sdk", wire)
        return found

    twice = pa.compress(ENCODED["zstd"], codec="brotli", asbytes=True)
    thrice = pa.compress(pa.compress(ENCODED["gzip"], codec="zstd", asbytes=True), codec="brotli", asbytes=True)
    for body, encodings in (
        (twice, "zstd, br"),
        (thrice, "GZIP,zstd, identity, Br"),
        (ENCODED["gzip"], "x-gzip"),
        (_PLAIN, "identity"),
    ):
        found = encoded(200, body, encodings)
        assert isinstance(found, Reply), encodings
        assert found.body == _PLAIN, encodings
    found = encoded(200, b"x", "dcb")
    assert isinstance(found, Failure)
    assert found.fault.name == "bad_reply"
    assert found.message == "the reply is compressed by 'dcb', which nobody asked for and nothing here reads"
    for encoding in ("dcb", "br"):  # of an error the status tells enough
        found = encoded(429, b'{"error": {}}', encoding)
        assert isinstance(found, Reply)
        assert (found.status, found.body) == (429, b'{"error": {}}')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, json.dumps(COMPLETION).encode(), "application/json"),
        (200, b"", "application/json"),
        (200, b'{"id": "x", "choi', "application/json"),
        (200, b"<html>ok</html>", "text/html"),
        (200, b"\xff\xfe", "application/json"),
        (400, b'{"error": {"message": "m", "code": "context_length_exceeded"}}', "application/json"),
        (401, b"", "text/plain"),
        (404, b'{"detail": "Not Found"}', "application/json"),
        (409, b"{}", "application/json"),
        (429, b'[{"error": {"message": "m"}}]', "application/json"),
        (500, b"\x00", "application/octet-stream"),
        (502, b"<html>Bad Gateway</html>", "text/html"),
        (529, b'{"type": "error"}', "application/json"),
    ],
)
def test_every_reply_comes_back_as_it_was_sent_and_is_asked_for_once(
    kind: str, status: int, body: bytes, content_type: str
) -> None:
    headers = f"Content-Type: {content_type}\r\nRetry-After: 7\r\nX-Odd: a\xe4\r\n"
    wire = Wire(bytes_then(http(status, body, headers=headers), close=False))
    (reply,) = send(kind, wire)
    assert isinstance(reply, Reply)
    assert (reply.status, bytes(reply.body)) == (status, body)
    assert reply.header("retry-after") == reply.header("Retry-After") == "7"
    assert reply.header("content-type") == content_type
    assert reply.header("absent") is None
    assert len(wire.requests) == 1, "the transport tries nothing again by itself"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(kind: str, status: int) -> None:
    with Wire().socket as elsewhere:
        elsewhere.setblocking(False)
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/chat/completions"
        wire = Wire(bytes_then(http(status, b"", headers=f"Location: {location}\r\n"), close=False))
        (reply,) = send(kind, wire)
        assert isinstance(reply, Reply)
        assert (reply.status, reply.header("location")) == (status, location)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


# What does not come back


@pytest.mark.timed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [silence, drip], ids=["accepts and never answers", "drips"])
def test_the_deadline_of_the_whole_request_holds(kind: str, answer: Answer) -> None:
    wire = Wire(answer)
    start = time.monotonic()
    found = failed(kind, wire, timeout_s=0.5)
    assert (found.fault.name, found.maybe_billed, found.status) == ("timeout", True, None)
    assert 0.45 <= time.monotonic() - start <= 3.0, "the deadline itself, and what starting and closing take"
    assert "0.5 s" in found.message


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_stalls_is_a_failure_at_the_deadline_and_never_half_a_reply(kind: str) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        event = b'data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await silence(reader, writer)

    failure = failed(kind, Wire(stall), timeout_s=0.5)
    assert (failure.fault.name, failure.maybe_billed) == ("timeout", True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_timed_out_request_releases_its_connection(kind: str) -> None:
    wire = Wire(drip)
    target = endpoint(wire.url(), timeout_s=0.3)
    resolved = with_head(target, API, {}) if kind == "direct" else target

    async def run() -> None:
        async with wire.serve(), opened(kind, resolved) as transport:
            await transport.send(json.dumps(BODY).encode())
            await wire.all_closed()

    asyncio.run(run())


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Give a URL whose port belongs to nobody: it is bound and does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_connection_was_certainly_not_billed(kind: str, nowhere: str) -> None:
    found = failed(kind, Wire(), nowhere)
    assert (found.fault.name, found.maybe_billed) == ("connection", False)
    assert "sk-test" not in found.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        reset,
        bytes_then(b"", close=True),
        bytes_then(http(200, b'{"id": "chatcmpl-1", ', length=5_000), close=True),
        bytes_then(b"HTTP/1.1 200 OK\r\nContent-Le", close=True),
        bytes_then(b"nonsense\r\n\r\n", close=True),
        bytes_then(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", close=True),
    ],
    ids=["reset", "closed", "truncated body", "truncated head", "no http", "truncated chunk"],
)
def test_a_connection_that_broke_after_the_request_may_have_been_billed(kind: str, answer: Answer) -> None:
    wire = Wire(answer)
    found = failed(kind, wire)
    assert (found.fault.name, found.maybe_billed) == ("connection", True)
    assert found.message.startswith("connection failed: ")
    assert len(wire.requests) == 1


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow both ends of 2,000 connections in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", ["timed out", "cancelled"])
@pytest.mark.usefixtures("many_descriptors")
def test_two_thousand_requests_that_ended_early_leak_no_descriptors(way: str) -> None:
    """A cancelled request's connection may stay until its deadline, but not longer."""
    wire = Wire(bytes_then(http(200, b""), close=True))
    deadline_s = 5.0 if way == "cancelled" else 2.0  # all have to arrive before
    resolved = with_head(endpoint(wire.url(), timeout_s=deadline_s), API, {})
    body = json.dumps(BODY).encode()

    async def end_early(transport: Transport, count: int) -> list[BaseException | Reply | Failure]:
        tasks = [asyncio.ensure_future(transport.send(body)) for _ in range(count)]
        if way == "cancelled":
            await wire.arrived(1 + count)
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await wire.all_closed()
        return results

    async def run() -> tuple[int, int, list[BaseException | Reply | Failure]]:
        async with wire.serve(), opened("direct", resolved) as transport:
            await transport.send(body)  # what the client opens once and keeps
            await wire.all_closed()
            before = descriptors()
            wire.answer = silence
            results = await end_early(transport, 2_000)
            return before, descriptors(), results

    before, after, results = asyncio.run(run())
    if way == "cancelled":
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
    else:
        assert {result.fault.name if isinstance(result, Failure) else result for result in results} == {"timeout"}
    assert after <= before
