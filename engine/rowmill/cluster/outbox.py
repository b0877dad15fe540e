"""What an agent has to tell its driver, until a round takes it: at once where it presses, else a little later."""

import asyncio
from collections.abc import Awaitable, Callable

from rowmill.cluster.wire import Up

_LARGE = 1 << 18  # bytes that are not kept waiting
_GATHER_S = 0.05  # what comes in so short a time goes in one round


class Outbox:
    """Items in their order. Of the running event loop."""

    def __init__(self) -> None:
        self._items: list[Up] = []
        self._bytes = 0
        self._any = asyncio.Event()
        self._pressing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{len(self._items)} to be told{', pressing' if self._pressing.is_set() else ''}>"

    def add(self, item: Up, *, pressing: bool = False) -> None:
        """Have something told soon; `pressing`: now rather than with others."""
        self._items.append(item)
        self._any.set()
        self._bytes += len(getattr(item, "data", b""))
        if pressing or self._bytes >= _LARGE:
            self._pressing.set()

    def note(self, item: Up) -> None:
        """Have something told with the next round, for which nobody need hurry."""
        self._items.append(item)

    async def taken(self, wait_s: float) -> list[Up]:
        """Take all that there is; waits so long for something that is to be told soon."""
        if not self._pressing.is_set():
            if not self._any.is_set():
                await within(wait_s, self._any.wait)
            await within(_GATHER_S, self._pressing.wait)
        items, self._items, self._bytes = self._items, [], 0
        self._pressing.clear()
        self._any.clear()
        return items


async def within(seconds: float, wait: Callable[[], Awaitable[object]]) -> None:
    """Wait for something, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        pass
