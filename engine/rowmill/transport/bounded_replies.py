"""Replies to the openai package, of which no more comes into memory than a reply may have, however they come.

The package reads gzip and deflate; what else a server compresses by unasked, Brotli and Zstandard, is read here.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import httpx2

from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.transport.reply_size import AT_ONCE, LONG_REPLIES, OK, longest, too_long

_BY_PACKAGE = frozenset({"gzip", "deflate"})
_CODECS = {"br": "brotli", "zstd": "zstd", "gzip": "gzip", "x-gzip": "gzip", "deflate": "gzip"}  # pyarrow's names


class UnreadReply(Exception):
    """A reply was left that is longer than any reply is, or is not what its encoding says."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def reply_reader() -> Callable[[httpx2.Response], Awaitable[None]]:
    """Return the hook that reads a client's replies before the package does, which would read any to its end.

    It raises `UnreadReply`; of an error the beginning is kept. Files are let through: they go to the disk in pieces.
    """
    turns = asyncio.Semaphore(LONG_REPLIES)

    async def read(response: httpx2.Response) -> None:
        if response.request.url.path.endswith("/content"):
            return
        status = response.status_code
        most = longest(status)
        encodings = _encodings(response)
        by_package = _BY_PACKAGE.issuperset(encodings)
        async with aclosing(response.aiter_bytes() if by_package else response.aiter_raw()) as pieces:
            body = await _gathered(pieces, AT_ONCE)
            if len(body) > AT_ONCE:
                async with turns:
                    body += await _gathered(pieces, most - len(body))
        if not by_package:
            try:
                body = _decoded(body, encodings, most)
            except ValueError as error:
                if status in OK:
                    failure = Failure(fault=faults.BAD_REPLY, message=str(error), maybe_billed=True)
                    raise UnreadReply(failure) from None
                # Of an error the status tells enough.
        if len(body) > most:
            left = too_long(status, body, response.headers.get)
            if isinstance(left, Failure):
                raise UnreadReply(left)
            body = left.body
        response._content = body  # noqa: SLF001 - where the package, and who reads a response again, looks first

    return read


async def _gathered(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """Take pieces until there are no more, or more than `most` bytes."""
    taken = []
    size = 0
    async for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > most:
            break
    return b"".join(taken)


def _encodings(response: httpx2.Response) -> list[str]:
    """Return by what a reply is compressed, the last first."""
    names = response.headers.get("content-encoding", "").lower().split(",")
    return [name for each in reversed(names) if (name := each.strip()) not in ("", "identity")]


def _decoded(body: bytes, encodings: list[str], most: int) -> bytes:
    """Return what a body holds; of what is longer than `most`, a byte more. Raises ValueError with words for the user.

    A small body can hold any number of bytes.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # only here: few servers compress unasked

    stream: Any = io.BytesIO(body)
    for name in encodings:
        if name not in _CODECS:
            raise ValueError(f"the reply is compressed by {name!r}, which nobody asked for and nothing here reads")
        stream = pa.CompressedInputStream(stream, _CODECS[name])
    try:
        found: bytes = stream.read(most + 1)
    except (pa.ArrowException, OSError) as error:
        names = " and ".join(map(repr, encodings))
        raise ValueError(f"the reply is said to be compressed by {names}, and is not: {error}") from None
    return found
