"""How a connection is opened: a name, an address, a socket, and around it a proxy's way and TLS, as the URL wants."""

import asyncio
import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from rowmill.core.wire import Endpoint, Part
from rowmill.transport.http1 import NameUnanswered, NoRoomHere, Unreachable
from rowmill.transport.http1.addresses import Addresses, AddressInfo
from rowmill.transport.http1.connection import Connection, ProxiedConnection
from rowmill.transport.http1.proxies import Proxy, parsed, proxy_for
from rowmill.transport.http1.socks import Socks
from rowmill.transport.http1.tunnel import Tunnel

if TYPE_CHECKING:
    import ssl  # only where it is spoken

    from rowmill.transport.http1.connections import Connections
    from rowmill.transport.http1.tls import TlsStream

_NEXT_ADDRESS_S = 0.25  # an address that has not answered by then gets a rival, as RFC 8305 has it
# A machine that is gone without a word is found out, whether something is on its way to it or only awaited from it.
_PROBE_AFTER_S, _PROBE_EACH_S, _PROBES = 30, 10, 3
_UNACKNOWLEDGED_MS = 60_000
_PORTS = {"http": 80, "https": 443}
# What this machine says of itself: no local port is free, no descriptor, no memory.
_OF_THIS_MACHINE = {errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Dialer:
    """Opens connections to an endpoint's server, or to the proxy that the environment names for it."""

    def __init__(self, endpoint: Endpoint, connect_s: float) -> None:
        """Take where to, and what a connection may take. Raises `ConfigError` where that cannot be used."""
        split = urlsplit(endpoint.url)
        self.tls = split.scheme.lower() == "https"
        self.host = (split.hostname or "").replace("%25", "%")
        self.port = split.port or _PORTS[split.scheme.lower()]
        self._connect_s = connect_s
        proxy = proxy_for(endpoint.url)
        self.proxy: Proxy | None = parsed(proxy) if proxy else None
        at = self.proxy or self
        self._addresses = Addresses(at.host, at.port, "name" if self.proxy is None else "proxy")
        self._own_addresses = self._addresses if self.proxy is None else Addresses(self.host, self.port)
        self._way: Part = "connection" if self.proxy is None else "proxy"
        if self.tls or (self.proxy is not None and self.proxy.kind == "https"):
            from rowmill.transport.http1.tls_trust import context

            self._context: ssl.SSLContext = context(endpoint.ca, endpoint.identity)

    @property
    def authority(self) -> str:
        """Host and port of the server, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def __call__(self, home: "Connections") -> Connection:
        """Open a connection for them. Raises `Unreachable`, or `TimeoutError`."""
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connected(home)
        except TimeoutError:
            if self._addresses.are_asked_for:
                raise NameUnanswered(self._addresses.part) from None
            raise

    async def _connected(self, home: "Connections") -> Connection:
        addresses = await self._addresses.next()
        try:
            sock = await start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, socket_factory=_made
            )
        except OSError as error:
            if error.errno in _OF_THIS_MACHINE:
                raise NoRoomHere(_words(error), self._way) from None
            self._addresses.doubt()
            raise Unreachable(_words(error), self._way) from None
        with suppress(OSError):  # it is closed already, which is found out below
            if sock.getpeername() != addresses[0][4]:
                self._addresses.passed_over(addresses[0])
        return await self._dressed(sock, home)

    async def _dressed(self, sock: socket.socket, home: "Connections") -> Connection:
        """Put around a socket what is spoken through it."""
        loop = asyncio.get_running_loop()
        passed_on = self.proxy is not None and self.proxy.reads_requests and not self.tls
        connection = ProxiedConnection(home) if passed_on else Connection(home)
        transport: Any = None
        try:
            for layer in await self._layers(home):
                if transport is None:
                    transport, _ = await loop.create_connection(lambda layer=layer: layer, sock=sock)  # type: ignore[misc]
                else:
                    _give(transport, layer)
                await layer.ready
                if not isinstance(layer, Tunnel | Socks):
                    transport = connection.tls = layer
            if transport is None:
                await loop.create_connection(lambda: connection, sock=sock)
            else:
                _give(transport, connection)
        except BaseException as error:
            sock.close() if transport is None else transport.abort()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise Unreachable(_words(error), self._way) from None
            raise
        return connection

    async def _layers(self, home: "Connections") -> "list[TlsStream | Tunnel | Socks]":
        """Return what is put around a socket, the innermost one first."""
        layers: list[TlsStream | Tunnel | Socks] = []
        proxy = self.proxy
        if proxy is not None and proxy.kind == "https":
            layers.append(self._stream(proxy.host, None))
        if proxy is not None and not proxy.reads_requests:
            host = self.host if proxy.kind == "socks5h" else (await self._own_addresses.next())[0][4][0]
            layers.append(Socks(proxy, host, self.port))
        elif proxy is not None and self.tls:
            layers.append(Tunnel(proxy, self.authority))
        if self.tls:
            layers.append(self._stream(self.host, home.tls_session()))
        return layers

    def _stream(self, host: str, session: "ssl.SSLSession | None") -> "TlsStream":
        from rowmill.transport.http1.tls import TlsStream

        return TlsStream(self._context, host.rstrip("."), session)  # a dot at the end is for the resolver alone


def _words(error: OSError) -> str:
    """Return what the machine says of it; of several addresses that failed otherwise, each."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__


def _give(transport: Any, protocol: asyncio.Protocol) -> None:
    """Let a protocol speak through a transport that had another one."""
    protocol.connection_made(transport)
    transport.set_protocol(protocol)


def _made(info: AddressInfo) -> socket.socket:
    """Return a socket that finds out by itself where the other side is gone."""
    made = socket.socket(family=info[0], type=info[1], proto=info[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EACH_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    return made
