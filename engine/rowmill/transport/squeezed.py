"""Long streams of events are kept small while they come: each word of a reply comes in some 300 bytes.

A long reply waits for its turn to be read (see `reply_size`), for thousands at once would be in memory at once. A
stream is written as slowly as its model thinks: whoever waited behind it would wait for that. So all are read as they
come, and what is there of them is compressed, to a twentieth.
"""

from collections.abc import Iterable

from zlib_ng import zlib_ng

from rowmill.core.wire import HeaderLookup
from rowmill.transport.reply_size import OK

AT_A_TIME = 1 << 17  # bytes that are compressed at a time: they take the loop a millisecond at most
_QUICK = 1  # level


def is_stream(status: int, header: HeaderLookup) -> bool:
    """Whether a reply comes as events, and not compressed already."""
    return (
        status in OK
        and (header("content-type") or "").lower().startswith("text/event-stream")
        and header("content-encoding") is None
    )


class Squeezed:
    """The beginning of a reply."""

    def __init__(self) -> None:
        self._compress = zlib_ng.compressobj(_QUICK)
        self._pieces: list[bytes] = []
        self.size = 0  # bytes in memory

    def take(self, pieces: Iterable[bytes]) -> None:
        """Take what comes next."""
        made = self._compress.compress(b"".join(pieces))
        if made:
            self._pieces.append(made)
            self.size += len(made)

    def whole(self, rest: bytes) -> bytes:
        """Return all of it, with what comes last."""
        return zlib_ng.decompress(b"".join((*self._pieces, self._compress.flush()))) + rest
