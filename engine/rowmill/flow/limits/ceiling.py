"""What to send at most to a provider that refuses although every known limit is kept: found out by trying.

Theory, after TCP CUBIC (RFC 9438). A burst of refusals says that the provider took all that it takes: that rate, as
measured, is the plateau. The ceiling goes a little below it, comes back to it ever more slowly, stays near it for
some ten seconds, and then climbs ever faster, so that a limit that was raised is found within a minute:

    ceiling(t) = plateau * (1 + DROP * ((t / RETURN_S - 1) ** 3))

The cut is small because the plateau is measured, not guessed: TCP has to halve since it does not know what passed.
A provider with a linear refill is kept at its limit in this way, at the cost of one or two refusals in a hundred.

Outages. Less than half of the ceiling is taken, which says nothing of the plateau. Each burst then halves the
ceiling, down to a probe every few seconds. Afterwards it doubles every two seconds up to the old plateau, whose
memory fades with time, and is halved where part of what is sent is refused again.

Noise. Some servers refuse a share of requests whatever the rate. To follow that would go down for ever, since what
is taken is always less than what is sent. But a real limit refuses nothing once it is kept. So where refusals go on
as before although the rate has fallen, the fall is undone, and only more refusals than those lower the rate again.
Where there was no ceiling before, there is none again.

Known gaps: a random share above a half is taken for an outage. A server that also bursts less than a second's worth
loses up to a tenth at rates of one a second and below, where a single refusal is a large share.
"""

from math import exp2, log, log2

_DROP = 0.05
_RETURN_S = (10.0, 60.0)
_RETURN_REQUESTS = 80.0  # as many at least: with fewer it is not known what was taken
_BURST_S = 1.5  # refusals within it are one burst: a new lease takes a second to reach every worker
_SETTLED_S = 4.0  # after a burst; before, the last two seconds still have a part of it
_CLEARLY_BELOW = 0.98
_MOST_NOISE = 0.15  # a share of refusals as large as this is followed at once, whatever it may turn out to be
_MOST_STRAY = 0.25  # and of the first burst of all, which may be a few requests
_SERIES_S = 8.0  # bursts that come faster are a series
_FAR_BELOW = 0.6  # of where the series began, ...
_AS_BAD = 0.7  # ... and still this much of its worst share is refused: the rate is not the reason
_OVER_NOISE = 2.0  # times the noise, ...
_FEW = 0.01  # ... and this share more: a burst
_FIRST = 0.05  # of what is sent without a ceiling: if less than this is taken, it says nothing of what could be
_SOME = 0.1  # of what is sent: if this is taken, it is no outage
_PROBE = 12.0  # times the floor: what is still sent in an outage
_DOUBLING_S = 2.0
_DOUBLING_REQUESTS = 3.0
_FLOOR_S = 60.0  # the floor is one request in so many seconds
_FADE_S = 120.0  # the plateau's memory halves in an outage
GONE = 2.0  # times what is used: a ceiling this high holds nothing back


