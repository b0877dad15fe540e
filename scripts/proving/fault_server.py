"""A fast server that answers each row with its own text, and does to some requests what servers do at their worst.

Run as a process of its own, `python -m scripts.proving.fault_server HOST PORT FILE ROWS SEED`: several may share a
port, and each may be killed and started anew at any time. What it has seen stands in FILE.
"""

import asyncio
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from signal import SIGTERM
from typing import Any

import uvloop
from httptools import HttpParserError, HttpRequestParser

from scripts.proving import fates, fault_replies
from scripts.proving.fates import Seen
from scripts.proving.fault_replies import plain

_RECEIVES = 64 << 10  # bytes that the machine takes for a server which does not read
_PARTING_S = 0.2  # of a server that is told to end, for replies that are on their way
_BACKLOG = 1024


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, seen: Seen, rng: Random, present: "set[Conversation]") -> None:
        self.rng = rng
        self._seen, self._present = seen, present
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._body: list[bytes] = []
        self.on_body = self._body.append  # for the parser
        self._parser = HttpRequestParser(self)
        self._inside = False  # a request has begun
        self._early = ""  # what becomes of it, where that was decided before it was there
        self._pauses = 0  # that are made while it comes
        self._replying = False  # in pieces
        self._deaf = False  # what comes is not looked at any more
        self._leaves = False

    def connection_made(self, transport: Any) -> None:
        """Count it."""
        self._transport = transport
        self._seen.count("connections")
        self._present.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Do nothing more."""
        self._deaf = True
        self._present.discard(self)
        del self._parser, self.on_body  # each holds the other

    def data_received(self, data: bytes) -> None:
        """Take a request, or a part of one."""
        if self._deaf:
            return
        if self._replying:
            self._seen.count("stray")
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._seen.count("no request")
            self.reset()
        if self._inside and self._body and not self._early:
            self._decide_early()
        if self._pauses:
            self._pauses -= 1
            self.pause()

    def leave(self) -> None:
        """Close once nothing is on its way."""
        self._leaves = True
        if not self._inside and not self._replying:
            self.end()

    # The parser

    def on_message_begin(self) -> None:
        """Count it."""
        self._inside = True
        self._seen.count("begun")

    def on_message_complete(self) -> None:
        """Answer, or do something else."""
        self._inside = False
        self._pauses = 0
        body = b"".join(self._body)
        self._body.clear()
        early, self._early = self._early, ""
        name = early or fates.fate(self.rng.random())
        if not early:
            self._count(name, body)
        if early != "early 503":  # which was said long ago
            _DEEDS.get(name, Conversation.say)(self, fault_replies.completion_of(body))

    def _count(self, name: str, body: bytes) -> None:
        self._seen.count(name)
        self._seen.rows[fault_replies.row_of(body)] += 1

    def _decide_early(self) -> None:
        self._early = name = fates.early_fate(self.rng.random())
        self._count(name, b"".join(self._body))
        if name == "read slowly":
            self._pauses = self.rng.randint(2, 8)
        elif name == "never read":
            self._deaf = True
            self._transport.pause_reading()
        elif name == "early 503":
            self._transport.write(fault_replies.refusal(503))
        elif name == "early 500 and FIN":
            self.end(fault_replies.refusal(500))
        elif name == "reset while it comes":
            self.reset()

    # What it does

    def say(self, body: bytes) -> None:
        """Answer as servers do."""
        self.said(plain(body))

    def said(self, reply: bytes) -> None:
        """Say a whole reply."""
        self._transport.write(reply)
        if self._leaves:
            self.end()

    def end(self, said: bytes = b"") -> None:
        """Say this, and close."""
        self._deaf = True
        self._transport.write(said)
        self._transport.close()

    def reset(self, said: bytes = b"") -> None:
        """Say this, and reset."""
        self._deaf = True
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            if said:
                os.write(raw.fileno(), said)  # at once: what the transport has not sent it forgets
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def silence(self, said: bytes = b"") -> None:
        """Say this, and nothing more."""
        self._deaf = True
        self._transport.write(said)

    def drip(self, pieces: Iterable[bytes], seconds: float) -> None:
        """Say pieces one after the other, with so much time between them."""
        self._replying = True
        left = deque(pieces)

        def next_one() -> None:
            piece = left.popleft()
            if left:
                self._transport.write(piece)
                self.later(seconds, next_one)
            else:
                self._replying = False
                self.said(piece)

        next_one()

    def pause(self) -> None:
        """Read nothing for a while."""
        self._transport.pause_reading()
        self.later(self.rng.uniform(0.005, 0.1), self._transport.resume_reading)

    def end_idle(self) -> None:
        """Close if nobody asks."""
        if not self._inside and not self._replying:
            self.end()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something then, if somebody is still there."""
        self._loop.call_later(seconds, lambda: self._deaf or act())


