"""A way through a SOCKS5 proxy (RFC 1928), with a user and password (RFC 1929) where it asks for them."""

import asyncio
import ipaddress
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from rowmill.transport.http1 import Unreachable
from rowmill.transport.http1.proxies import Proxy

_OPEN, _BY_PASSWORD = 0, 2
_WHY = {
    1: "it has failed", 2: "its rules do not allow it", 3: "the network is unreachable", 4: "the host is unreachable",
    5: "the connection was refused", 6: "it took too long", 7: "it does not connect", 8: "it knows no such addresses",
}  # fmt: skip


class Socks(asyncio.Protocol):
    """Asks a proxy for a way to a host and port; `ready` is done once it is there, or is `Unreachable`."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy, self._host, self._port = proxy, host, port
        self._received = b""
        self._steps = self._talk()
        self._wanted = 0
        self._transport: Any = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._wanted = next(self._steps)

    def data_received(self, data: bytes) -> None:
        """Take what the proxy says, a step at a time."""
        self._received += data
        with suppress(StopIteration):
            while len(self._received) >= self._wanted and not self.ready.done():
                said, self._received = self._received[: self._wanted], self._received[self._wanted :]
                self._wanted = self._steps.send(said)

    def connection_lost(self, error: Exception | None) -> None:
        """Hear that the proxy has closed."""
        self._refused(str(error) if error is not None else "it closed the connection")

    def _talk(self) -> Generator[int, bytes, None]:
        """Say each line, and yield how many bytes of the answer are needed next."""
        proxy = self._proxy
        ways = bytes([_OPEN] if proxy.user is None else [_OPEN, _BY_PASSWORD])
        self._transport.write(b"\x05" + bytes([len(ways)]) + ways)
        version, way = yield 2
        if version != 5 or way not in ways:  # noqa: PLR2004 - SOCKS 5
            self._refused("it wants a login" if version == 5 else "it does not speak SOCKS5")  # noqa: PLR2004
            return
        if way == _BY_PASSWORD:
            self._transport.write(b"\x01" + _counted(proxy.user or "") + _counted(proxy.password))
            if (yield 2)[1]:
                self._refused("it does not take this login")
                return
        self._transport.write(b"\x05\x01\x00" + _address(self._host) + self._port.to_bytes(2, "big"))
        answer = yield 5
        if answer[1]:
            self._refused(_WHY.get(answer[1], f"error {answer[1]}"))
            return
        # What it has connected from: an address of a kind, or a name, of which the first byte is the length.
        yield {1: 3, 4: 15}.get(answer[3], answer[4]) + 2
        if not self.ready.done():
            self.ready.set_result(None)

    def _refused(self, words: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(Unreachable(f"no way through the proxy {self._proxy}: {words}", "proxy"))


def _counted(text: str) -> bytes:
    data = text.encode()[:255]
    return bytes([len(data)]) + data


def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\x03" + _counted(host)
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed  # noqa: PLR2004 - IPv4
