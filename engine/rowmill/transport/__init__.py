"""The wire: sends one request body, gives back a `Reply` or a classified `Failure`.

Two transports speak the same `Transport` protocol: `direct` (our own HTTP/1.1, the hot path) and `sdk` (the openai
package). URL and headers are settled once, as the openai package would send them (`request_head`); what a failure means
stands in one table (`faults`).
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import urlsplit

from rowmill.core.wire import Endpoint, Failure, Reply

if TYPE_CHECKING:
    from rowmill.transport.http1 import NoReply
    from rowmill.transport.http1.connection import Connection


class Transport(Protocol):
    """Sends requests to one endpoint. Owns its connections; belongs to one event loop."""

    async def send(self, body: bytes) -> Reply | Failure:
        """Send one JSON body. Every way in which no reply can arrive comes back as a `Failure`."""

    async def close(self) -> None:
        """Release the connections."""


@runtime_checkable
class Immediate(Transport, Protocol):
    """A transport on which a request can go out without a coroutine: on one of its `idle` connections.

    Whoever takes one away from there asks on it, and gives it up where the result is not wanted any more.
    """

    idle: "list[Connection]"

    async def send_again(self, body: bytes) -> Reply | Failure:
        """Send one JSON body, as `send` does, that has gone out before and has come to nobody."""

    def failure(self, result: "Failure | NoReply") -> Failure | None:
        """Return what a result is that is no reply; None where nobody has got the request: it is to go out again."""


# A server that is there completes a handshake in well under this, across any ocean: three tries of TCP, or a first name
# server that is dead. One that is not there is told of soon.
_CONNECT_TIMEOUT_S = 5.5
_CONNECT_SHARE = 0.9  # of the request's own time: which of the two has run out must be told apart


def connect_timeout_s(timeout_s: float) -> float:
    """Return how long a connection may take of a request that may take so long."""
    return min(_CONNECT_TIMEOUT_S, _CONNECT_SHARE * timeout_s)


def is_loopback(url: str) -> bool:
    """Tell whether the URL's server is this machine itself."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def open_transport(kind: str, endpoint: Endpoint, *, api: str, concurrency: int) -> Transport:
    """Return the transport of that kind, "direct" or "sdk". Needs a running event loop. Raises `ConfigError`."""
    if kind == "sdk":
        from rowmill.transport import lazy_types

        lazy_types.load_lazily()
        from rowmill.transport.sdk import SdkTransport

        return SdkTransport(endpoint, api=api, concurrency=concurrency)
    from rowmill.transport.direct import DirectTransport

    return DirectTransport(endpoint)
