"""Whether a 429 that asks for a wait stands alone among many that are let through: then its row waits, not everybody.

A limit that is reached refuses what follows too; some servers refuse a few in a hundred whatever the rate, and each of
those says "in a second" as if all had to wait. So a refusal holds the provider where others were refused just before
it, or lately more than a few in a hundred were. That takes a limit two refusals longer to be seen, or ten where
replies to what was sent before still come in between.
"""

from math import exp

_PROVEN = 20  # replies, before which nothing is known
_IN_A_ROW = 3
_LATELY = 100  # replies
_LARGEST_SHARE = 0.1
_LONGEST_S = 60.0  # a longer wait is no matter of a rate


class Strays:
    """The refusals of one provider as one worker sees them."""

    def __init__(self) -> None:
        self._replies = 0  # valid ones, at the latest refusal
        self._refused = 0.0  # lately
        self._in_a_row = 0

    def __repr__(self) -> str:
        return f"<{self._refused:.1f} refused lately, {self._in_a_row} in a row>"

    def refused(self, asked_s: float | None, replies: int) -> bool:
        """Count a refusal after so many valid replies; True where its row alone is to wait, as long as was asked."""
        since, self._replies = replies - self._replies, replies
        self._in_a_row = 1 if since else self._in_a_row + 1
        self._refused = self._refused * exp(-since / _LATELY) + 1.0
        return (
            asked_s is not None
            and asked_s <= _LONGEST_S
            and replies >= _PROVEN
            and self._in_a_row < _IN_A_ROW
            and self._refused <= 2.0 + _LARGEST_SHARE * min(replies, _LATELY)
        )
