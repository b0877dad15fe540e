"""What a worker has written and counts only once it has been carried to the supervisor's machine."""

import asyncio
import errno
import os
from collections.abc import Callable
from time import monotonic

from rowmill.ipc.messages import Appended, Durable, ToSupervisor

_STUCK_S = 1.0  # ten times what a group takes; what is answered meanwhile would be lost with the way to the driver


class Carrier:
    """The groups of a worker's checkpoints that are on their way."""

    def __init__(self, tell: Callable[[ToSupervisor], None]) -> None:
        self._tell = tell
        self._waiting: dict[tuple[int, int], asyncio.Future[None]] = {}  # shard and end -> nothing, or why not
        self._lost = False
        self._since = 0.0  # when nothing was on its way last

    def __repr__(self) -> str:
        return f"<{len(self._waiting)} groups on their way>"

    async def carry(self, number: int, start: int, end: int) -> None:
        """Have these bytes of a shard's checkpoint carried. Raises OSError where that cannot be."""
        if self._lost:
            raise _gone()
        arrived = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._since = monotonic()
        self._waiting[number, end] = arrived
        self._tell(Appended(number, start, end))
        await arrived

    @property
    def stuck(self) -> bool:
        """Whether nothing has arrived for so long that it is better to send no more requests."""
        return bool(self._waiting) and monotonic() - self._since > _STUCK_S

    def stored(self, message: Durable) -> None:
        """Hear what has come of a group."""
        self._since = monotonic()
        arrived = self._waiting.pop((message.number, message.end), None)
        if arrived is None or arrived.done():
            return
        if message.problem is None:
            arrived.set_result(None)
        else:
            arrived.set_exception(OSError(errno.EIO, message.problem))

    def give_up(self) -> None:
        """Hear that nobody carries any more."""
        self._lost = True
        waiting, self._waiting = self._waiting, {}
        for arrived in waiting.values():
            if not arrived.done():
                arrived.set_exception(_gone())


def _gone() -> OSError:
    return OSError(errno.EPIPE, os.strerror(errno.EPIPE))
