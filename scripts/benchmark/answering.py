"""The benchmark's own server: one fixed reply to every POST, at once or a while later.

    answering.py --port PORT --reply FILE [--delay-ms N] [--certificate FILE]

nginx, which answers the loads that need no delay, cannot wait without a module. This one takes a few microseconds a
request, so that a fraction of a core answers the 10,000 a second that 10,000 in flight make of a delay of a second.
It is also the witness of how many were in flight: GET tells the most since the last GET.
"""

import argparse
import asyncio
import ssl
from pathlib import Path
from typing import cast

import httptools
import uvloop

BACKLOG = 16_384  # thousands of connections may come at once


class Count:
    """Requests that have come and are not answered."""

    def __init__(self) -> None:
        """Begin with none."""
        self.now = self.most = 0


class Connection(asyncio.Protocol):
    """One connection. Requests that are pipelined are answered in their order, for the delay is the same for all."""

    def __init__(self, reply: bytes, delay_s: float, count: Count) -> None:
        """Answer by `reply`, head and body, after so many seconds."""
        self._reply = reply
        self._delay_s = delay_s
        self._count = count
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, which is no instance of it

    def connection_lost(self, _error: Exception | None) -> None:
        """Answer nobody any more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request; anything that is none ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport:
                self._transport.abort()

    def on_message_complete(self) -> None:
        """Answer, now or later: the parser has seen the whole request."""
        count = self._count
        if self._parser.get_method() == b"GET":
            if self._transport:
                self._transport.write(whole(str(count.most).encode()))
            count.most = count.now
            return
        count.now += 1
        count.most = max(count.most, count.now)
        if self._delay_s:
            self._loop.call_later(self._delay_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._count.now -= 1
        if self._transport:
            self._transport.write(self._reply)


def whole(body: bytes) -> bytes:
    """Return a body with the head of a reply."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def serve(port: int, reply: bytes, delay_s: float, certificate: Path | None) -> None:
    """Answer on loopback until the process is ended."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    count = Count()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(whole(reply), delay_s, count), "127.0.0.1", port, backlog=BACKLOG, ssl=context
    )
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--reply", type=Path, required=True)
    parser.add_argument("--delay-ms", type=int, default=0)
    parser.add_argument("--certificate", type=Path, default=None, help="PEM with the key")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.reply.read_bytes(), arguments.delay_ms / 1000, arguments.certificate))


if __name__ == "__main__":
    main()
