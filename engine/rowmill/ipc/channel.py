"""Messages of any size over a duplex pipe, read and written without ever waiting for the other side.

A supervisor that is stopped reads nothing, and a pipe holds some 280 messages; where rows' claims and results pass
through one, a single message may be larger than what it holds. Two sides that both waited for room would wait for ever.
The bytes are those that `multiprocessing.connection` writes.
"""

import asyncio
import os
import socket
import struct
from contextlib import suppress
from multiprocessing.connection import Connection

_LENGTH = struct.Struct("!i")
_READ = 1 << 18  # bytes at a time


class Channel:
    """One end of a duplex pipe. It is read and written in an event loop."""

    def __init__(self, pipe: Connection) -> None:
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))  # a duplex pipe is a pair of sockets
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it waits for room
        self._out = bytearray()
        self._in = bytearray()
        self._gone = False
        self._ending = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        return f"<{len(self._out):,} bytes to be sent, {len(self._in):,} of a message that is not whole>"

    def fileno(self) -> int:
        """Return the descriptor to be watched for messages."""
        return self._socket.fileno()

    @property
    def full(self) -> bool:
        """Whether something waits for room."""
        return self._loop is not None

    def receive(self) -> list[bytes] | None:
        """Return the messages that are there, whole ones; None at the end."""
        ended = False
        try:
            while data := self._socket.recv(_READ, socket.MSG_DONTWAIT):
                self._in += data
            ended = True
        except BlockingIOError:
            pass
        except OSError:  # reset
            ended = True
        found = []
        at = 0
        while len(self._in) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._in, at)
            if len(self._in) - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            found.append(bytes(self._in[at : at + size]))
            at += size
        del self._in[:at]
        return None if ended and not found else found

    def send(self, data: bytes) -> bool:
        """Send a message, now or as soon as there is room; False where nobody reads any more."""
        if self._gone:
            return False
        self._out += _LENGTH.pack(len(data)) + data
        if self._loop is None:
            self._flush()
        return not self._gone

    def send_last(self, data: bytes, seconds: float) -> None:
        """Send a message after the event loop has ended, and wait until it is sent, at most so long."""
        self._loop = None
        self._out += _LENGTH.pack(len(data)) + data
        self._socket.settimeout(seconds)
        with suppress(OSError):  # nobody reads any more
            self._socket.sendall(self._out)
        self._out.clear()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                self._empty.clear()
                self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:  # its reader is gone
            self._gone = True
            self._out.clear()
        self._rest()
        if self._ending:
            self._socket.close()

    def _rest(self) -> None:
        if self._loop is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._loop = None
        self._empty.set()

    async def drained(self) -> None:
        """Wait until everything is sent, or nobody reads any more."""
        await self._empty.wait()

    def __del__(self) -> None:
        self._socket.close()

    def end(self) -> None:
        """Close as soon as everything is sent, without waiting for it."""
        self._ending = True
        if self._loop is None:
            self._socket.close()

    def close(self) -> None:
        """Drop what was not sent."""
        with suppress(RuntimeError):  # the loop is closed
            self._rest()
        self._socket.close()
