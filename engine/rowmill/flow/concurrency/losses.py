"""Whether losses come of how much is in flight, or at random: found out by what fewer in flight change.

Theory. A server that is overcrowded loses fewer of its requests when fewer are in flight, or it answers as many as
before. Faults at random (a proxy that drops one in a hundred, an instance that is restarted) strike the same share of
whatever is sent, and the goodput falls with the number in flight, as it does on a server with room. So a shrink after a
burst of losses is an experiment: what was seen before it is compared with what is seen after it, until as many losses
as chance cannot hide should have been seen. If it was at random, the shrink is undone, and such a share of losses is
usual from then on: only clearly more is a burst. A usual share follows the losses down, never up: that takes another
experiment.
"""

from math import exp, log, sqrt
from typing import Literal

import msgspec

_USUAL = 0.02  # share of results: 1% of random faults is ordinary
_USUAL_AT_START = 0.1  # of the first dozens of results a few may be lost; a server that is full loses more and more
_LARGEST_USUAL = 0.3  # a larger share is never taken for random faults
_SIGMA = 2.0  # and so many standard deviations above it: two unlucky results of ten are no burst
_MEMORY_S = 1.0  # losses are forgotten over so long, or two reply times
_LONG = 30.0  # times as long, for the usual share
_OVER = 1.25  # of what was lost over that, the most that stays usual
_FORGOTTEN_S = 900.0  # a usual share fades, so that it is found out anew every few minutes: a mistake does not last

_ENOUGH = 8.0  # losses that make a share
_FALL = 3.0  # times fewer losses, where they come of the load
_SURE = 2.0  # logarithm of the odds
_MORE = 1.4  # times the losses: that is no chance either, or what was sent before comes back late
_LEAST_S = 0.75  # a bad moment is none of chance
_SPREAD = 0.7  # of the number of answers, as a part of its square root
_AS_MANY = 0.95  # of those in flight before
_FEWER = 0.9  # likewise: from here on there are fewer
_PATIENCE = 3.0  # reply times after which a check that cannot tell holds back nothing any more
_PATIENCE_S = 2.0


class _Observed(msgspec.Struct):
    """What was seen with some number in flight."""

    answered: float = 0.0
    lost: float = 0.0
    slot_s: float = 0.0  # requests in flight, by time
    seconds: float = 0.0

    @property
    def share(self) -> float:
        return self.lost / max(1.0, self.answered + self.lost)

    def add(self, answered: float, lost: float, slot_s: float, seconds: float, *, kept: float = 1.0) -> None:
        self.answered = self.answered * kept + answered
        self.lost = self.lost * kept + lost
        self.slot_s = self.slot_s * kept + slot_s
        self.seconds = self.seconds * kept + seconds


