"""The prompt tokens that are enqueued at the provider: how many they are, and what waits until they are fewer.

State changes without awaiting: between the look whether a try fits and its being counted, no other one can get in.
"""

import asyncio
from collections.abc import Iterable

from rowmill.store.batch_journal import Try


class TokenQuota:
    """What all parts together have enqueued.

    limit: tokens that may be enqueued at a time; None: not known.
    """

    def __init__(self, limit: float | None, tries: Iterable[Try]) -> None:
        """Start with the tries as an earlier session has left them."""
        self.limit = limit
        self._tokens = {t.part: t.tokens for t in tries if t.phase in ("creating", "created")}
        self._refused: dict[int, int] = {}  # part -> times in a row that it was refused with nothing else enqueued
        self._fewer = asyncio.Event()
        self._closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<TokenQuota {sum(self._tokens.values())} of {self.limit}: parts {sorted(self._tokens)}{closed}>"

    async def room(self, t: Try) -> bool:
        """Wait until a try's tokens have room, and count them. False where nothing is to be enqueued any more."""
        while not self._closed and not self._fits(t):
            await self.fewer()
        if not self._closed:
            self._tokens[t.part] = t.tokens
        return not self._closed

    async def fewer(self) -> None:
        """Wait until fewer tokens are enqueued, or nothing is to be enqueued any more."""
        if not self._closed:
            self._fewer.clear()
            await self._fewer.wait()

    def leave(self, t: Try) -> None:
        """Take a try's tokens off: it is at the provider no more."""
        self._tokens.pop(t.part, None)
        self._fewer.set()

    def refused(self, t: Try) -> int:
        """Take a refused try's tokens off; return how often in a row that was so with nothing else enqueued."""
        # Nothing is woken: the provider has no more room than before, and two of them would wake each other for ever.
        self._tokens.pop(t.part, None)
        self._refused[t.part] = 0 if self._tokens else self._refused.get(t.part, 0) + 1
        return self._refused[t.part]

    def accepted(self, t: Try) -> None:
        """Count its refusals from the start again."""
        self._refused.pop(t.part, None)

    def lower(self, limit: float) -> None:
        """Learn of a limit."""
        self.limit = limit if self.limit is None else min(self.limit, limit)
        self._fewer.set()

    def close(self) -> None:
        """Let nothing in any more, and wake what waits."""
        self._closed = True
        self._fewer.set()

    def _fits(self, t: Try) -> bool:
        """Whether there is room for its tokens. What is larger than the limit alone is tried alone."""
        others = sum(tokens for part, tokens in self._tokens.items() if part != t.part)
        return self.limit is None or not others or others + t.tokens <= self.limit
