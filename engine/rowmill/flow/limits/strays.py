"""Whether a 429 that asks for a wait stands alone among many that are let through: then its row waits, not everybody.

A limit that is reached refuses what follows too; some servers refuse a few in a hundred whatever the rate, and each of
those says "in a second" as if all had to wait. Which it is shows in what was sent after the refused one and before it
was heard of. So a refusal holds the provider, until twice such requests were let through: from then on one holds its
row alone, as long as no others are refused just before it, and lately no more than one in ten were.
"""

from math import exp

_PROOFS = 2
_IN_A_ROW = 3
_LATELY = 100  # replies
_LARGEST_SHARE = 0.1
_LONGEST_S = 60.0  # a longer wait is no matter of a rate


class Strays:
    """The refusals of one provider as one worker sees them.

    asks: it has yet to be seen whether the latest stands alone.
    """

    def __init__(self) -> None:
        self.asks = False
        self._started = self._heard = 0.0  # of the latest
        self._proofs = 0
        self._replies = 0  # valid ones, at the latest refusal
        self._refused = 0.0  # lately
        self._in_a_row = 0

    def __repr__(self) -> str:
        return f"<{self._refused:.1f} refused lately, {self._in_a_row} in a row, {self._proofs} stood alone>"

    def refused(self, asked_s: float | None, started: float, replies: int, now: float) -> bool:
        """Count the refusal of what was sent then, after so many valid replies; True where its row alone is to wait."""
        since, self._replies = replies - self._replies, replies
        self._in_a_row = 1 if since else self._in_a_row + 1
        self._refused = self._refused * exp(-since / _LATELY) + 1.0
        if self._in_a_row >= _IN_A_ROW:
            self._proofs = 0
        self.asks = True
        self._started, self._heard = started, now
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
