"""Whether a 429 that asks for a wait stands alone among many that are let through: then its row waits, not everybody.

A limit that is reached refuses what follows too; some servers refuse a few in a hundred whatever the rate, and each of
those says "in a second" as if all had to wait. Which it is shows in what was sent after the refused one and before it
was heard of. So a refusal holds the provider, until twice such requests were let through: from then on one holds its
row alone, as long as no others are refused just before it, and lately no more than one in ten were.

Where a refusal is heard of before anything else is sent, the waits themselves tell. From one refusal to the next, when
its wait was kept, a limit lets through about as many a second each time: it was used up then, and is now. One that
refuses although far fewer were sent than between two others was not used up.
"""

from math import exp

_PROOFS = 2
_IN_A_ROW = 3
_LATELY = 100  # replies
_LARGEST_SHARE = 0.1
_FEWER = 0.6  # of the most a second that was let through between two refusals, ...
_FAR_FEWER = 0.3  # which counts twice, ...
_CHANCE = 2  # ... and so many requests more
_LONGEST_S = 60.0  # a longer wait is no matter of a rate


class Strays:
    """The refusals of one provider as one worker sees them.

    asks: it has yet to be seen whether the latest stands alone.
    """

    def __init__(self) -> None:
        self.asks = False
        self._started = self._heard = 0.0  # of the latest
        self._until = float("inf")  # it asks for a wait until then; inf: there was none
        self._sent = 0
        self._most = 0.0  # a second, between two of them
        self._proofs = 0
        self._replies = 0  # valid ones, at the latest refusal
        self._refused = 0.0  # lately
        self._in_a_row = 0

    def __repr__(self) -> str:
        return f"<{self._refused:.1f} refused lately, {self._in_a_row} in a row, {self._proofs} stood alone>"

    def refused(self, asked_s: float | None, started: float, replies: int, now: float, *, sent: int = 0) -> bool:
        """Count the refusal of what was sent then, after so many valid replies; True where its row alone is to wait.

        sent: requests so far that were not refused, as far as is known.
        """
        if started > self._until:
            seconds, count = started - self._heard, sent - self._sent
            usual = self._most * seconds
            self._proofs += (count < _FEWER * usual - _CHANCE) + (count < _FAR_FEWER * usual - _CHANCE)
            self._most = max(self._most, count / seconds)
        since, self._replies = replies - self._replies, replies
        self._in_a_row = 1 if since or sent > self._sent else self._in_a_row + 1
        self._refused = self._refused * exp(-since / _LATELY) + 1.0
        if self._in_a_row >= _IN_A_ROW:
            self._proofs = 0
        self.asks = True
        self._started, self._heard, self._sent = started, now, sent
        self._until = now + (asked_s or 0.0)
        return (
            asked_s is not None
            and asked_s <= _LONGEST_S
            and self._proofs >= _PROOFS
            and self._refused <= 2.0 + _LARGEST_SHARE * min(replies, _LATELY)
        )

    def answered(self, started: float) -> None:
        """Hear an answer to what was sent then, while it is asked for."""
        if started > self._heard:
            self.asks = False  # sent after all had waited: it says nothing
        elif started > self._started:
            self.asks = False
            self._proofs += 1
