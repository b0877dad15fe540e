"""One limit of one provider, divided: what each holder is to have, what it may be given now, and the pool.

The pool is what nobody holds: a bucket with the rate and the burst that are not outstanding. Credit moves between it
and the holders and is never made: what a shrinking holder gives back goes in, grants come out. So all buckets together
hold what one bucket of the whole limit would hold, or less: what is lost on the way (a dead holder's credit, what would
have been earned while a message travels) is lost, never found twice. A debt is passed on whole for the same reason.
"""

from collections.abc import Iterable, Sequence

from rowmill.core.leases import Share
from rowmill.flow.leases.bucket import Bucket
from rowmill.flow.leases.holder import Allocation
from rowmill.flow.leases.max_min import water_fill

# A holder that is not hungry gets what it used lately, and so much more before it has to ask.
_HEADROOM = 1.25
_LITTLE = 0.01  # of a fair share
# A hungry one may have so many times what it had: its fair share within three divisions, if it really uses it. One that
# had to wait once by chance takes no fair share from those that use theirs up.
_RAMP = 4.0
_BINDING = 0.5  # of its share: who used less did not wait for this limit, and keeps so much of it
_DUST = 1e-6  # units: a smaller debt is rounding and waits for company
_ROUNDING = 1e-9


class LimitShares:
    """The limit's capacity, and the pool."""

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self.burst = 0.0
        self._pool = Bucket(0.0, 0.0, now)
        self._owed = 0.0  # at most 0: a debt that came back while the pool itself had no rate to earn it with

    def __repr__(self) -> str:
        return f"<{self.rate:g}/s, burst {self.burst:g}, pool {self._pool}, owed {abs(self._owed):g}>"

    def free(self, allocations: Iterable[Allocation]) -> tuple[float, float]:
        """Return the rate and the burst that are not outstanding."""
        rate = burst = 0.0
        for allocation in allocations:
            rate += allocation.rate
            burst += allocation.burst
        return max(0.0, self.rate - rate), max(0.0, self.burst - burst)

    def settle(self, allocations: Iterable[Allocation], now: float, credit: float = 0.0) -> None:
        """Make the pool what is not outstanding now, with this credit (below 0: this debt) handed back to it."""
        left = self._pool.resize(*self.free(allocations), now, self._owed + credit)
        self._owed = min(0.0, left)

    def divide(self, active: Sequence[Allocation], idle: Iterable[Allocation], away: Iterable[Allocation]) -> None:
        """Decide what everyone is to have: the active ones everything, but for what the ones away may still use."""
        for allocation in idle:
            allocation.goal_rate = allocation.goal_burst = 0.0
        rate, burst = self.free(away)
        if not active or rate <= 0.0 or burst <= 0.0:
            for allocation in active:
                allocation.goal_rate = allocation.goal_burst = 0.0
            return
        wants = [_want(allocation, rate, rate / len(active)) for allocation in active]
        rates = water_fill(rate, wants, [allocation.hungry for allocation in active])
        costs = sum(allocation.cost for allocation in active)
        # Everyone's burst lets its largest request through; the rest of the burst goes with the rate.
        part = min(1.0, burst / costs)
        rest = max(0.0, burst - costs)
        for allocation, given in zip(active, rates, strict=True):
            allocation.goal_rate = given
            allocation.goal_burst = allocation.cost * part + rest * given / rate

    def cut(self, living: Sequence[Allocation], allocations: Iterable[Allocation], now: float) -> list[Share]:
        """Return the next share of each of the living, with the pool's credit in them.

        Shrinks go at once. What others may still believe they have is not given to anyone: growth is out of what is
        free, first come first served. A share with credit in it has to be sent.
        """
        free_rate, free_burst = self.free(allocations)
        whole_burst = free_burst
        credit = self._pool.credit(now) + self._owed
        parts: list[tuple[float, float, float]] = []  # rate, burst, growth of the burst
        for allocation in living:
            rate, burst = _grown(allocation, free_rate, free_burst)
            more = max(0.0, burst - allocation.burst)
            free_rate = max(0.0, free_rate - max(0.0, rate - allocation.rate))
            free_burst = max(0.0, free_burst - more)
            parts.append((rate, burst, more))
        if credit > 0:
            grants = [credit * more / whole_burst if more > 0 else 0.0 for _, _, more in parts]
        elif credit < -_DUST and (rates := sum(rate for rate, _, _ in parts)) > 0:
            grants = [credit * rate / rates for rate, _, _ in parts]
        else:
            grants = [0.0] * len(parts)
        self._take(sum(grants), now)
        return [Share(rate, burst, grant) for (rate, burst, _), grant in zip(parts, grants, strict=True)]

    def _take(self, credit: float, now: float) -> None:
        if credit > 0:
            self._pool.spend(credit, now)
        elif credit < 0:
            # A debt goes whole.
            self._pool.spend(self._pool.credit(now), now)
            self._owed = 0.0


def _want(allocation: Allocation, whole: float, fair: float) -> float:
    enough = allocation.lately * allocation.grows * _HEADROOM + fair * _LITTLE
    if not allocation.hungry:
        return enough
    if allocation.used < _BINDING * allocation.rate:
        return max(enough, _BINDING * allocation.rate)
    return min(whole, max(enough, _RAMP * max(allocation.used, allocation.rate, fair / _RAMP**2)))


def _grown(allocation: Allocation, free_rate: float, free_burst: float) -> tuple[float, float]:
    """Return the rate and the burst that this allocation can have now."""
    rate, burst = min(allocation.goal_rate, allocation.rate), min(allocation.goal_burst, allocation.burst)
    new_rate = _towards(allocation.goal_rate, rate, free_rate)
    new_burst = _towards(allocation.goal_burst, burst, free_burst)
    # A piece of a burst that is smaller than a request is full too early: the request would borrow the rest, which may
    # still be with others. The pool keeps it, and what it earns, until there is enough.
    least = min(allocation.goal_burst, allocation.cost) * (1 - _ROUNDING)
    if new_rate > 0.0 and new_burst > 0.0 and new_burst >= least:
        return new_rate, new_burst
    return (rate, burst) if rate > 0.0 and burst > 0.0 else (0.0, 0.0)


def _towards(goal: float, value: float, free: float) -> float:
    missing = goal - value
    if missing <= goal * _ROUNDING:
        return value
    return goal if missing <= free * (1 + _ROUNDING) else value + free
