"""The proxy that the environment names for a server: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.

Names in small letters come first. What `NO_PROXY` lists is a host with all below it, with a port where it means one, an
address, a network of addresses, or `*`.
"""

import ipaddress
import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from rowmill.core.errors import ConfigError
from rowmill.transport import is_loopback

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxy(msgspec.Struct, frozen=True):
    """A proxy, and who asks it, where it wants to know."""

    kind: Literal["http", "https", "socks5", "socks5h"]  # the last one looks names up itself
    host: str
    port: int
    user: str | None = None
    password: str = ""

    def __str__(self) -> str:
        """Name it, without who asks."""
        return f"{self.host}:{self.port}"

    @property
    def login(self) -> str | None:
        """Who asks, as the value of a header."""
        if self.user is None:
            return None
        return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    @property
    def reads_requests(self) -> bool:
        """Whether it is told a request's whole URL where that is no https."""
        return self.kind in ("http", "https")


def proxy_for(url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the URL of the proxy for this URL's server as the environment has it, None where there is none."""
    split = urlsplit(url)
    if is_loopback(url) or not split.hostname:
        return None
    scheme = split.scheme.lower()
    found = _value(environ, f"{scheme}_proxy") or _value(environ, "all_proxy")
    if found is None or _goes_without(split.hostname, split.port or _PORTS[scheme], environ):
        return None
    return found if "://" in found else f"http://{found}"


def parsed(url: str) -> Proxy:
    """Return a proxy as it is to be asked. Raises `ConfigError` where it is none that can be."""
    try:
        split = urlsplit(url)
        kind, host, port = split.scheme.lower(), split.hostname, split.port
    except ValueError:  # a port that is none
        kind, host, port = "", None, None
    if kind not in _PORTS or not host:
        known = ", ".join(f"{each}://" for each in _PORTS)
        shown = url.rpartition("@")[2]
        raise ConfigError(
            f"the proxy {shown} of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: it must be a "
            f"host and port behind one of {known}; or name the server in NO_PROXY"
        )
    user = None if split.username is None else unquote(split.username)
    return Proxy(kind, host, port or _PORTS[kind], user, unquote(split.password or ""))  # type: ignore[arg-type]


def _value(environ: Mapping[str, str], name: str) -> str | None:
    if value := environ.get(name):
        return value
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return None  # below a web server HTTP_PROXY is a header that any client may have sent
    return environ.get(name.upper()) or None


def _goes_without(host: str, port: int, environ: Mapping[str, str]) -> bool:
    host = host.lower()
    address = _address(host)
    for each in (_value(environ, "no_proxy") or "").split(","):
        entry = each.strip().lower()
        if entry == "*" or (address is not None and _is_of(address, entry)):
            return True
        name, colon, wanted = entry.rpartition(":")
        if colon and wanted.isdecimal() and ":" not in name.strip("[]"):
            if int(wanted) != port:
                continue
            entry = name
        entry = entry.strip("[]").lstrip("*").lstrip(".")
        if entry and (host == entry or (address is None and host.endswith(f".{entry}"))):
            return True
    return False


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_of(address: _Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False
