"""The silence that a provider asks for, by a 429 with Retry-After."""

_NEWS_S = 0.01  # a pause is so much longer than asked for: another that ends hardly later is no news to everybody


class Pause:
    """The pauses of one provider, one after another. Any may be made longer while it lasts.

    active: one has begun, and nobody has looked since its end.
    until: when the latest ends, or has ended.
    """

    def __init__(self, now: float) -> None:
        self.active = False
        self.until = 0.0
        self._since = now  # of the latest
        self._passed_s = 0.0  # of any, not asked for yet, ...
        self._passed_at = now  # ... up to here

    def __repr__(self) -> str:
        return f"<paused from {self._since:g} to {self.until:g}>" if self.active else "<not paused>"

    @property
    def length_s(self) -> float:
        """From the beginning of the latest to its end."""
        return self.until - self._since

    def extend(self, wait_s: float, now: float) -> bool:
        """Pause for so long from now on; False where that is no news."""
        if now + wait_s <= self.until:
            return False
        self._pass(now)
        if now > self.until:
            self._since = now
        self.active = True
        self.until = now + wait_s + _NEWS_S
        return True

    def ends(self, now: float) -> bool:
        """Look whether its time has come; True once."""
        over = self.active and now >= self.until
        self.active = self.active and not over
        return over

    def passed_s(self, now: float) -> float:
        """Return the seconds of pauses that have passed since the last call."""
        self._pass(now)
        passed_s, self._passed_s = self._passed_s, 0.0
        return passed_s

    def _pass(self, now: float) -> None:
        self._passed_s += max(0.0, min(now, self.until) - self._passed_at)
        self._passed_at = now
