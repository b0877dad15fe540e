"""Answers on their way into the store that later runs find, in groups: each costs a write of whole pages."""

import asyncio
from collections.abc import Callable

from rowmill.store.cache.kept_replies import Replies

_STORE_BYTES = 32 << 20  # of answers that wait for the store, until feeding stops


class Keeper:
    """Keeps the answers of one worker. Once one is lost, it says so and keeps no more."""

    def __init__(self, replies: Replies, *, on_room: Callable[[], None], note: Callable[[str], None]) -> None:
        """`on_room` is called when fewer answers wait than before; `note` is told, once, that nothing more is kept."""
        self._replies = replies
        self._on_room = on_room
        self._note = note
        self._waiting: list[tuple[bytes, bytes]] = []  # (key, result)
        self._bytes = 0  # of the results
        self._told = False  # that answers were not kept
        self._work = asyncio.Event()
        self._putting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{len(self._waiting)} answers wait, {self._bytes} bytes{', nothing is kept' * self._told}>"

    @property
    def keeps_up(self) -> bool:
        """Whether more answers may come."""
        return self._bytes < _STORE_BYTES

    def get(self, keys: list[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """Return what is kept of these: key -> serial number and result."""
        found = self._replies.get(keys)
        self._note_loss()
        return found

    def keep(self, key: bytes, data: bytes) -> None:
        """Take an answer."""
        if not self._told:
            self._waiting.append((key, data))
            self._bytes += len(data)
            self._work.set()

    async def wanted(self) -> None:
        """Wait until there is something to put in."""
        await self._work.wait()

    async def flush(self) -> None:
        """Put in what waits. What was begun goes on where the caller is cancelled: `close` waits for it.

        A call that no thread has taken yet would be cancelled with its caller, and its answers be kept nowhere.
        """
        self._putting = asyncio.get_running_loop().create_task(self._put())
        await asyncio.shield(self._putting)

    async def _put(self) -> None:
        answers, size = self._waiting, self._bytes
        self._work.clear()
        if not answers:
            return
        self._waiting = []
        kept = await asyncio.get_running_loop().run_in_executor(None, self._replies.put, answers)
        self._bytes -= size
        self._on_room()
        self._note_loss()
        if not kept and not self._told:
            self._told = True
            self._note("another process was writing to the reply cache for too long: nothing is kept")

    def _note_loss(self) -> None:
        if self._replies.problem is not None and not self._told:
            self._told = True
            self._note(self._replies.problem)

    async def close(self) -> None:
        """Put in what is left, and close the store."""
        if self._putting is not None:
            await self._putting
        await self._put()
        await asyncio.get_running_loop().run_in_executor(None, self._replies.close)
