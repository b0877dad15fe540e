"""The search for the number of requests in flight beyond which more brings no more.

Theory. Little's law ties three means together: in flight = goodput x reply time. A server with room answers twice as
many requests a second when twice as many are in flight; one that is full answers no more of them, only later. So what
tells is the elasticity of the goodput: by how many percent it rises when one percent more is in flight. It is 1 with
room, 0 where requests only queue (vLLM and llama.cpp queue without end and never refuse), below 0 past a knee.
Reply time alone tells nothing, since it follows the length of the output. Only adjacent epochs are compared
(`goodput.Epoch`), so that lengths which drift over the run decide nothing.

- Slow start, as TCP's (RFC 5681): double while doubling nearly doubles the goodput; grow by less while it brings less;
  then go straight to where Little's law says that the server was full. A server of K slots is full at K, its goodput
  says so at 1.33 K, and the next step from there ends at 2 K. The very first step is small: its epoch has no other to
  be compared with, and a server of 4 slots must not get 16 requests. If it brings nothing, even the first number may
  have been too many, and the search halves.
- Then hill climbing: a probe up is kept if the goodput rose by at least a fifth of the step, a probe down if less than
  that was lost. Rejected probes come at longer and longer intervals; a goodput that shifts shortens them.

Chance: the mean of n reply times is off by about their spread / sqrt(n), so each verdict asks how sure it can be. What
is clear is decided early, and where few replies tell, rather a little less is in flight than ever more.

Sources: Little, "A proof for the queuing formula L = lambda W", 1961; RFC 5681; Netflix concurrency-limits.
"""

from typing import Literal

import msgspec

from rowmill.flow.concurrency.goodput import Epoch, Recent, noise

_FIRST_STEP = 1.4
_FEW_REPLIES = 16
_SLOW_START_REPLIES = 32
_UNDECIDED_REPLIES = 128
_NEARLY_ALL = 0.75  # elasticity from which on the server has room: double
_SOME = 0.4  # from here on it may have: grow by the first step
_ABOVE_FULL = 1.1  # of the number at which the server was full: a few waiting requests keep its slots from idling

_WORTH = 0.2  # elasticity below which more in flight brings only queueing
_STEP = 1.25
_SMALL_STEP = 1.12  # the large one can step over the whole top of a knee
_WORTH_SMALL = 0.5
_EARLY_REPLIES = 50
_FIRST_INTERVAL_S = 2.0
_LENGTHENING = 2.0
_LONGEST_INTERVAL_S = 15.0  # two of three probes go up, so one of them comes every 30 s at least
_QUICK_REPLY_S = 1.0  # slower servers need longer probes, so the intervals stretch with the reply time
_FREE = 2  # probes up in a row that found room: on to larger steps, and to slow start again
_SHIFT = 0.2  # change of the goodput at one and the same limit that makes the old findings worthless
_LATE = 8.0  # a probe whose replies take so many mean reply times has failed
_LATE_S = 30.0
_UNUSED_S = 1.0  # not in use for longer, and for more than this share: what was measured says nothing
_UNUSED_SHARE = 0.3


class _Probe(msgspec.Struct, frozen=True):
    factor: float
    replies: int
    worth: float  # elasticity that keeps a step up, or that a step down may lose


_PROBES = (_Probe(_STEP, 200, _WORTH), _Probe(1 / _STEP, 200, _WORTH), _Probe(_SMALL_STEP, 400, _WORTH_SMALL))
_UP, _DOWN = 0, 1