class Losses:
    """The losses of one provider: how many are usual, and whether more of them come of the load.

    usual: share of results that is lost whatever is in flight.
    """

    def __init__(self) -> None:
        self.usual = _USUAL
        self._lately = _Observed()
        self._long = _Observed()
        self._answering_s = 0.0  # since the first answer
        self._results = 0.0  # lately, those included that came while nothing that was lost counts
        self._before: _Observed | None = None  # None: nothing is being found out
        self._after = _Observed()
        self._at = 0  # in flight before
        self._steady = False  # what was lost then is what was lost for longer
        self._until = 0.0

    def __repr__(self) -> str:
        checks = ", finding out" if self.checking else ""
        return f"<{self._lately.share:.1%} lost lately, {self.usual:.1%} usual{checks}>"

    def burst(self, *, starting: bool = False) -> bool:
        """Whether more is lost than chance would have it. While it starts, only what no random faults come to."""
        usual = max(self.usual, _USUAL_AT_START if starting else 0.0) * self._results
        return self._lately.lost > usual + _SIGMA * sqrt(usual) + 1

    def took_s(self, reply_s: float) -> float:
        """Return how long a request was in flight that is lost now, by Little's law; reply_s: that a reply takes."""
        lately = self._lately
        return max(0.0, lately.slot_s - lately.answered * reply_s) / max(1.0, lately.lost)

    @property
    def checking(self) -> bool:
        """Whether it is being found out what the latest burst came of."""
        return self._before is not None

    def waits(self, now: float) -> bool:
        """Whether more in flight would spoil what is being found out."""
        return self._before is not None and now < self._until

    def add(self, seconds: float, answered: int, lost: int, reply_s: float, in_flight: int, *, late: bool) -> None:
        """Take in what has happened in the last so many seconds; reply_s: that a reply takes.

        late: what is lost now was sent before the latest shrink, and says nothing.
        """
        memory_s = max(_MEMORY_S, 2 * reply_s)
        kept = exp(-seconds / memory_s)
        self._results = self._results * kept + answered + (0 if late else lost)
        if late:
            self._lately.lost *= kept
            return
        slot_s = seconds * in_flight
        self._lately.add(answered, lost, slot_s, seconds, kept=kept)
        self._answering_s += seconds * (self._answering_s > 0 or answered > 0)
        if self._answering_s > 2 * reply_s:  # what is lost at once is heard of before the first answers are
            self._long.add(answered, lost, slot_s, seconds, kept=exp(-seconds / (_LONG * memory_s)))
        self.usual = max(_USUAL, self.usual * exp(-seconds / _FORGOTTEN_S))
        if self.usual * (self._long.answered + self._long.lost) > _ENOUGH:
            self.usual = max(_USUAL, min(self.usual, _OVER * self._long.share))
        before = self._before
        if before is None or before is self._lately:
            return
        if in_flight <= _FEWER * self._at:
            self._after.add(answered, lost, slot_s, seconds)
        elif in_flight > _AS_MANY * self._at:
            before.add(answered, lost, slot_s, seconds)

    def forget(self) -> None:
        """Begin anew: a decision was taken on them."""
        self._results = 0.0
        self._lately = _Observed()

    def check(self, now: float, reply_s: float, in_flight: int) -> None:
        """Find out what the burst comes of: fewer than so many are in flight from now on."""
        if self._before is None and self._lately.share <= _LARGEST_USUAL:
            self._before = self._lately
            self._at = in_flight
            self._after = _Observed()
            # Of few losses chance would have the share, so that of a longer time is the better one, if they agree.
            usual = self._long.share * (self._lately.answered + self._lately.lost)
            self._steady = self._long.lost >= _ENOUGH and self._lately.lost <= usual + _SIGMA * sqrt(usual) + 1
        self._until = now + max(_PATIENCE_S, _PATIENCE * reply_s)

    def verdict(self) -> Literal["load", "chance"] | None:
        """Say what it came of, once; None while that is not known.

        Two sequential tests (Wald 1945), each of what chance would have against what an overcrowded server would show:
        a third of the losses, and as many answers as before.
        """
        before, after = self._before, self._after
        if before is None or after.seconds < _LEAST_S or min(before.slot_s, after.slot_s) <= 0:
            return None
        if min(before.answered, after.answered, before.lost) <= 0:
            return None
        share = max(before.lost - 1, before.lost / 2) / (before.answered + before.lost)
        if self._steady:
            share = self._long.share
        expected = share * (after.answered + after.lost)
        of_losses = after.lost * log(_FALL) - expected * (1 - 1 / _FALL)
        full = log(self._at * after.seconds / after.slot_s)
        gain = log(after.answered / after.slot_s / (before.answered / before.slot_s))
        of_answers = (full - 2 * gain) * full / (2 * _SPREAD**2 * (1 / before.answered + 1 / after.answered))
        if of_losses <= -_SURE or of_answers <= -_SURE:
            self._before = None
            return "load"
        as_before = before.share * (after.answered + after.lost)
        more = after.lost > _MORE * as_before + _SIGMA * sqrt(as_before)
        if of_losses < _SURE or of_answers < _SURE or more or gain < -full:
            return None
        self._before = None
        both = share * (before.answered + before.lost) + after.lost
        both /= before.answered + before.lost + after.answered + after.lost
        self.usual = min(_LARGEST_USUAL, max(self.usual, _OVER * both))
        return "chance"

    def drop(self) -> None:
        """Leave what is being found out: what comes next is of another time."""
        self._before = None