def _odd_pieces(talk: Conversation, body: bytes) -> None:
    reply = plain(body)
    cuts = sorted(talk.rng.sample(range(1, len(reply)), talk.rng.randint(1, 6)))
    talk.drip((reply[a:b] for a, b in pairwise((0, *cuts, len(reply)))), talk.rng.choice((0.0, 0.001, 0.005)))


def _and_pause(talk: Conversation, body: bytes) -> None:
    talk.say(body)
    talk.pause()


def _and_fin_later(talk: Conversation, body: bytes) -> None:
    talk.say(body)
    talk.later(talk.rng.uniform(0.0, 0.02), talk.end_idle)


_DEEDS: dict[str, Callable[[Conversation, bytes], None]] = {
    "chunked": lambda talk, body: talk.said(fault_replies.chunked(body, talk.rng)),
    "odd pieces": _odd_pieces,
    "byte by byte": lambda talk, body: talk.drip((bytes([each]) for each in plain(body)), 0.001),
    "1xx before": lambda talk, body: talk.said(fault_replies.announced(plain(body), talk.rng)),
    "gzip": lambda talk, body: talk.said(fault_replies.gzipped(body)),
    "1.5 MB": lambda talk, body: talk.said(fault_replies.long(body)),
    "reads no more for a while": _and_pause,
    "connection: close": lambda talk, body: talk.end(plain(body, b"Connection: close\r\n")),
    "HTTP/1.0": lambda talk, body: talk.end(plain(body).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
    "no length": lambda talk, body: talk.end(fault_replies.HEAD + b"\r\n" + body),
    "another reply behind": lambda talk, body: talk.said(plain(body) + plain(fault_replies.completion(b"of nobody"))),
    "FIN behind": lambda talk, body: talk.end(plain(body)),
    "FIN while idle": _and_fin_later,
    "reset behind": lambda talk, body: talk.reset(plain(body)),
    "500": lambda talk, _: talk.said(fault_replies.refusal(500)),
    "503": lambda talk, _: talk.said(fault_replies.refusal(503)),
    "reset before": lambda talk, _: talk.reset(),
    "reset within": lambda talk, body: talk.reset(fault_replies.cut(plain(body), talk.rng)),
    "FIN before": lambda talk, _: talk.end(),
    "FIN in a chunk": lambda talk, body: talk.end(fault_replies.cut_chunk(body, talk.rng)),
    "FIN within": lambda talk, body: talk.end(fault_replies.cut(plain(body), talk.rng)),
    "no HTTP": lambda talk, _: talk.end(fault_replies.NO_HTTP),
    "silence": lambda talk, _: talk.silence(),
    "silence within": lambda talk, body: talk.silence(fault_replies.cut(plain(body), talk.rng)),
    "trickle without end": lambda talk, body: talk.drip((bytes([each]) for each in plain(body)), 1.0),
}


async def _serve(host: str, port: int, seen: Seen, rng: Random) -> None:
    present: set[Conversation] = set()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVES)
    listener.bind((host, port))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Conversation(seen, rng, present), sock=listener, backlog=_BACKLOG)
    ended = asyncio.Event()
    loop.add_signal_handler(SIGTERM, ended.set)
    await ended.wait()
    server.close()
    for each in list(present):
        each.leave()
    await asyncio.sleep(_PARTING_S)
    os._exit(0)  # what hangs is left where it is


if __name__ == "__main__":
    _, _host, _port, _file, _rows, _seed = sys.argv
    _rng = Random(int(_seed))  # noqa: S311 - repeatable, no secret
    uvloop.run(_serve(_host, int(_port), Seen(Path(_file), int(_rows)), _rng))
