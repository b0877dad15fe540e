"""What was sent without an answer: how long it is until it has arrived, or never will."""

from rowmill.worker.batch.client import Clock

SETTLE_S = 5.0  # so long after nobody waits for it any more, what was sent has arrived, or hardly ever will


class UnconfirmedOperations:
    """Of each part, whether its last upload or creation came through.

    began: Unix time of this session. What an earlier one has left in doubt may have been sent until then.
    """

    def __init__(self, clock: Clock, longest_s: float) -> None:
        """`longest_s`: pause between two tries of what never comes through."""
        self.began = clock.time()
        self._clock = clock
        self._longest_s = max(SETTLE_S, longest_s)
        self._unanswered: dict[int, tuple[float, int]] = {}  # part -> when the last one was, and how many in a row

    def arise(self, part: int) -> None:
        """Learn that a step of the part had no answer."""
        self._unanswered[part] = self._clock.time(), self._unanswered.get(part, (0.0, 0))[1] + 1

    def end(self, part: int) -> None:
        """Learn that it has come through."""
        self._unanswered.pop(part, None)

    async def settled(self, part: int) -> None:
        """Wait until what was sent has arrived, or never will; longer, the more often in a row it did not."""
        since, times = self._unanswered.get(part, (self.began, 1))
        pause = min(SETTLE_S * 2 ** min(times - 1, 10), self._longest_s)
        left = since + pause - self._clock.time()
        if left > 0:
            await self._clock.sleep(left)
