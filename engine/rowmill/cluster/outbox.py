"""What an agent has to tell its driver, until a round takes it: at once where it presses, else a little later."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from rowmill.cluster.wire import PIECE_BYTES, Up

_LARGE = 1 << 18  # bytes that are not kept waiting
_GATHER_S = 0.05  # what comes in so short a time goes in one round


class Outbox:
    """Items in their order. Of the running event loop."""

    def __init__(self) -> None:
        self._items: deque[Up | Iterator[Up]] = deque()
        self._bytes = 0
        self._any = asyncio.Event()
        self._pressing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{len(self._items)} to be told{', pressing' if self._pressing.is_set() else ''}>"

    def add(self, item: Up | Iterator[Up], size: int | None = None, *, pressing: bool = False) -> None:
        """Have something told soon; `pressing`: now rather than with others.

        Of several with so many bytes in all, each is made only when there is room for it in a round.
        """
        self._items.append(item)
        self._any.set()
        self._bytes += _size(item) if size is None else size
        if pressing or self._bytes >= _LARGE:
            self._pressing.set()

    def note(self, item: Up) -> None:
        """Have something told with the next round, for which nobody need hurry."""
        self._items.append(item)

    async def taken(self, wait_s: float) -> list[Up]:
        """Take what there is, as much as one round carries; waits so long for something that is to be told soon."""
        if not self._pressing.is_set():
            if not self._any.is_set():
                await within(wait_s, self._any.wait)
            await within(_GATHER_S, self._pressing.wait)
        taken: list[Up] = []
        size = 0
        while size < PIECE_BYTES and (item := self._next()) is not None:
            taken.append(item)
            size += _size(item)
        if self._items:
            self._pressing.set()
        else:
            self._bytes = 0
            self._pressing.clear()
            self._any.clear()
        return taken

    def _next(self) -> Up | None:
        while self._items:
            first = self._items[0]
            if not isinstance(first, Iterator):
                self._items.popleft()
                return first
            if (item := next(first, None)) is not None:
                return item
            self._items.popleft()
        return None


def _size(item: object) -> int:
    return len(getattr(item, "data", b""))


async def within(seconds: float, wait: Callable[[], Awaitable[object]]) -> None:
    """Wait for something, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        pass
