"""The connections to one server: taken by who has a request, and opened where there are none.

The one that was used last is used first, so that those which are not needed grow old and are closed. More are opened as
slowly as the server takes them: a thousand requests at once would be a thousand handshakes at once. Where this machine
has no room for more, as its local ports are all in use, requests wait for those that there are.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from rowmill.core.wire import Failure, Reply
from rowmill.transport.http1 import NameUnanswered, NoReply, NoRoomHere, Unreachable
from rowmill.transport.http1.connection import ASKED, IDLE, Connection, Waiter
from rowmill.transport.http1.long_replies import LongReplies

if TYPE_CHECKING:
    import ssl

    from rowmill.transport.http1.tls import TlsStream

_AT_ONCE = 16  # connections that are opened at the same time, or as many more as there are already
_IDLE_S = 30.0  # a connection that is idle twice in a row, so long apart, is closed
_SESSION_S = 60.0  # a session of TLS is gone on with for so long: each that Python gives out stays in memory (7 KB)
_TICK_S = 0.01  # deadlines are this exact
_NO_ROOM_S = 0.25  # until room is looked for again: the system goes through all ports for it
_LATE = "no connection in time"
_UNANSWERED = f"{_LATE}: no name server says at which address it is"
_Waiter = asyncio.Future[Connection | NoReply]


class Connections:
    """Connections to one server. `idle` has those that can be asked, the one used last at the end."""

    def __init__(
        self,
        dial: Callable[["Connections"], Awaitable[Connection]],
        connect_s: float,
        *,
        head: bytes = b"",
        timeout_s: float = math.inf,
    ) -> None:
        """`dial` opens a connection, within `connect_s`, or raises `Unreachable` or `TimeoutError`.

        head: of every request, up to the length of its body, which comes next. timeout_s: for a request.
        """
        self.head = head
        self.timeout_s = timeout_s
        self._dial = dial
        self._connect_s = connect_s
        self._loop = asyncio.get_running_loop()
        self.idle: list[Connection] = []
        self.long_replies = LongReplies()
        self.watching = False  # deadlines are looked at
        self._all: set[Connection] = set()
        self.waiting: OrderedDict[_Waiter, tuple[float, float]] = OrderedDict()  # since when, and until when
        self._dialling: set[asyncio.Task[None]] = set()
        self._lacking = ""  # on this machine, for another connection
        self._watch_timer: asyncio.TimerHandle | None = None
        self._sift_timer: asyncio.TimerHandle | None = None
        self._room_timer: asyncio.TimerHandle | None = None
        self._stream: TlsStream | None = None  # of a connection that is closed
        self._session: ssl.SSLSession | None = None
        self._session_until = 0.0
        self._answered = False  # by a connection that is closed
        self._closed = False
        self._all_lost: asyncio.Future[None] | None = None  # somebody waits for that

    # Connections

    async def connection(self, deadline: float) -> Connection | NoReply:
        """Return a connection that is idle, once there is one: an open one, or a new one."""
        waiter: _Waiter = self._loop.create_future()
        self.waiting[waiter] = (monotonic(), deadline)
        self._open_more()
        try:
            found = await waiter
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        if isinstance(found, Connection) and found.state is not IDLE:  # between two turns of the loop
            return self._end_of(found)
        return found

    def free(self, connection: Connection) -> None:
        """Take a connection that has nothing in flight."""
        waiting = self.waiting
        while waiting:
            waiter, _ = waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return
        self.idle.append(connection)

    def closed(self, connection: Connection) -> None:
        """Hear that a connection is of no use any more."""
        if connection in self.idle:
            self.idle.remove(connection)
        self._answered |= connection.answered
        if connection.answered and connection.tls is not None:
            self._stream = connection.tls

    def nobody_has_it(self, words: str) -> NoReply:
        """Return the result of a request that nobody has got, which goes out again where that is of use.

        A server that has never answered, and closes what is new, will do so again: that is for the fault table.
        """
        answers = self._answered or any(connection.answered for connection in self._all)
        return NoReply(end="untouched" if answers else "broken", words=words, part="http", taken=False)

    def _end_of(self, connection: Connection) -> NoReply:
        """Return why a connection cannot be asked that was closed as it came."""
        end = connection.end
        return self.nobody_has_it(end.words) if end.end == "untouched" else end

    def lost(self, connection: Connection) -> None:
        """Hear that its socket is gone."""
        self._all.discard(connection)
        if not self._all and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)

    async def close(self) -> None:
        """Close all connections, and open no more. Nobody asks any more."""
        self._closed = True
        for timer in (self._watch_timer, self._sift_timer, self._room_timer):
            if timer is not None:
                timer.cancel()
        for waiter in self.waiting:
            waiter.cancel()
        dialling = list(self._dialling)
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for connection in list(self._all):
            connection.abort()
        if self._all:
            self._all_lost = self._loop.create_future()
            await self._all_lost

    def tls_session(self) -> "ssl.SSLSession | None":
        """Return a session that a new connection may go on with, of one that has brought a reply."""
        now = monotonic()
        if now >= self._session_until:
            streams = (connection.tls for connection in self._all if connection.answered and connection.tls)
            stream = next(streams, self._stream)
            if stream is not None:
                self._session, self._session_until = stream.session, now + _SESSION_S
        return self._session

    def _sift(self) -> None:
        """Close what nobody has used for long: the ways to it may be forgotten."""
        for connection in [each for each in self.idle if each.old]:
            connection.close()
        for connection in self.idle:
            connection.old = True
        self._sift_timer = self._loop.call_later(_IDLE_S, self._sift) if self._all else None

    def _withdraw(self, waiter: _Waiter) -> None:
        """Let a request go that does not wait any more."""
        if self.waiting.pop(waiter, None) is None and not waiter.cancelled():
            given = waiter.result()  # in the very moment in which it was given up
            if isinstance(given, Connection) and given.state is IDLE:
                self.free(given)
        self._open_fewer()

    # New ones

    def _open_more(self) -> None:
        most = min(len(self.waiting), max(_AT_ONCE, len(self._all)))
        while len(self._dialling) < most and self._room_timer is None and not self._closed:
            task = self._loop.create_task(self._open())
            self._dialling.add(task)
            task.add_done_callback(self._opened)

    def _open_fewer(self) -> None:
        """Give up connections that were opened for requests which have been given up."""
        # One that is open has its request by now, though its task may be among them until the next turn.
        dialling = [task for task in self._dialling if not task.done()]
        for task in dialling[len(self.waiting) :]:
            task.cancel()

    async def _open(self) -> None:
        try:
            connection = await self._dial(self)
        except NameUnanswered as error:
            self._late(NoReply(end="unconnected", words=_UNANSWERED, part=error.part, taken=False))
        except TimeoutError:
            self._late(NoReply(end="unconnected", words=_LATE, taken=False))
        except NoRoomHere as error:
            self._no_room(error)
        except Unreachable as error:
            self._failed(NoReply(end="broken", words=error.words, part=error.part, taken=False))
        else:
            self._lacking = ""
            if connection.state is not IDLE:
                self._failed(self._end_of(connection))  # between two turns of the loop
                return
            self._all.add(connection)
            if self._sift_timer is None:
                self._sift_timer = self._loop.call_later(_IDLE_S, self._sift)
            self.free(connection)

    def _failed(self, end: NoReply) -> None:
        """Tell it to the one that has waited longest: each has a connection of its own tried for it."""
        if self.waiting:
            waiter, _ = self.waiting.popitem(last=False)
            self._tell(waiter, end)

    def _no_room(self, error: NoRoomHere) -> None:
        """Have requests wait, and look again later. Where there has been no connection lately, none may ever come."""
        if self._sift_timer is None and len(self._dialling) == 1:
            self._failed(NoReply(end="broken", words=error.words, part=error.part, taken=False))
            return
        self._lacking = error.words
        if self._room_timer is None:
            self._room_timer = self._loop.call_later(_NO_ROOM_S, self._look_for_room)
        if not self.watching:
            self.watch()

    def _look_for_room(self) -> None:
        self._room_timer = None
        self._open_more()

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._dialling.discard(task)
        self._open_more()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(NoReply(end="broken", words=f"a defect: {type(error).__name__}", taken=False))
            raise error  # which the loop tells

    def _late(self, end: NoReply) -> None:
        """Give up all that have waited for as long as a connection may take: theirs would not come sooner."""
        now = monotonic()
        first = True  # the one for which this was opened has waited a moment longer, or less where it came later
        while self.waiting:
            waiter, (since, _) = next(iter(self.waiting.items()))
            if not first and now - since < self._connect_s:
                break
            first = False
            del self.waiting[waiter]
            self._tell(waiter, end)
        self._open_fewer()

    @staticmethod
    def _tell(waiter: Any, result: Any) -> None:
        if not waiter.done():
            waiter.set_result(result)

    def tell_soon(self, waiter: Waiter, result: Reply | Failure | NoReply) -> None:
        """Give a result to who waits for it in the next turn of the loop."""
        self._loop.call_soon(self._tell, waiter, result)

    # Deadlines: one timer for all, since all requests may take equally long and so end in the order in which they began

    def watch(self) -> None:
        """Look at deadlines from now on, as there is a request."""
        self.watching = True
        self._watch()

    def _watch(self) -> None:
        now = monotonic()
        soonest = None
        late = []
        for connection in self._all:
            if connection.state is ASKED:
                if connection.deadline <= now:
                    late.append(connection)
                elif soonest is None or connection.deadline < soonest:
                    soonest = connection.deadline
        while self.waiting:
            waiter, (_, deadline) = next(iter(self.waiting.items()))
            if deadline > now:
                soonest = deadline if soonest is None else min(soonest, deadline)
                break
            del self.waiting[waiter]
            words = f"{_LATE}: {self._lacking}" if self._lacking else _LATE
            self._tell(waiter, NoReply(end="unconnected", words=words, taken=False))
        self._open_fewer()
        self.watching = soonest is not None
        if soonest is not None and not self._closed:
            self._watch_timer = self._loop.call_later(max(soonest - now, _TICK_S), self._watch)
        for connection in late:  # at last: who hears of it may ask again at once, and is to be watched
            connection.expire()
