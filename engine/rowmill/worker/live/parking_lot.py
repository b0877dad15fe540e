"""Where slots wait that find nothing to do, and what wakes them.

One slot is woken at a time; it looks for work and, finding some, wakes the next. A wake-up is never lost: whoever makes
work possible calls `wake`, or `wake_at` for a time that is known.
"""

import asyncio
from collections import deque


class ParkingLot:
    """The parked slots of one worker.

    parked: one future a slot, longest parked first; the hot path only asks whether there is any.
    """

    def __init__(self) -> None:
        self.parked: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # kept here: uvloop gives a handle without a time for what is due at once

    async def park(self) -> None:
        """Wait to be woken."""
        parked = self._loop.create_future()
        self.parked.append(parked)
        await parked

    def wake(self) -> None:
        """Let one parked slot look again."""
        while self.parked:
            parked = self.parked.popleft()
            if not parked.done():
                parked.set_result(None)
                return

    def wake_at(self, due: float) -> None:
        """Wake a slot at that time, unless one will be woken before."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()
