"""A server on a raw socket that says what a test has it say, and a client of the kind that is tested."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from rowmill.core.wire import Endpoint, Failure, Reply
from rowmill.transport.direct import DirectTransport

Found = TypeVar("Found")
BODY = b'{"whole": 13}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + BODY


class Talk:
    """One connection, as its server has it."""

    def __init__(self, server: "Talker", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Return the next request, its head and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found = head + await self.reader.readexactly(length)
        self.server.requests.append(found)
        self.server.tell()
        return found

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def said(self, *pieces: bytes) -> None:
        """Say each piece in a read of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await turn()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        if (raw := self.writer.get_extra_info("socket")) is not None:  # the client may have closed
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return once the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass


Script = Callable[[Talk], Awaitable[None]]


async def turn() -> None:
    """Let whatever is there be read."""
    for _ in range(5):
        await asyncio.sleep(0.001)


class Talker:
    """A server whose every connection follows the script, which is told how many there were before."""

    def __init__(self, *scripts: Script) -> None:
        """`scripts` of one connection after the other; the last one is that of all others."""
        self._scripts = scripts
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.defects: list[BaseException] = []
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Let all that wait for something look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once something holds that connections and requests change."""
        async with asyncio.timeout(30):
            while not holds():
                changed = self._changed
                await changed.wait()

    @contextlib.asynccontextmanager
    async def serving(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", sock: socket.socket | None = None
    ) -> AsyncIterator[str]:
        """Serve; gives the URL of the server."""
        where: dict[str, Any] = {"host": host, "port": 0} if sock is None else {"sock": sock}
        server = await asyncio.start_server(self._talk, ssl=tls, **where)
        self.port = server.sockets[0].getsockname()[1]
        writers = self._writers = set[asyncio.StreamWriter]()
        try:
            shown = f"[{host}]" if ":" in host else host
            yield f"http{'s' if tls else ''}://{shown}:{self.port}/v1/chat/completions"
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await self.until(lambda: not self.open)
        assert not self.defects, self.defects

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        self.tell()
        try:
            await script(Talk(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        except Exception as error:  # noqa: BLE001 - the test's own, told at its end
            self.defects.append(error)
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self.open -= 1
            self.tell()


async def fine(talk: Talk) -> None:
    """Answer every request."""
    while True:
        await talk.request()
        talk.say(OK)


def once(*pieces: bytes, close: bool = False) -> Script:
    """Answer the first request so, each piece in a read of its own, and then do nothing, or close."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.said(*pieces)
        if not close:
            await talk.gone()

    return script


def endpoint(url: str, *, timeout_s: float = 20.0, ca: str = "", identity: str = "") -> Endpoint:
    return Endpoint(
        provider="p",
        base_url=url.removesuffix("/chat/completions"),
        key="sk-test",
        openai_account=False,
        timeout_s=timeout_s,
        url=url,
        headers=(("authorization", "Bearer sk-test"),),
        ca=ca,
        identity=identity,
    )


@contextlib.asynccontextmanager
async def client(url: str, *, timeout_s: float = 20.0, ca: str = "") -> AsyncIterator[DirectTransport]:
    transport = DirectTransport(endpoint(url, timeout_s=timeout_s, ca=ca))
    try:
        yield transport
    finally:
        await transport.close()


def run(work: Coroutine[Any, Any, Found]) -> Found:
    """Run on the loop that workers have."""
    return uvloop.run(work)


def answers(
    *scripts: Script, times: int = 1, timeout_s: float = 20.0, between: float = 0.0
) -> tuple[list[Reply | Failure], Talker]:
    """Send so many requests one after the other to a server that follows the scripts; also returns the server."""

    async def work() -> tuple[list[Reply | Failure], Talker]:
        server = Talker(*scripts)
        async with server.serving() as url, client(url, timeout_s=timeout_s) as transport:
            found = []
            for _ in range(times):
                found.append(await transport.send(b"{}"))
                await turn()
            return found, server

    return run(work())
