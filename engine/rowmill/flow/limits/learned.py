"""Which limit a server's headers describe: units, and the period that the headers leave out.

Theory. A bucket of L units that refills evenly over a period P, of which U are used, is full again in

    reset = U * P / L,   so   P = reset * L / U.

"limit 10000, remaining 9999, reset 8.64s" is 10,000 a day; "remaining 9999, reset 6ms" is 10,000 a minute. Both may
stand under the name "requests".

One sample does not say it exactly: `remaining` is a whole number, the reset is rounded to a millisecond or to a
second, up or down. So a sample gives an interval of P, and the samples together their intersection. The period is
known once exactly one of those that providers use lies in it, after several different samples over some seconds.
How old a sample is does not matter: the server wrote its three numbers at one moment.

A server that counts in fixed windows (all units come back at the window's end) has another arithmetic: its reset
falls while its use rises, until both start anew. The formula means nothing there, and yet gives the length of some
period now and then by chance. So a refill is believed only where reset and use were seen to move the same way at
least twice, which fixed windows never show. Servers that always write the same, or at random, fail the same test or
the intersection. Such limits are not learned; refusals alone then say how fast to go.
"""

from math import inf

import msgspec

from rowmill.core.leases import LimitSample

PERIODS = {1.0: "a second", 10.0: "every 10 seconds", 60.0: "a minute", 3600.0: "an hour", 86_400.0: "a day"}
LONG_S = 3600.0  # from here on what is left may be spent at any speed: see `day_budget`

_SAMPLES = 5  # different ones that must agree
_MOVES = 2  # pairs of them in which reset and use moved the same way
_SECONDS = 2.0  # that they must span
_MOST_SAMPLES = 400  # without a result after so many: begin anew
_TOLERANCE = 0.02  # for arithmetic that differs a little
_MS = 0.001


class Learned(msgspec.Struct, frozen=True):
    """A limit as the server's headers describe it."""

    limit: float  # units a period
    period_s: float

    def text(self, units: str) -> str:
        """Say it: `6,000 requests a minute`."""
        return f"{self.limit:,.10g} {units} {PERIODS[self.period_s]}"


class Evidence:
    """What the samples of one limit have in common so far."""

    def __init__(self) -> None:
        self._limit = 0.0
        self._low, self._high = 0.0, inf
        self._samples = 0
        self._moves = 0
        self._since = 0.0
        self._last: LimitSample | None = None

    def add(self, sample: LimitSample, now: float) -> Learned | None:
        """Take in a sample that was not seen before; return the limit once it is known, and again each time it is.

        A sample of a full bucket says nothing and changes nothing. One that contradicts the others begins anew.
        """
        used = sample.limit - sample.remaining
        if used <= 0 or sample.reset_s <= 0:
            return None
        low, high = _interval(sample, used)
        if sample.limit != self._limit or not _possible(max(low, self._low), min(high, self._high)):
            self._begin(sample.limit, now)
        self._low, self._high = max(low, self._low), min(high, self._high)
        found = _possible(self._low, self._high)
        if not found or self._samples >= _MOST_SAMPLES:
            self._begin(0.0, now)
            return None
        if (last := self._last) is not None:
            if sample == last:
                return None
            more = last.remaining - sample.remaining
            later = sample.reset_s - last.reset_s
            self._moves += more * later > 0
        self._last = sample
        self._samples += 1
        if len(found) > 1 or self._samples < _SAMPLES or self._moves < _MOVES or now - self._since < _SECONDS:
            return None
        self._begin(0.0, now)  # what comes next is judged by itself: a limit can change
        return Learned(sample.limit, found[0])

    def _begin(self, limit: float, now: float) -> None:
        self._limit = limit
        self._low, self._high = 0.0, inf
        self._samples = self._moves = 0
        self._since = now
        self._last = None


def _interval(sample: LimitSample, used: float) -> tuple[float, float]:
    """Return the shortest and the longest period that this sample can come from."""
    # Written in whole seconds, or by chance a whole number: the wider interval is right for both.
    rounding = 1.0 if sample.reset_s >= 1 and sample.reset_s.is_integer() else _MS
    low = max(sample.reset_s - rounding, 0.0) * sample.limit / (used + 1)
    high = (sample.reset_s + rounding) * sample.limit / (used - 1) if used > 1 else inf
    return low * (1 - _TOLERANCE), high * (1 + _TOLERANCE)


def _possible(low: float, high: float) -> list[float]:
    return [period for period in PERIODS if low <= period <= high]
