"""How many requests one provider may have in flight, over all workers: the number found, and what takes it back.

- With `auto`, `search` finds the number from the goodput; without, the user's number is a ceiling.
- Losses (429, 503, 529, timeouts, resets) are TCP's congestion signal (Jacobson 1988). They count once in a reply
  time: what was in flight comes back late. Growth back to the former number is fast, and beyond it slow, as in CUBIC
  (RFC 9438); goodput decides nothing meanwhile. A share of random faults is no congestion: where fewer in flight change
  nothing in it (`losses`), the number is at once what it was.
- A release after silence doubles from little, as slow start does (RFC 5681), so that a provider which has just
  recovered meets no stampede.
- Growth only while what is allowed is used (Netflix concurrency-limits): with rows waiting for slots, and not for the
  rate. Where the two bind in turn a little headroom is added, since what the one withholds the other cannot make up.
"""

from math import ceil, exp, log
from typing import Literal

import msgspec

from rowmill.flow.concurrency.goodput import Recent
from rowmill.flow.concurrency.losses import Losses
from rowmill.flow.concurrency.search import Search

_START = 8

_SHRINK = 0.7
_DRAINED = 1.1  # of the limit: with more in flight, what was sent before the latest shrink is not back
_LEAST_QUIET_S = 0.5  # after a shrink; otherwise one mean reply time, or as long as it takes to be lost
_LONGEST_TIMEOUT_S = 30.0  # that is waited for
_FAST = 1.3  # each reply time, back to the former number
_NEARLY_FORMER = 0.93  # the former number itself is where losses began
_FIRST_GAIN = 0.02  # beyond it, each reply time; grows while nothing is lost
_GAIN_GROWTH = 1.5
_LARGEST_GAIN = 0.25
_PATIENCE_S = 1.0  # before the next growth beyond, once that has brought losses; doubles
_LONGEST_PATIENCE_S = 15.0

_EDGE_S = 2.0
_EDGE_SHARE = 0.1  # of the time
_HEADROOM = 1.15
_MOST_HEADROOM = 1.5  # of what was found

_SHORTEST_RAMP_S = 0.25  # pauses of milliseconds are ordinary, and no ramp
_RAMP_START = 16  # a part of the limit, ...
_RAMP_LEAST = 2  # ... and this at least

_LONGEST_TICK_S = 1.0  # of what a call counts as: in a pause nothing is told


class _Ramp(msgspec.Struct, frozen=True):
    """A gradual release: doubles at equal times from `first` on."""

    since: float
    seconds: float
    first: int

    def limit(self, now: float, goal: int) -> int:
        """Return what may be in flight now, on the way to the goal."""
        part = min(1.0, (now - self.since) / self.seconds)
        return max(self.first, min(goal, round(self.first * exp(part * log(goal / self.first)))))


