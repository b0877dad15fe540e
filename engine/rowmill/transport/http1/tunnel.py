"""A tunnel through an HTTP proxy: what is said behind its answer goes to the server."""

import asyncio
from typing import Any

from rowmill.transport.http1 import Unreachable
from rowmill.transport.http1.proxies import Proxy
from rowmill.transport.http1.reply_head import LARGEST, head_end

_OK = range(200, 300)


class Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel to a host and port; `ready` is done once it is there, or is `Unreachable`."""

    def __init__(self, proxy: Proxy, target: str) -> None:
        self._proxy = proxy
        self._target = target
        self._raw = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        login = f"Proxy-Authorization: {self._proxy.login}\r\n" if self._proxy.login else ""
        transport.write(f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n{login}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Read the proxy's answer."""
        self._raw += data
        end = head_end(self._raw)
        if end < 0:
            if len(self._raw) > LARGEST or not self._raw.startswith(b"HTTP/1."[: len(self._raw)]):
                self._refused("it does not speak HTTP")
            return
        _, _, line = self._raw[: self._raw.find(b"\n")].decode("latin-1").strip().partition(" ")
        status = line[:3]
        if not status.isdecimal() or int(status) not in _OK:
            self._refused(f"HTTP {line}")
        elif not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Hear that the proxy has closed."""
        self._refused(str(error) if error is not None else "it closed the connection")

    def _refused(self, words: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(Unreachable(f"no tunnel through the proxy {self._proxy}: {words}", "proxy"))
