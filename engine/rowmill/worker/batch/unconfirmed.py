"""Operations that nobody has confirmed: how long it is until what was sent has arrived, or never will."""

from rowmill.worker.batch.client import Clock

_ARRIVES_S = 5.0  # so long after nobody waits for it any more, what was sent has arrived, or hardly ever will


class UnconfirmedOperations:
    """Of each part, whether its last upload or creation came through."""

    def __init__(self, clock: Clock, began: float, longest_s: float) -> None:
        """`longest_s`: pause between two tries of what never comes through.

        `began`: of this session. What an earlier one has left unconfirmed may have been sent until then.
        """
        self._clock = clock
        self._began = began
        self._longest_s = max(_ARRIVES_S, longest_s)
        self._unanswered: dict[int, tuple[float, int]] = {}  # part -> when the last one was, and how many in a row

    def __repr__(self) -> str:
        return f"<UnconfirmedOperations { ({part: times for part, (_, times) in self._unanswered.items()}) }>"

    def unanswered(self, part: int) -> None:
        """Learn that an operation of the part had no answer."""
        self._unanswered[part] = self._clock.time(), self._unanswered.get(part, (0.0, 0))[1] + 1

    def confirmed(self, part: int) -> None:
        """Learn that it has come through."""
        self._unanswered.pop(part, None)

    async def wait(self, part: int) -> None:
        """Wait until what was sent has arrived, or never will; longer, the more often in a row it did not."""
        since, times = self._unanswered.get(part, (self._began, 1))
        pause = min(_ARRIVES_S * 2 ** min(times - 1, 10), self._longest_s)
        left = since + pause - self._clock.time()
        if left > 0:
            await self._clock.sleep(left)
