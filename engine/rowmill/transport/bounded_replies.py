"""Replies to the openai package, of which no more comes into memory than a reply may have, however they come.

What a server compresses, asked or not, is unpacked here: the package would believe what its headers say.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import httpx2

from rowmill.core.wire import Failure, Reply
from rowmill.transport.reply_size import AT_ONCE, LONG_REPLIES, longest, unpacked_reply
from rowmill.transport.squeezed import AT_A_TIME, Squeezed, is_stream


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
        if response.is_stream_consumed:  # made here, not received
            return
        status = response.status_code
        most = longest(status)
        async with aclosing(response.aiter_raw()) as pieces:
            body = await _gathered(pieces, AT_ONCE)
            if len(body) > AT_ONCE and is_stream(status, response.headers.get):
                body = await _squeezed(body, pieces, most)
            elif len(body) > AT_ONCE:
                async with turns:
                    body += await _gathered(pieces, most - len(body))
        await response.aclose()  # what was left is not waited for
        reply = unpacked_reply(Reply(status, body, response.headers.get))
        if isinstance(reply, Failure):
            raise UnreadReply(reply)
        response._content = reply.body  # noqa: SLF001 - where the package, and who reads a response again, looks first

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


async def _squeezed(beginning: bytes, pieces: AsyncIterator[bytes], most: int) -> bytes:
    """Take the rest of a stream, as slowly as it comes, with little of it in memory."""
    kept = Squeezed()
    kept.take([beginning])
    size = len(beginning)
    while size <= most and (taken := await _gathered(pieces, min(AT_A_TIME, most - size))):
        kept.take([taken])
        size += len(taken)
    return kept.whole(b"")
