"""One connection to a server, and the one request that is in flight on it.

The hot path: what a request and its reply cost is mostly the calls made here. A reply that comes whole in one read, as
nearly all do, is one call of the parser, and is given back without taking its headers apart. What is called and is no
method is called by a local name: where an attribute is called, Python looks for a method first, for 30 ns.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from rowmill.core.wire import Failure, Part, Reply
from rowmill.transport.http1 import NoReply
from rowmill.transport.http1.reply_head import LARGEST, ReplyHead, head_end
from rowmill.transport.http1.reply_parser import NOT_UNDERSTOOD, ReplyParser
from rowmill.transport.http1.socket_state import nothing_arrived, nothing_sent, what_is_left
from rowmill.transport.reply_size import AT_ONCE, OK, longest, too_long, unpacked_reply
from rowmill.transport.squeezed import AT_A_TIME, Squeezed, is_stream

if TYPE_CHECKING:
    from rowmill.transport.http1.connections import Connections
    from rowmill.transport.http1.tls import TlsStream

IDLE, ASKED, CLOSED = "idle", "asked", "closed"
_TIMED_OUT = 408  # what some servers say on a connection that nobody uses, as they close it
_SHORT = 1 << 16  # bytes of a reply that are surely all there was to read: a read may have four times as many
# As objects of JSON begin, and no JSON that is compressed, by whatever coding there is: such a reply is as it came,
# whatever its headers say. To look for one that says so cost a third of a microsecond, or one where there are many.
_OBJECTS = frozenset({b'{"', b"{}", b"{ ", b"{\n", b"{\r", b"{\t"})
_PIECE = 1 << 18  # bytes of a request that are given to the transport at once
_LAST_WORD_S = 1.0  # for which a server that says that it closes may take to do so
_TOO_MANY = f"the reply has more than {LARGEST >> 10} KiB of headers"
_CLOSED_BY_SERVER = NoReply(end="untouched", words="the server closed the connection", part="http", taken=False)
_Result = Reply | Failure | NoReply


class Waiter(Protocol):
    """Takes the result of a request: a future, or what can do more with it than wake somebody."""

    def done(self) -> bool:
        """Tell whether nobody wants it."""

    def set_result(self, result: _Result, /) -> None:
        """Take it."""


class Connection(ReplyParser, asyncio.Protocol):
    """Speaks HTTP/1.1 over a transport, which is a socket's, or TLS around one.

    state: it is idle, asked, or closed, and takes a request only where it is idle. deadline: of the request in flight,
    as `time.monotonic` has it. tls: what encrypts it, where something does.
    """

    __slots__ = (
        "_head", "_home", "_last_word", "_paused", "_request_bytes", "_seen", "_sent_before", "_size", "_timeout_s",
        "_transport", "_unsent", "_waiter", "_write", "answered", "deadline", "end", "old", "state", "tls",
    )  # fmt: skip

    def __init__(self, home: "Connections") -> None:
        super().__init__()
        self._home = home
        self._head = home.head
        self._timeout_s = home.timeout_s
        self._waiter: Waiter | None = None
        self.state = IDLE
        self.deadline = 0.0
        self.old = False  # it was idle a while ago, and nobody has asked since
        self.tls: TlsStream | None = None
        self.answered = False  # it has brought a reply
        self.end = _CLOSED_BY_SERVER  # why it cannot be asked, once it is closed with nothing in flight
        # The request
        self._request_bytes = 0
        self._sent_before = 0  # bytes of all requests before it
        self._unsent: memoryview | None = None  # of a long one, what the transport has not got yet
        self._paused = False  # the transport has enough
        self._last_word: asyncio.TimerHandle | None = None  # until then its server may close
        self._seen = self._size = 0  # pieces of the reply's body that are counted, and the bytes of the body so far

    # What is asked of it

    def ask(self, body: bytes, started: float, waiter: Waiter) -> None:
        """Send a request with this body, and give its result to the waiter. started: as `time.monotonic` has it.

        That is never an exception. Whoever does not wait for it any more gives it up.
        """
        if self.state is not IDLE:
            raise RuntimeError(f"a request on a connection that is {self.state}")
        self.state = ASKED
        self.old = False
        self.deadline = started + self._timeout_s
        self._waiter = waiter
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        self._sent_before += self._request_bytes
        self._request_bytes = len(request)
        if len(request) <= _PIECE:
            write = self._write
            write(request)
        else:
            self._unsent = memoryview(request)
            self._send_more()
        home = self._home
        if not home.watching:
            home.watch()

    def expire(self) -> None:
        """Give the request in flight up: its time is over."""
        self._end(NoReply(end="late", words="no whole reply in time"))

    def give_up(self, waiter: Waiter) -> None:
        """Close at once where this is in flight. Its reply may have come in the same moment, and another request be."""
        if self._waiter is waiter:
            self.abort()

    def abort(self) -> None:
        """Close at once. Nobody waits for what is in flight."""
        self._waiter = None
        self.close()

    def close(self) -> None:
        """Close at once, with nothing in flight."""
        self._be_closed()
        self._transport.abort()

    def _be_closed(self) -> None:
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self._unsent = None
        if self._size > AT_ONCE:
            self._home.long_replies.leave(self)
        self._home.closed(self)

    # What asyncio tells

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""
        self._transport = transport
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        """Take what the server has sent."""
        if self.state is not ASKED:
            self.close()  # what nobody has asked for would be taken for the reply to the next request
            return
        if not self._headed:
            self._raw = self._raw + data if self._raw else data
        try:
            if self._refused is None:
                feed = self._feed
                feed(data)
            else:
                self._mend(self._refused)
        except NOT_UNDERSTOOD as error:
            if self._status:
                self._extra = True
            else:
                self._mend(error)
        if self._status:
            self._complete()
        elif self.state is ASKED:
            self._go_on()

    def eof_received(self) -> bool:
        """Hear that the server sends nothing more: a reply without a length ends so."""
        if self._waiter is None:
            self.close()
        elif not self._raw and self._is_untouched():
            self._end(self._home.nobody_has_it(_CLOSED_BY_SERVER.words))
        elif not self._raw:
            self._break("the server closed the connection before it replied")
        else:
            self._cut_off("the server closed the connection before its reply was complete", orderly=True)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Hear that the transport is closed."""
        if self._waiter is not None and self.tls is None and (left := what_is_left(self._transport)):
            self._unsent = self._unsent or memoryview(b"")  # nothing more can be sent: no other request, either
            self.data_received(left)  # a reply that was there when sending the rest of its request failed
        if error is not None:
            words = str(error) or type(error).__name__
            if self._waiter is not None and not self._raw and self._is_unsent():
                self._end(self._home.nobody_has_it(words))
            else:
                self._cut_off(words, orderly=False)
        elif self._waiter is not None:
            self._break("the connection was closed")
        self.close()
        if self._last_word is not None:
            self._last_word.cancel()
        self._home.lost(self)
        self._drop_parser()

    def pause_writing(self) -> None:
        """Take no more of a long request."""
        self._paused = True

    def resume_writing(self) -> None:
        """Take more of it."""
        self._paused = False
        if self._unsent is not None:
            self._send_more()

    def _send_more(self) -> None:
        """Give the transport of a long request what it takes: all at once would be encrypted at once, too."""
        while not self._paused and (unsent := self._unsent) is not None and self.state is ASKED:
            self._unsent = unsent[_PIECE:] if len(unsent) > _PIECE else None
            self._write(unsent[:_PIECE])

    # The reply

    def _complete(self) -> None:
        """Give the reply back, and the connection to whoever has the next request."""
        headed = self._headed
        raw = self._raw if headed or not self._interim else self._without_interim()
        pieces = self._pieces
        body = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        status = self._status
        short = not headed and len(raw) < _SHORT
        if not short and self._squeezed is not None:
            body = self._squeezed.whole(body)
        whole = Reply(status, body, ReplyHead(raw))
        reply: _Result = whole
        if (
            body[:2] not in _OBJECTS
            or status == _TIMED_OUT
            or not (short or (len(raw) <= LARGEST and len(body) <= AT_ONCE))
        ):
            reply = self._judged(whole, raw)
        if self._keep and not self._extra and self._unsent is None:
            waiter = self._waiter
            self._waiter = None
            self.state = IDLE
            self.answered = True
            self._status = 0
            self._raw = b""
            self._may_begin.append(None)
            if headed or self._interim or pieces:
                self._start_anew()
            home = self._home
            if home.waiting:
                home.free(self)
            else:
                home.idle.append(self)  # as `free` does, without the call
            if short and self.tls is None:
                try:  # noqa: SIM105 - costs nothing, which a context would
                    waiter.set_result(reply)  # type: ignore[union-attr]  # somebody has asked
                except asyncio.InvalidStateError:
                    pass  # it was given up in this very turn
            else:
                # The next request must not go out before what is there of this read, or TLS, is seen to be too much.
                home.tell_soon(waiter, reply)  # type: ignore[arg-type]
        elif not self._extra and self._unsent is None:
            self._part_with(reply)
        else:
            self._end(reply)

    def _judged(self, reply: Reply, raw: bytes) -> _Result:
        """Look at a reply that may be something else than an answer as it came."""
        status, body = reply.status, reply.body
        if len(raw) > LARGEST and head_end(raw) > LARGEST:
            self._extra = True
            return NoReply(end="broken", words=_TOO_MANY, part="http")
        if status == _TIMED_OUT and self.answered and self._is_untouched():
            return _CLOSED_BY_SERVER
        if len(body) > longest(status):
            return too_long(status, body, reply.header)
        return unpacked_reply(reply)

    def _start_anew(self) -> None:
        """Forget what a reply has left that came in several reads."""
        if self._size > AT_ONCE:
            self._home.long_replies.leave(self)
        self._headed = False
        self._squeezed = None
        self._pieces.clear()
        self._interim = self._seen = self._size = 0

    def _go_on(self) -> None:
        """Look at what there is of a reply: how long it is by now."""
        if not self._headed:
            if self._has_too_long_a_head():
                self._break(_TOO_MANY)
                return
            if not self._headed:
                return
        before = self._size
        pieces = self._pieces
        self._size = size = before + sum(map(len, pieces[self._seen :]))
        self._seen = len(pieces)
        if size <= AT_A_TIME:
            return
        status = self._parser.get_status_code()
        if self._squeezed is not None or (before <= AT_A_TIME and is_stream(status, ReplyHead(self._raw))):
            self._squeeze()
        if size <= AT_ONCE:
            return
        if size > longest(status):
            self._end(too_long(status, b"".join(pieces), ReplyHead(self._raw)))
        elif before <= AT_ONCE and self._squeezed is None:
            self._home.long_replies.enter(self)

    def _squeeze(self) -> None:
        """Keep what there is of a long stream in less, once that is worth it."""
        pieces = self._pieces
        if sum(map(len, pieces)) < AT_A_TIME:
            return
        self._squeezed = self._squeezed or Squeezed()
        self._squeezed.take(pieces)
        pieces.clear()
        self._seen = 0

    def pause(self) -> None:
        """Read nothing more for now."""
        if self.state is ASKED:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self.state is ASKED:
            self._transport.resume_reading()

    def _mend(self, error: Exception | str) -> None:
        if (words := self._read_mended(error)) is not None:
            self._break(words)

    def _cut_off(self, words: str, *, orderly: bool) -> None:
        """Take what there is of a reply whose connection has ended: it may be all, and of an error it is enough."""
        status = self._parser.get_status_code() if self._headed and self._waiter is not None else 0
        if status and (status not in OK or (orderly and self._ends_with_connection())):
            self._status = status
            self._keep = False
            self._complete()
        else:
            self._break(words)

    # No reply

    def _is_untouched(self) -> bool:
        """Whether nothing of the request can have come to the server, which had closed the connection before."""
        size = self._request_bytes if self.tls is None else self.tls.last_write
        return self._unsent is None and self._request_bytes <= _PIECE and nothing_arrived(self._transport, size)

    def _is_unsent(self) -> bool:
        """Whether nothing of the request has left this machine: its connection had been reset before."""
        tls = self.tls
        before = self._sent_before if tls is None else tls.written - tls.last_write
        return self._request_bytes <= _PIECE and nothing_sent(self._transport, before)

    def _break(self, words: str) -> None:
        # A server that ends TLS before its first reply has read no request: it wants a certificate, as a rule.
        part: Part = "tls" if words.startswith("[SSL") else "http"
        taken = self._waiter is not None and (part == "http" or self.answered)
        self.end = NoReply(end="broken", words=words, part=part, taken=taken)
        self._end(self.end)

    def _end(self, result: _Result) -> None:
        """Give a result back, and close."""
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(result)

    def _part_with(self, reply: _Result) -> None:
        """Give the last reply back, and let the server close, as it says.

        Whoever closes first keeps the port for a minute: at 500 requests/s to a server that closes after each, a
        machine would have none left.
        """
        waiter, self._waiter = self._waiter, None
        self._be_closed()
        self._last_word = asyncio.get_running_loop().call_later(_LAST_WORD_S, self._transport.abort)
        if waiter is not None and not waiter.done():
            waiter.set_result(reply)


class ProxiedConnection(Connection):
    """One to a proxy that passes requests on: it is kept where the proxy says that it keeps it.

    tinyproxy closes after each reply, of which it says nothing, and a next request is lost with the connection.
    """

    __slots__ = ()

    def _complete(self) -> None:
        head = ReplyHead(self._raw)
        said = [(head(name) or "").lower() for name in ("connection", "proxy-connection")]
        self._extra |= not any("keep-alive" in each for each in said)
        super()._complete()
