"""HTTP/1.1 to one server: connections that are kept, one request in flight on each, and a reply to each request.

`Connections` are those that there are; they open more by a `Dialer`: a name becomes addresses, an address a socket, a
proxy's way and TLS around it, as the URL wants. A `Connection` is a protocol of asyncio whose replies httptools parses.

What ends an exchange without a reply is a `NoReply`, which says whether the server can have worked on the request.
"""

from typing import Literal

import msgspec

from rowmill.core.wire import Part


class NoReply(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no reply to a request.

    end: "late" past the deadline of the request, "unconnected" past that of a connection; "broken" otherwise;
    "untouched" where the connection was closed before the server has got anything of the request.
    taken: the server may have the request, and may have worked on it.
    """

    end: Literal["late", "unconnected", "broken", "untouched"]
    words: str
    part: Part | None = None
    taken: bool = True


class Unreachable(Exception):
    """There is no connection: `args` are the words for it and the part of the way that fails."""

    def __init__(self, words: str, part: Part) -> None:
        super().__init__(words, part)
        self.words = words
        self.part = part


class NameUnanswered(TimeoutError):
    """There is no connection in time, for nobody has said at which address the host is. `args`: the part that fails."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.part = part


class NoRoomHere(Unreachable):
    """There is no connection for want of something on this machine: a local port, a descriptor, memory."""
