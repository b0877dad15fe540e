"""Batches as a user of the openai package sees them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import openai
import pytest
from openai.types import Batch, FileObject

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.server import running

OVER = ("completed", "failed", "expired", "cancelled")
ENDPOINT: Final = "/v1/chat/completions"
T = TypeVar("T")


def request(row: int, **extra: Any) -> dict[str, Any]:
    """Return the body of one row's request."""
    return {"model": "sim-small", "messages": [{"role": "user", "content": f"row {row}"}], **extra}


async def _observed(look: Callable[[], Awaitable[T]], right: Callable[[T], bool]) -> T:
    async with asyncio.timeout(10):
        while True:
            if right(seen := await look()):
                return seen
            await asyncio.sleep(0.005)


class Observed(Protocol):
    async def __call__(self, look: Callable[[], Awaitable[T]], right: Callable[[T], bool]) -> T: ...


class Api:
    """What the tests ask of one provider."""

    def __init__(self, port: int, client: openai.AsyncOpenAI) -> None:
        self.port = port
        self.client = client

    @staticmethod
    def lines(count: int, url: str = ENDPOINT, **extra: Any) -> bytes:
        rows = [{"custom_id": f"r{i}", "method": "POST", "url": url, "body": request(i, **extra)} for i in range(count)]
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    async def upload(self, data: bytes, name: str = "part.jsonl") -> FileObject:
        return await self.client.files.create(file=(name, data), purpose="batch")

    async def create(self, file_id: str, **metadata: str) -> Batch:
        return await self.client.batches.create(
            input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h", metadata=metadata
        )

    async def start(self, data: bytes) -> Batch:
        return await self.create((await self.upload(data)).id)

    async def until(self, batch_id: str, seen: Callable[[Batch], bool]) -> Batch:
        return await _observed(lambda: self.client.batches.retrieve(batch_id), seen)

    async def over(self, batch: Batch) -> Batch:
        return await self.until(batch.id, lambda now: now.status in OVER)

    async def result(self, data: bytes) -> Batch:
        return await self.over(await self.start(data))

    async def content(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a file; none where there is no file."""
        if not file_id:
            return []
        text = (await self.client.files.content(file_id)).text
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    async def figures(self) -> dict[str, Any]:
        raw = await self.client.get(f"http://127.0.0.1:{self.port}/stats", cast_to=object)
        assert isinstance(raw, dict)
        total: dict[str, Any] = raw["total"]
        return total


@asynccontextmanager
async def serving(*, key: str = "sk-test", prefix: str = "", **settings: Any) -> AsyncIterator[Api]:
    settings = {"latency_ms": 0.0, "batch_s": 0.0, **settings}
    async with running(SimulatorSettings(**settings)) as port, client_of(port, key=key, prefix=prefix) as client:
        yield Api(port, client)


def client_of(port: int, *, key: str = "sk-test", prefix: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}{prefix}/v1", api_key=key, max_retries=0)


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Api]]:
    """Serve with these settings; a batch takes no time where they do not say."""
    return serving


@pytest.fixture
def connect() -> Callable[..., openai.AsyncOpenAI]:
    return client_of


@pytest.fixture
def observed() -> Observed:
    """Look until what is seen is right, for at most 10 s; answers what was seen then."""
    return _observed
