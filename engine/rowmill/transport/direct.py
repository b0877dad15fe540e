"""The direct transport: our own HTTP/1.1, see `http1`. The hot path of every run.

Redirects are not followed: following one would carry the key's headers and the paid request to a server that
the user did not name.

A request is sent again here only where its server cannot have got a byte of it: on a connection that was closed while
nobody used it. Whatever else becomes of one is for the fault table to say.
"""

import asyncio
from time import monotonic
from urllib.parse import urlsplit

from rowmill.core.errors import ConfigError
from rowmill.core.wire import Endpoint, Failure, Reply
from rowmill.transport import connect_timeout_s, faults, is_loopback
from rowmill.transport.http1 import NoReply
from rowmill.transport.http1.connections import Connections
from rowmill.transport.http1.dialing import Dialer

_CODINGS = "zstd,gzip,deflate,br"
_AGAIN = 3  # connections in a row that are found closed; then the server closes each that is opened


class DirectTransport:
    """Sends over a pool of connections, with the head of the request fixed once."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take where to. Raises `ConfigError` where that cannot be used."""
        self._timeout_s = endpoint.timeout_s
        connect_s = connect_timeout_s(endpoint.timeout_s)
        dialer = Dialer(endpoint, connect_s)
        self._through_proxy = dialer.proxy is not None
        self._connections = Connections(dialer, connect_s, head=_head(endpoint, dialer), timeout_s=endpoint.timeout_s)
        self._create_future = asyncio.get_running_loop().create_future
        self.idle = self._connections.idle

    async def send(self, body: bytes) -> Reply | Failure:
        """Send one JSON body; see `Transport.send`."""
        return await self._sent(body, _AGAIN)

    async def send_again(self, body: bytes) -> Reply | Failure:
        """Send a JSON body of which nobody has got anything; see `Immediate.send_again`."""
        return await self._sent(body, _AGAIN - 1)

    async def _sent(self, body: bytes, left: int) -> Reply | Failure:
        started = monotonic()
        idle = self.idle
        while True:
            found = idle.pop() if idle else await self._connections.connection(started + self._timeout_s)
            if isinstance(found, NoReply):
                result: Reply | Failure | NoReply = found
            else:
                waiter: asyncio.Future[Reply | Failure | NoReply] = self._create_future()
                found.ask(body, started, waiter)
                try:
                    result = await waiter
                except asyncio.CancelledError:
                    found.give_up(waiter)
                    raise
            if isinstance(result, Reply):
                return result
            left -= 1
            if (failure := self.failure(result)) is not None:
                return failure
            if not left:
                return self._failure(result)  # type: ignore[arg-type]  # no `Failure` is to go out again

    def failure(self, result: Failure | NoReply) -> Failure | None:
        """Return what a result is that is no reply; see `Immediate.failure`."""
        if isinstance(result, Failure):
            return result
        return None if result.end == "untouched" else self._failure(result)

    def _failure(self, found: NoReply) -> Failure:
        match found.end:
            case "late":
                return Failure(
                    fault=faults.TIMEOUT, message=f"no whole reply within {self._timeout_s:g} s", maybe_billed=True
                )
            case "unconnected":
                part = found.part or ("proxy" if self._through_proxy else "connection")
                return Failure(fault=faults.TIMEOUT, message=found.words, part=part)
        return Failure(
            fault=faults.CONNECTION,
            message=f"connection failed: {found.words}",
            maybe_billed=found.taken,
            part=found.part,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()


def _head(endpoint: Endpoint, dialer: Dialer) -> bytes:
    """Return the head of every request, up to the length of its body. Raises `ConfigError` where it is none."""
    split = urlsplit(endpoint.url)
    host = split.netloc.rpartition("@")[2]
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    # A small local reply costs less to send than to compress. One that comes compressed all the same is unpacked.
    codings = "identity" if is_loopback(endpoint.url) else _CODINGS
    headers = [("host", host), *endpoint.headers, ("accept-encoding", codings)]
    if dialer.proxy is not None and dialer.proxy.reads_requests and not dialer.tls:
        target = f"http://{host}{target}"
        if dialer.proxy.login:
            headers.append(("proxy-authorization", dialer.proxy.login))
    lines = [f"POST {target} HTTP/1.1", *(f"{name.title()}: {text}" for name, text in headers)]
    if any(character in line for line in lines for character in "\r\n\0"):
        # Not the text itself: it can be a key.
        raise ConfigError(f"provider {endpoint.provider!r}: base_url or a header cannot be used (it has a line break)")
    return "\r\n".join([*lines, "Content-Length: "]).encode("latin-1", "replace")
