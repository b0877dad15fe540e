"""A limit on a day or an hour: a full bucket of the whole period's worth, of which any part may go at any time.

What is left may be spent as fast as the limits a minute allow. But workers spend from leases, on what the supervisor
knew when it wrote them, so the rate that is handed out falls with what is left:

    rate = refill + left / TAU_S

Theory. Without delay, `left` decays like exp(-t / TAU_S): never below 0, and 99% are gone after five TAU_S. With a
delay D between a lease's knowledge and its spending, left'(t) = -left(t - D) / TAU_S, which stays above 0 as long as
D <= TAU_S / e (Gyori and Ladas, Oscillation Theory of Delay Differential Equations, 1991, theorem 2.2.3). D is at
most a lease's life of 3 s and a report's quarter of a second: so TAU_S is 9 s. Bursts are at most a quarter of what
is left, so that they fit into what the theorem leaves over.

A request is whole: below one, nothing is handed out. Tokens go in requests, and a request may take more than the
credit of its worker; so the budget of tokens ends one usual request early, and can still be overdrawn by the last
request of each worker.
"""

from rowmill.core.leases import LimitSample, Share

TAU_S = 9.0
_BURST_S = 0.25
_BURST_PART = 0.25  # of what is left
_NOTHING = 1e-6  # units a second: a rate of 0 could not be divided or waited for; this is one in eleven days
_SIZE_FADE = 0.9  # the usual size forgets a larger one in some tens of reports


class DayBudget:
    """One such bucket.

    limit: units a period; what comes back is `limit / period_s` a second.
    left: units, at the time of the last call; below 0 where it was overdrawn.
    """

    def __init__(self, limit: float, period_s: float, now: float) -> None:
        self.limit = limit
        self.left = limit
        self._refill = limit / period_s
        self._at = now
        self._size = 1.0  # units that one request takes
        self._earlier: list[tuple[float, float]] = []

    def __repr__(self) -> str:
        return f"<{self.left:.10g} of {self.limit:.10g} left, {self._size:g} a request>"

    def spent_before(self, units: float, when: float) -> None:
        """Debit what an earlier session spent until `when`. To be called before anything else, in any order."""
        self._earlier.append((when, units))
        # Replayed from a full bucket; all of a session counts at its end, when least of it has come back.
        earlier = sorted(self._earlier)
        left, at = self.limit, earlier[0][0]
        for then, spent in earlier:
            left = min(self.limit, left + (then - at) * self._refill) - spent
            at = then
        self.left = min(self.limit, left + max(0.0, self._at - at) * self._refill)

    def spent(self, units: float, requests: int, now: float) -> None:
        """Debit what was sent, in so many requests."""
        self._move(now)
        self.left = min(self.limit, self.left - units)
        if requests > 0:
            self._size = max(1.0, units / requests, self._size * _SIZE_FADE)

    def said(self, sample: LimitSample, unseen: float, now: float) -> None:
        """Believe the server on how much is left; `unseen` units at most were sent since it wrote that.

        Others may spend from the same bucket, so less than expected is believed at once; more only as far as it
        cannot come from the sample's age.
        """
        self._move(now)
        self.left = max(min(self.left, sample.remaining), sample.remaining - max(unseen, 0.0))

    def share(self, now: float) -> Share:
        """Return the rate and the burst that all workers together may have now."""
        self._move(now)
        whole = self._size if self._size > 1 else 0.0  # requests are counted down to the last one
        left = self.left - whole
        if left < 1:
            return Share(_NOTHING, 1.0)
        rate = self._refill + left / TAU_S
        return Share(rate, max(1.0, min(rate * _BURST_S, left * _BURST_PART)))

    def _move(self, now: float) -> None:
        if now > self._at:
            self.left = min(self.limit, self.left + (now - self._at) * self._refill)
            self._at = now