class Search:
    """Hill climbing on the goodput of one provider.

    limit: requests in flight to be measured now. phase: "slow start"; "steady": at the number found; "probe": at
    another one. ceiling: never above it.
    """

    def __init__(self, limit: int, *, floor: int, ceiling: int, recent: Recent) -> None:
        """`recent` is the caller's, who keeps it up to date: it says how long replies take."""
        self.limit = limit
        self.ceiling = ceiling
        self.phase: Literal["slow start", "steady", "probe"] = "slow start"
        self._floor = floor
        self._recent = recent
        self._found = limit  # the latest limit that was not mere headroom
        self._epoch = Epoch(limit, settle_s=0.0)
        self._base: Epoch | None = None  # the epoch before, at the limit that a step left
        self._usual: Epoch | None = None  # the epoch before, at the same limit
        self._grown = False  # slow start has found that more in flight brings more
        self._full_before = False  # on its way down, that less brings as much
        self._next = 0  # the probe that comes next
        self._calm = 0  # probes rejected in a row
        self._free = 0  # probes up in a row after which the server still had room
        self._steep = False  # the coarse step up lost goodput: only the small one from now on
        self._probe_at = 0.0
        self._step_s = 0.0  # since the last step

    def __repr__(self) -> str:
        return f"<{self.phase} at {self.limit}, found {self._found}, next probe {_PROBES[self._next].factor:g}>"

    @property
    def probes_up(self) -> bool:
        """Whether more is tried than what has proved itself."""
        return self.phase == "probe" and self._base is not None and self._base.limit < self.limit

    def set_ceiling(self, ceiling: int, now: float) -> None:
        """Stay below another ceiling; a higher one is worth a probe soon."""
        if ceiling > self.ceiling:
            if self.phase == "probe":
                self.abandon()
            self._calm = self._next = 0
            self._probe_at = now
        self.ceiling = max(self._floor, ceiling)
        if self.limit > self.ceiling:
            self.settle(self.ceiling)

    def settle(self, limit: int) -> None:
        """Measure at this limit, comparing it with no other one."""
        self.phase = "steady"
        self._base = None
        self._set(limit)

    def start(self, limit: int) -> None:
        """Go on with slow start from this number, which is compared with no other one."""
        self.settle(limit)
        self.phase = "slow start"

    def times(self, factor: float) -> int:
        """Return the limit times the factor; at least one more, or less, where the bounds allow it."""
        if factor > 1:
            return min(self.ceiling, max(self.limit + 1, round(self.limit * factor)))
        return max(self._floor, min(self.limit - 1, round(self.limit * factor)))

    def widen(self, factor: float, *, at_most: float) -> None:
        """Add headroom without proof, up to so many times what was found; not while something is tried."""
        found = self._found
        wider = min(self.times(factor), int(found * at_most))
        if wider > self.limit and self.phase != "probe":
            self._set(wider)
            self._found = found

    def renew(self, reply_times: float = 1.0) -> None:
        """Begin a new epoch: what is in flight now, and for so many reply times, tells nothing."""
        self._epoch = Epoch(self.limit, settle_s=reply_times * self._recent.mean_reply_s)
        self._usual = None

    def abandon(self) -> None:
        """Leave the comparison under way: its other half would be of another time."""
        if self._base is None:
            self.renew()
        elif self.phase == "probe":
            self.settle(self._base.limit)
        else:
            # The last step was not judged. Going on from there could overshoot: first see whether less does.
            self.settle(self.limit)
            self._next = _DOWN
            self._calm = 0

    def reject(self, now: float) -> None:
        """Go back to the number before the step; the next probe is another one, and later."""
        assert self._base is not None, "nothing is being tried"
        self.settle(self._base.limit)
        self._next = (self._next + 1) % len(_PROBES)
        self._calm += 1
        waited = self._calm - len(_PROBES)  # the first round comes without waiting
        interval = 0.0 if waited < 0 else min(_LONGEST_INTERVAL_S, _FIRST_INTERVAL_S * _LENGTHENING**waited)
        self._probe_at = now + interval * max(1.0, self._recent.mean_reply_s / _QUICK_REPLY_S)
        self._free = 0

    def measure(self, now: float, seconds: float, answered: int, reply_s: float, in_flight: int, *, used: bool) -> None:
        """Take in what has happened in the last so many seconds, and decide where an epoch is complete.

        answered, reply_s: valid replies, and the seconds that they took together. used: slots are what limits.
        """
        epoch = self._epoch
        epoch.used_s += seconds * used
        epoch.unused_s += seconds * (not used)
        often = epoch.unused_s > _UNUSED_SHARE * (epoch.used_s + epoch.unused_s)
        if often and epoch.unused_s > max(_UNUSED_S, self._recent.mean_reply_s):
            self.abandon()
            return
        if often or not used:
            return
        epoch.add(seconds, answered, reply_s, in_flight)
        self._step_s += seconds
        base = self._base
        if base is not None and self._step_s > _LATE_S + _LATE * base.mean_reply_s:
            self.reject(now)
        elif self.phase == "slow start":
            if epoch.complete(_SLOW_START_REPLIES if base is None else _FEW_REPLIES, 0.5, 1.0):
                self._judge_start(epoch, base)
        elif base is None:
            if epoch.complete(_PROBES[self._next].replies // 2, 1.0, 2.0):
                self._judge_steady(epoch, now)
        elif epoch.complete(_EARLY_REPLIES, 0.5, 1.0):
            self._judge_probe(epoch, base, now)

    def _judge_start(self, epoch: Epoch, base: Epoch | None) -> None:
        if base is None:
            if epoch.limit >= self.ceiling:
                self.settle(epoch.limit)
            else:
                self._step(epoch, _FIRST_STEP)
            return
        gain = epoch.elasticity(base)
        too_much = epoch.limit > base.limit and gain <= _SOME - epoch.uncertainty(base)
        if not too_much and not epoch.complete(_SLOW_START_REPLIES, 0.5, 1.0):
            return  # only what is clearly too much is left so soon
        if epoch.limit < base.limit:
            if gain >= _NEARLY_ALL and not self._full_before:
                # There was room after all: the first comparison was misled by chance.
                self._grown = True
                self._step(epoch, 2.0)
            elif gain < _WORTH and epoch.limit > self._floor:
                self._full_before = True
                self._step(epoch, 0.5)
            else:
                self.settle(_full(epoch, base))
        elif gain >= _SOME:
            self._grown = True
            if epoch.limit >= self.ceiling:
                self.settle(epoch.limit)
            else:
                self._step(epoch, 2.0 if gain >= _NEARLY_ALL else _FIRST_STEP)
        elif not epoch.complete(_UNDECIDED_REPLIES, 0.5, 1.0) and gain + epoch.uncertainty(base) >= _SOME:
            pass  # to stop too early costs more than to measure on
        elif self._grown:
            self.settle(_full(base, epoch))
        else:
            # Even the first number may have been too many.
            self._step(epoch, base.limit / epoch.limit / 2)

    def _judge_steady(self, epoch: Epoch, now: float) -> None:
        usual = self._usual
        if usual is not None and abs(epoch.goodput / usual.goodput - 1) > max(_SHIFT, 4 * noise(epoch, usual)):
            self._calm = 0
            self._probe_at = now
        self._usual = epoch
        self._epoch = Epoch(epoch.limit, settle_s=None)
        if now >= self._probe_at:
            self._probe(epoch)

    def _judge_probe(self, epoch: Epoch, base: Epoch, now: float) -> None:
        probe = _PROBES[self._next]
        gain = epoch.elasticity(base)
        if probe.factor > 1:
            gain = min(gain, epoch.counted_elasticity(base))
        unsure = epoch.uncertainty(base)
        if not epoch.complete(probe.replies, 1.0, 2.0) and abs(gain - probe.worth) < 1.5 * unsure:
            return  # what is clear is decided early, since it costs goodput or queueing
        # Where few replies tell, chance must not decide: rather a little less in flight than ever more.
        kept = gain < probe.worth if probe.factor < 1 else gain >= max(probe.worth, min(3 * _WORTH, unsure / 2))
        if not kept:
            self._steep = self._steep or (probe.factor == _STEP and gain + unsure < 0)
            self.reject(now)
            return
        self._steep = False
        self._calm = 0
        self._free = self._free + 1 if probe.factor > 1 and gain >= _NEARLY_ALL else 0
        if self._free < _FREE or epoch.limit >= self.ceiling:
            self.settle(epoch.limit)
            self._probe(epoch)
        elif probe.factor < _STEP:
            self.settle(epoch.limit)
            self._next = _UP
            self._probe(epoch)
        else:
            self._free = 0
            self.phase = "slow start"
            self._step(epoch, _FIRST_STEP)

    def _probe(self, base: Epoch) -> None:
        """Try the next number, if there is room for it."""
        for _ in _PROBES:
            probe = _PROBES[self._next]
            fine = base.replies >= _PROBES[-1].replies // 2  # otherwise chance would decide over a small step
            skip = self._steep and fine if probe.factor == _STEP else probe.factor == _SMALL_STEP and not fine
            if self.times(probe.factor) != self.limit and not skip:
                self.phase = "probe"
                self._step(base, probe.factor)
                return
            self._next = (self._next + 1) % len(_PROBES)

    def _step(self, base: Epoch, factor: float) -> None:
        self._set(self.times(factor))
        self._base = base
        self._step_s = 0.0

    def _set(self, limit: int) -> None:
        was = self.limit
        self.limit = self._found = max(self._floor, min(self.ceiling, limit))
        # The last that an overcrowded server answers are the late ones.
        self.renew(2.0 if self.limit < was else 1.0)


def _full(less: Epoch, more: Epoch) -> int:
    """Return at how many in flight the server was full, and a little more: from there on goodput stays what it is."""
    full = less.in_flight * more.goodput / less.goodput
    return max(less.limit, min(more.limit, round(full * _ABOVE_FULL)))
