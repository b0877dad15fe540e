"""A slot: sends a row, settles what becomes of it, and sends the next one.

Where a connection is idle, that needs no task: the reply is settled and the next row sent in the very call that brings
the reply, without a turn of the loop, or a coroutine and a future for each row. The slot's task waits meanwhile; it
does what takes a while, as opening a connection, and it is what a cancel ends.

    admit ─┬─ nothing ──────────────► parked, until it is woken
           ├─ a connection is idle ─► on its way; `set_result` settles it, and admits the next
           └─ none is ──────────────► the task sends and settles it
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from rowmill.core.wire import Failure, Reply
from rowmill.store.in_flight import InflightBoard
from rowmill.worker.job import Job
from rowmill.worker.live.admission import Admission
from rowmill.worker.live.endings import Endings
from rowmill.worker.live.parking_lot import ParkingLot
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.settler import Settler

if TYPE_CHECKING:
    from rowmill.transport.http1 import NoReply
    from rowmill.transport.http1.connection import Connection


class Slot:
    """Has one request in flight at most. To the connection which that is on, it is what takes the result."""

    __slots__ = (
        "_admission", "_admit", "_again", "_cells", "_connection", "_endings", "_future", "_job", "_left", "_loop",
        "_number", "_parking_lot", "_settle",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        board: InflightBoard,
        *,
        admission: Admission,
        settler: Settler,
        endings: Endings,
        parking_lot: ParkingLot,
        on_left: Callable[[Job], None],
    ) -> None:
        """Take its number, of its cell on the board, and who is told of the end of a request that others wait for."""
        self._number = number
        self._cells = board.cells
        self._admission = admission
        self._admit = admission.admit
        self._settle = settler.settle
        self._endings = endings
        self._parking_lot = parking_lot
        self._left = on_left
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()  # what the task waits for
        self._job: Job | None = None  # in flight on the connection, or, without one, left to the task
        self._connection: Connection | None = None
        self._again = False  # what is left to the task has gone out, and has come to nobody

    async def run(self) -> None:
        """Send row after row, until cancelled. Raises what is not of a row alone."""
        try:
            while True:
                job = self._job or self._admit(self._number)
                if job is not None and (job is self._job or not self._sent(job)):
                    self._job = None
                    await self._send(job)
                    continue
                self._future = self._loop.create_future()
                if job is None:
                    self._park()
                await self._future
        except BaseException:
            if (connection := self._connection) is not None:
                self._cells[self._number] = 0
                self._connection = None
                connection.give_up(self)
            if (left := self._job) is not None:
                self._over(left, left.provider)  # type: ignore[arg-type]  # as in `_sent`
            raise

    def _park(self) -> None:
        self._cells[self._number] = 0  # else the next row has taken the place of the one before
        self._parking_lot.parked.append(self._future)

    def _sent(self, job: Job) -> bool:
        """Send a row at once; False where no connection is idle."""
        provider: Provider = job.provider  # type: ignore[assignment]  # `admit` has chosen it
        immediate = provider.immediate
        if immediate is None or not immediate.idle:
            return False
        self._job = job
        connection = self._connection = immediate.idle.pop()
        connection.ask(job.request.body, job.started, self)  # type: ignore[union-attr]  # built
        return True

    async def _send(self, job: Job) -> None:
        """Send a row, and settle it."""
        provider: Provider = job.provider  # type: ignore[assignment]  # as above
        try:
            body: bytes | None = job.request.body  # type: ignore[union-attr]
            if provider.rewrite is not None:
                body = self._rewritten(job, provider)
            if body is not None:
                send = provider.immediate.send_again if self._again and provider.immediate else provider.send
                self._again = False
                try:
                    reply = await send(body)
                except BaseException:
                    self._cells[self._number] = 0
                    raise
                self._settle(job, provider, reply)  # raises what is of the run: the board still names the row then
        finally:
            self._over(job, provider)

    def _rewritten(self, job: Job, provider: Provider) -> bytes | None:
        """Return the body as the provider is asked; None where that fails, and the row with it."""
        assert job.request is not None
        assert provider.rewrite is not None
        try:
            body = provider.rewrite(job.request.body)
            if job.second is not None and job.second.cap:
                from rowmill.tasks.caps import with_cap  # for few rows of few runs

                body = with_cap(body, job.second.cap)
        except Exception as error:  # noqa: BLE001 - it is this row's
            self._endings.defect(job, provider, error, sent=False)
            return None
        return body

    # What a connection does with it

    def done(self) -> bool:
        """Tell whether nothing is in flight any more: the task has ended meanwhile."""
        return self._connection is None

    def set_result(self, result: "Reply | Failure | NoReply") -> None:
        """Take the result of the request in flight: settle it, and send the next."""
        job: Job = self._job  # type: ignore[assignment]  # it is this one's result
        self._job = self._connection = None
        provider: Provider = job.provider  # type: ignore[assignment]  # as above
        try:
            # By the transport, since `immediate` may have gone meanwhile: the provider is asked in another form by now.
            outcome = result if type(result) is Reply else provider.transport.failure(result)  # type: ignore[attr-defined]
            if outcome is None:
                self._again = True
                self._leave(job)
                return
            settle, admit = self._settle, self._admit  # by local names: see `http1.connection`
            try:
                settle(job, provider, outcome)
            finally:  # as `_over`, without the call
                admission = self._admission
                provider.in_flight -= 1
                admission.in_flight -= 1
                if job.alone or admission.in_flight == 0:
                    self._left(job)
            if self._future.done():
                return  # the task ends
            following = admit(self._number)
            if following is None:
                self._park()
            elif not self._sent(following):
                self._leave(following)
        except Exception as error:
            if self._future.done():
                raise
            self._future.set_exception(error)

    def _leave(self, job: Job) -> None:
        """Leave it to the task to send a row."""
        self._job = job
        if not self._future.done():
            self._future.set_result(None)

    def _over(self, job: Job, provider: Provider) -> None:
        """Hear that a request is not in flight any more, whatever became of it."""
        admission = self._admission
        provider.in_flight -= 1
        admission.in_flight -= 1
        if job.alone or admission.in_flight == 0:
            self._left(job)