class Concurrency:
    """The number of requests in flight that one provider may have, over all workers."""

    def __init__(self, *, auto: bool, ceiling: int, floor: int = 1, now: float) -> None:
        """With `auto` the number is found; without, it is the ceiling, and only losses lower it."""
        ceiling = max(floor, ceiling)
        self._auto = auto
        self._recent = Recent()
        self._losses = Losses()
        self._search = Search(
            min(max(floor, _START), ceiling) if auto else ceiling, floor=floor, ceiling=ceiling, recent=self._recent
        )
        self._at = now
        self._regrowing = False
        self._starting = False  # slow start was under way at the first of these losses
        self._former = ceiling  # where losses began
        self._gain = _FIRST_GAIN
        self._patience_s = _PATIENCE_S
        self._shrunk = False  # and not grown since
        self._quiet_until = now  # losses until then are late news
        self._grow_at = now
        self._edge_s = self._busy_s = self._paced_s = 0.0
        self._ramp: _Ramp | None = None

    def __repr__(self) -> str:
        return f"<{self.limit} of {self._search.ceiling}: {self.phase}>"

    @property
    def limit(self) -> int:
        """Requests that may be in flight, as of the last call."""
        found = self._search.limit
        return found if self._ramp is None else min(found, self._ramp.limit(self._at, found))

    @property
    def phase(self) -> Literal["slow start", "steady", "probe", "regrow", "ramp"]:
        """What it is at: the search's phase, on the way back after losses, or released gradually."""
        if self._ramp is not None:
            return "ramp"
        return "regrow" if self._regrowing else self._search.phase

    def set_ceiling(self, ceiling: int) -> None:
        """Allow so many at most from now on."""
        search = self._search
        full = not self._auto and search.limit == search.ceiling
        search.set_ceiling(ceiling, self._at)
        if full and search.limit < search.ceiling:
            search.settle(search.ceiling)

    def expect(self, limit: int, now: float) -> None:
        """Go straight to this number, if it is more: what a known rate takes by Little's law.

        Only near the start and with `auto`. Who knows the rate that a provider lets through need not find out by
        doubling, at a second a step, how many requests use it up.
        """
        if self._auto and not self._regrowing and self._search.phase != "probe" and self._search.limit < limit:
            self.pause(now)
            self._search.settle(min(limit, self._search.ceiling))

    def pause(self, now: float) -> None:
        """Forget the epoch under way: the provider is paused."""
        self._at = now
        self._search.renew()

    def beginning(self, over_s: float) -> int:
        """Return how many may be in flight when a release over about so many seconds begins."""
        limit = self._search.limit
        return limit if over_s < _SHORTEST_RAMP_S else min(limit, max(_RAMP_LEAST, limit // _RAMP_START))

    def restart(self, now: float, over_s: float) -> None:
        """Begin a gradual release, back to the full limit within about so many seconds."""
        self.pause(now)
        if over_s < _SHORTEST_RAMP_S:
            return
        self._search.abandon()
        first = self.beginning(over_s)
        self._ramp = _Ramp(now, over_s, first) if first < self._search.limit else None

    def update(
        self, now: float, *, answered: int, lost: int, reply_s: float, in_flight: int, busy: bool, paced: bool
    ) -> None:
        """Take in what has happened since the last call, and decide. Called about four times a second.

        answered, reply_s: valid replies, and the seconds that they took together. lost: 429, 503, 529, timeouts,
        resets. in_flight: requests now. busy: (nearly) all that is allowed was in use, and more rows waited for it.
        paced: rows waited for something else than slots, as the rate.
        """
        seconds, self._at = min(_LONGEST_TICK_S, now - self._at), now
        self._recent.add(seconds, answered, reply_s, in_flight)
        late = now < self._quiet_until or in_flight > _DRAINED * self.limit + 1
        self._losses.add(seconds, answered, lost, self._recent.mean_reply_s, in_flight, late=late)
        if self._losses.verdict() == "chance":
            self._undo(now)
            return
        starting = self._auto and not self._regrowing and self._search.phase == "slow start"
        if self._losses.burst(starting=starting):
            self._shrink(now)
            return
        if self._ramp is not None:
            if now >= self._ramp.since + self._ramp.seconds:
                self._ramp = None
                self._search.renew()
            return
        self._make_headroom(seconds, busy=busy, paced=paced)
        used = busy and not paced
        if self._regrowing:
            if used and now >= self._grow_at and not self._losses.waits(now):
                self._regrow(now)
        elif self._auto:
            self._search.measure(now, seconds, answered, reply_s, in_flight, used=used)

    def _shrink(self, now: float) -> None:
        released = self._ramp is not None
        at, found, self._ramp = self.limit, self._search.limit, None
        reply_s = self._recent.mean_reply_s
        quiet_s = max(_LEAST_QUIET_S, reply_s, min(self._losses.took_s(reply_s), _LONGEST_TIMEOUT_S))
        self._quiet_until = now + quiet_s
        self._grow_at = now + 2 * quiet_s
        if self._search.probes_up:
            self._losses.forget()
            self._search.reject(now)  # the step up is what brought them
            return
        if self._gain > _FIRST_GAIN:
            # Likewise: the growth beyond the former number is a probe.
            self._losses.forget()
            self._gain = _FIRST_GAIN
            self._patience_s = min(_LONGEST_PATIENCE_S, 2 * self._patience_s)
            self._grow_at = now + self._patience_s
            self._former = found
            self._search.settle(int(found * _NEARLY_FORMER))
            return
        if not self._shrunk:  # otherwise it is the same trouble still
            self._former = max(found, self._former) if self._losses.checking else found
            self._starting |= self._search.phase == "slow start"
        used = min(at, max(self._recent.peak, at // 2))  # to shrink what is not in use would change nothing
        if not released:
            self._losses.check(now + quiet_s, reply_s, used)
        self._losses.forget()
        self._search.settle(int(used * _SHRINK))
        self._gain = _FIRST_GAIN
        self._regrowing = self._shrunk = True

    def _undo(self, now: float) -> None:
        """Go back to the number before the losses, which come at random."""
        self._losses.forget()
        self._shrunk = False
        self._grow_at = now + max(_LEAST_QUIET_S, self._recent.mean_reply_s)
        search = self._search
        number = min(search.ceiling, max(search.limit, self._former))
        if self._starting:
            search.start(number)
        else:
            search.settle(number)
        self._starting = False
        self._regrowing = not self._auto and number < search.ceiling

    def _regrow(self, now: float) -> None:
        self._grow_at = now + max(_LEAST_QUIET_S, self._recent.mean_reply_s)
        self._shrunk = False
        search = self._search
        goal = min(search.ceiling, ceil(self._former * _NEARLY_FORMER))
        if search.limit < goal:
            search.settle(min(goal, search.times(_FAST)))
        elif self._auto or search.limit >= search.ceiling:
            self._regrowing = False
            if self._starting and self._losses.checking:
                search.start(search.limit)
            else:
                search.settle(search.limit)
            self._starting = False
        else:
            search.settle(search.times(1 + self._gain))
            self._gain *= _GAIN_GROWTH
            if self._gain > _LARGEST_GAIN:
                self._gain = _LARGEST_GAIN
                self._patience_s = _PATIENCE_S

    def _make_headroom(self, seconds: float, *, busy: bool, paced: bool) -> None:
        """Grow a little where slots and rate bind in turn."""
        self._edge_s += seconds
        self._busy_s += seconds * busy
        self._paced_s += seconds * paced
        if self._edge_s < max(_EDGE_S, 2 * self._recent.mean_reply_s):
            return
        both = min(self._busy_s, self._paced_s) >= _EDGE_SHARE * self._edge_s
        self._edge_s = self._busy_s = self._paced_s = 0.0
        if both:
            self._search.widen(_HEADROOM, at_most=_MOST_HEADROOM)
