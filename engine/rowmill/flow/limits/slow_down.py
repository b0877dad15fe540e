"""What follows from `slow_down`: not that the rate is too high for the provider, but that it rose too quickly.

The rate falls to half of what was taken, and grows by at most half in 15 minutes, as OpenAI asks of those who send
above a million tokens a minute.
"""

from math import exp2, log2

from rowmill.flow.limits.ceiling import GONE

_BURST_S = 10.0  # what was in flight when it said so must not count twice
_GROWTH = 1.5
_GROWTH_S = 900.0


class SlowDown:
    """The rate after `slow_down`; none as long as it was not said."""

    def __init__(self, floor: float) -> None:
        self._floor = floor
        self._before: float | None = None  # what was taken when it was said
        self._at = float("-inf")

    def rate(self, now: float) -> float | None:
        """Return what may be sent a second, None where anything may."""
        if self._before is None:
            return None
        return self._before / 2 * exp2(log2(_GROWTH) * (now - self._at) / _GROWTH_S)

    def said(self, taken: float, sent: float, now: float) -> None:
        """Follow the provider, which was sent and took these rates until now."""
        if now - self._at < _BURST_S:
            return
        # Never to a small part at once, though everything may have been refused: it would take hours to come back.
        self._before = max(taken, sent / 2, self._floor) if (rate := self.rate(now)) is None else max(rate, self._floor)
        self._at = now

    def relax(self, used: float, limit: float | None, now: float) -> None:
        """Forget it once the rate is far above what was and is used, or above the known limit."""
        rate = self.rate(now)
        if rate is None or self._before is None:
            return
        if rate > GONE * max(self._before, used) or (limit is not None and rate >= limit):
            self._before = None