class Ceiling:
    """A ceiling on one rate, in units a second; none as long as nothing was refused."""

    def __init__(self, floor: float) -> None:
        """Never go below `floor` units a second."""
        self._floor = floor
        self._plateau: float | None = None  # None: there is no ceiling
        self._from = 0.0  # where it started after the latest burst
        self.changed_at = float("-inf")  # when that was
        self._before = 0.0  # where it was until then
        self._free = False  # whether there was none until then, and it may all be noise
        self.held = False  # everybody was held by a refusal
        self._share = 0.0  # of what was sent was refused then
        self._first = 0.0  # where it was before the first of a series of bursts
        self._worst = 0.0  # of the shares in that series
        self._noise = 0.0  # share of refusals that no lower rate prevents
        self._noisy = False  # whether that was seen since the latest burst

    def __repr__(self) -> str:
        if self._plateau is None:
            return "<none>"
        return f"<from {self._from:g} at {self.changed_at:g} to {self._plateau:g}, noise {self._noise:.0%}>"

    def rate(self, now: float) -> float | None:
        """Return the ceiling, None where there is none."""
        if self._plateau is None:
            return None
        since = now - self.changed_at
        low = self._plateau * (1 - _DROP)
        if self._from < low:
            one = self._floor * _FLOOR_S
            climb_s = _climb_s(self._from, low, one)
            if since < climb_s:
                return min(_climbed(self._from, since, one), low)
            since -= climb_s
        shortest, longest = _RETURN_S
        away = since / max(shortest, min(longest, _RETURN_REQUESTS * self._floor * _FLOOR_S / self._plateau)) - 1
        return self._plateau * (1 + _DROP * away * away * away)

    def refused(self, taken: float, sent: float, now: float) -> None:
        """Follow refusals: `taken` is the rate that was let through lately, `sent` the one that was tried."""
        since = now - self.changed_at
        if since < _BURST_S:
            return
        share = 1 - taken / sent if sent > 0 else 0.0
        current = self.rate(now)
        free = share < _MOST_NOISE and self._free
        if current is None or self._plateau is None:
            if share <= self._noise * _OVER_NOISE + _FEW and self._noise:
                return
            free = share < _MOST_STRAY
            current = max(sent, self._floor)
            if taken >= sent * _FIRST:
                self._start(taken, taken, now)
            else:
                self._start(current, current / 2, now)
        elif current < self._plateau * (1 - _DROP):
            # It climbs back, so what is taken follows what is sent: what would be taken is somewhere between.
            if taken >= current / 2:
                self._start(max(taken, self._plateau / 2), taken, now)
            else:
                self._halve(current, taken >= sent * _SOME, since, now)
        elif share < _MOST_NOISE and self._is_noise(share, current, since, now):
            return
        elif taken < current / 2:
            self._halve(current, False, since, now)
        elif since < _SERIES_S and current < self._first * _FAR_BELOW and share > self._worst * _AS_BAD:
            self._restore(self._first, share, now)
            return
        else:
            self._start(taken, taken, now)
        if since > _SERIES_S:
            self._first, self._worst = current, 0.0
        self._worst = max(self._worst, share)
        self._before = current
        self._free = free
        self._share = share
        if not self._noisy:
            self._noise /= 2
        self._noisy = False

    def _start(self, plateau: float, taken: float, now: float) -> None:
        self._plateau = max(plateau, self._floor)
        self._from = max(taken * (1 - _DROP), self._floor)
        self.changed_at = now

    def _halve(self, current: float, some: bool, since: float, now: float) -> None:
        assert self._plateau is not None
        plateau = max(self._plateau * (0.5 if some else exp2(-since / _FADE_S)), self._floor)
        probe = min(_PROBE * self._floor, plateau * _FIRST)
        self._start(plateau, max(current / 2, probe), now)

    def _is_noise(self, share: float, current: float, since: float, now: float) -> bool:
        """Tell whether to ignore so few refusals; undoes the latest cut where it has not prevented them."""
        if since < _SETTLED_S:
            return True
        if current >= self._before * _CLEARLY_BELOW:
            return share <= self._noise * _OVER_NOISE + _FEW
        if share < self._share / 2:
            return False
        self._restore(self._before, share, now)
        if self._free:
            # What was sent until then was no more than a run had come to, and may have been little.
            self._plateau = None
        return True

    def _restore(self, rate: float, share: float, now: float) -> None:
        self._noise = max(self._noise, share)
        self._noisy = True
        self._start(rate, rate, now)

    def paces(self) -> None:
        """Take note that refusals hold everybody while there is a ceiling: they are no noise."""
        self._free = False
        self.held = True

    def stands_alone(self) -> None:
        """Take note of a refusal that holds nobody: what was let through while each did is no plateau."""
        if self.held:
            self.held = False
            self._plateau = None

    def relax(self, used: float, limit: float | None, now: float) -> None:
        """Drop a ceiling that no longer holds anything back: far above what is used, or above the known limit."""
        rate = self.rate(now)
        if self._plateau is None or rate is None:
            return
        if rate > GONE * max(self._plateau, used) or (limit is not None and rate >= limit):
            self._plateau = None


def _climb_s(start: float, end: float, one: float) -> float:
    """Return how long `_climbed` takes from one rate to another."""
    fast = min(max(start, _DOUBLING_REQUESTS / _DOUBLING_S * one), end)
    return _SETTLED_S + (1 / start - 1 / fast) * one * _DOUBLING_REQUESTS / log(2) + _DOUBLING_S * log2(end / fast)


def _climbed(start: float, since: float, one: float) -> float:
    """Return the rate so long after an outage's last refusal.

    It doubles every two seconds; but not before three requests have passed at the rate as it is, or a provider that
    allows few a minute would be overrun. `one`: units of a request.
    """
    since = max(0.0, since - _SETTLED_S)
    fast = max(start, _DOUBLING_REQUESTS / _DOUBLING_S * one)
    slow_s = (1 / start - 1 / fast) * one * _DOUBLING_REQUESTS / log(2)
    if since < slow_s:  # rate' = ln 2 / (3 requests) * rate**2
        return 1 / (1 / start - since * log(2) / _DOUBLING_REQUESTS / one)
    return fast * exp2((since - slow_s) / _DOUBLING_S)
