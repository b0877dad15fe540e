"""Replies to the openai package, of which no more comes into memory than a reply may have."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import httpx2

from rowmill.core.wire import Failure
from rowmill.transport.reply_size import AT_ONCE, LONG_REPLIES, longest, too_long


class ReplyTooLarge(Exception):
    """A reply was left that is longer than any reply is."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def reply_reader() -> Callable[[httpx2.Response], Awaitable[None]]:
    """Return the hook that reads a client's replies before the package does, which would read any to its end.

    It raises `ReplyTooLarge`; of an error the beginning is kept. Files are let through: they go to the disk in pieces.
    """
    turns = asyncio.Semaphore(LONG_REPLIES)

    async def read(response: httpx2.Response) -> None:
        if response.request.url.path.endswith("/content"):
            return
        async with aclosing(response.aiter_bytes()) as pieces:
            body = await _gathered(pieces, AT_ONCE)
            if len(body) > AT_ONCE:
                most = longest(response.status_code)
                async with turns:
                    body += await _gathered(pieces, most - len(body))
                if len(body) > most:
                    left = too_long(response.status_code, body, response.headers.get)
                    if isinstance(left, Failure):
                        raise ReplyTooLarge(left)
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
