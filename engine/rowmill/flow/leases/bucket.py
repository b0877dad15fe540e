"""A token bucket: `rate` units a second flow in, at most `burst` of them are kept, a cost takes its units out.

It is the same rule as GCRA, the generic cell rate algorithm, whose one number, the theoretical arrival time, is the
time at which this bucket will be full: tat = at + (burst - credit) / rate. Source: ITU-T I.371, annex A, where both
forms are given as equivalent. The credit form is kept here because leases move credit from one bucket to another, and
because a rate may be 0, for which there is no arrival time.

A cost above the burst would never be allowed. It waits for a full bucket and then borrows: the credit falls below 0,
and everything after it waits until the debt is earned. So in any window of T seconds at most
`rate * T + max(burst, largest cost)` units are spent.
"""

import math

# A wait of less than a nanosecond is rounding: a caller that came back exactly when it was told to is let through.
_ROUNDING_S = 1e-9


class Bucket:
    """One paced quantity. Opens empty: a bucket that starts full opens with a burst."""

    __slots__ = ("_at", "_credit", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._credit = 0.0
        self._at = now  # when the credit was right; nothing is added between the calls

    def __repr__(self) -> str:
        return f"<{self.rate:g}/s, burst {self.burst:g}, credit {self._credit:g} at {self._at:g}>"

    def ready_at(self, cost: float, now: float) -> float:
        """Return when this cost may be spent: `now` for at once, `math.inf` where the rate is 0 and it never may."""
        credit = self._credit
        if cost <= credit:
            return now
        if self.rate <= 0.0:
            return math.inf  # nothing may be borrowed either: nobody would ever pay it back
        burst = self.burst
        # A call of min() takes as long as all the rest here, and this is asked once or twice for every request.
        due = self._at + ((cost if cost < burst else burst) - credit) / self.rate  # noqa: FURB136 - see above
        return due if due - now > _ROUNDING_S else now

    def spend(self, cost: float, now: float) -> None:
        """Take the cost out, whether it was allowed or not. A negative cost gives back; what is over the burst is lost.

        A time before that of the last call counts as the last call's.
        """
        if now > self._at:
            self._credit = min(self.burst, self._credit + (now - self._at) * self.rate)
            self._at = now
        self._credit = min(self.burst, self._credit - cost)

    def credit(self, now: float) -> float:
        """Return the units that may be spent at this time; below 0 it is a debt."""
        return min(self.burst, self._credit + max(0.0, now - self._at) * self.rate)

    def resize(self, rate: float, burst: float, now: float, credit: float = 0.0) -> float:
        """Go on with another rate and burst, and this credit (below 0: this debt) on top of what is there.

        Return the credit that this bucket does not keep: what is above the new burst; with a rate of 0 everything,
        a debt too, which it could never earn.
        """
        kept = self.credit(now) + credit
        left = kept if rate <= 0.0 else max(0.0, kept - burst)
        self.rate, self.burst = rate, burst
        self._credit = kept - left
        self._at = max(self._at, now)
        return left

    def lapse(self, ended: float, now: float) -> None:
        """Forget the credit: the right to it ended at `ended`, and nothing was earned since. A debt stays."""
        self._credit = min(0.0, self.credit(ended))
        self._at = max(self._at, now)
