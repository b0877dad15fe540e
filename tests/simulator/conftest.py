"""A raw HTTP/1.1 client: it shows what is on the wire, resets and halves included, where a library would raise."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest


@dataclass
class Answer:
    """What came back before the connection ended."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    was_reset: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


class Ask(Protocol):
    async def __call__(
        self,
        port: int,
        path: str = ...,
        body: bytes | None = ...,
        *,
        key: str = ...,
        method: str | None = ...,
    ) -> Answer: ...


async def _ask(
    port: int,
    path: str = "/v1/chat/completions",
    body: bytes | None = None,
    *,
    key: str = "sk-test",
    method: str | None = None,
) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    verb = method or ("GET" if body is None else "POST")
    sent = body or b""
    head = f"{verb} {path} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent)
    received = bytearray()
    answer = Answer()
    try:
        while chunk := await reader.read(65536):
            received += chunk
    except ConnectionResetError:
        answer.was_reset = True
    finally:
        writer.transport.abort()
    if received:
        head_bytes, _, answer.body = bytes(received).partition(b"\r\n\r\n")
        status_line, *lines = head_bytes.decode().split("\r\n")
        answer.status = int(status_line.split()[1])
        answer.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return answer


@pytest.fixture
def ask() -> Ask:
    return _ask


class InFlight(Protocol):
    async def __call__(self, port: int, count: int) -> dict[str, Any]: ...


async def _in_flight(port: int, count: int) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            figures: dict[str, Any] = (await _ask(port, "/stats")).json["total"]
            if figures["in_flight"] == count:
                return figures
            await asyncio.sleep(0.01)


@pytest.fixture
def in_flight() -> InFlight:
    """Wait until so many requests are in flight; answers the total's figures then."""
    return _in_flight
