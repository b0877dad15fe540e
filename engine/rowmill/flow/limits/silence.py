"""Whether a provider lets anything through at all: as long as it does not, its refusals say nothing of a rate.

A minute may have been used up before the run began, or by others while it held; a gateway refuses everything while it
starts. Whatever rate is made of that is a rate that nobody has measured, and takes minutes to get rid of. So refusals
count as evidence only where something was let through beside them. As long as nothing is, the provider is asked now
and then, and once it answers all goes on as if it had been asked for the first time.

An answer tells at once. Where answers take long, what was sent some seconds ago and not refused was let through too.
"""

from collections import deque

_LATE_S = 3.0  # refusals are quick: what was not refused by then was let through
_LONG_S = 1.0  # refusals of so long before the first answer, and what was still under way then, are not of its time
# Where the server does not say how long to wait: a part of the time for which it has refused already
_PART = 1 / 6
_SHORTEST_S = 0.5
_LONGEST_S = 60.0
_NO_WAIT_S = 0.2  # shorter ones are no word on when to come back
# A server may mean a wait of hours, or it may be a mistake that holds a run for a day: asked now and then, it tells
_BELIEVED_S = 600.0
_FIRST_LOOK_S = 5.0
_TOGETHER_S = 0.05  # what is sent so close together may arrive in any order


class Silence:
    """Whether nothing is let through. So it is taken to be at the start, and after a pause, until something was.

    lasts: so it is, or it is not known yet. deaf_until: refusals until then are late news of a silence that is over.
    """

    def __init__(self) -> None:
        self.lasts = True
        self.deaf_until = float("-inf")
        self._reports: deque[tuple[float, int]] = deque()  # when, and requests sent; not older than `_LATE_S`
        self._let_through = 0  # what was sent before, less what was refused
        self._refused_at: float | None = None  # the first time in this silence

    def __repr__(self) -> str:
        return f"<nothing let through, refused since {self._refused_at}>" if self.lasts else "<letting through>"

    def held(self) -> None:
        """Hear that nothing was sent for some seconds: whether anything is let through now has yet to be seen."""
        if not self.lasts:
            self.lasts = True
            self._reports.clear()
            self._let_through = 0
            self._refused_at = None

    def rate(self, now: float) -> float | None:
        """Return how many requests a second are enough to find out; None where nothing was refused yet."""
        if not self.lasts or self._refused_at is None:
            return None
        return 1.0 / min(max(_SHORTEST_S, _PART * (now - self._refused_at)), _LONGEST_S)

    def spent(self, sent: int, refused: int, answered: int, now: float) -> bool:
        """Take in a report; True where it ends a silence of some length: what was before says nothing any more."""
        if not self.lasts:
            return False
        if refused and self._refused_at is None:
            self._refused_at = now
        self._let_through -= refused
        self._reports.append((now, sent))
        while self._reports[0][0] <= now - _LATE_S:
            self._let_through += self._reports.popleft()[1]
        if answered <= 0 and self._let_through <= 0:
            return False
        self.lasts = False
        if self._refused_at is None or now - self._refused_at < _LONG_S:
            return False
        if answered > 0:
            self.deaf_until = now + _LONG_S
        return True


class Unheard:
    """Which refusals of one worker came before anything was let through, of what it has sent itself.

    What was sent before the first request that was let through was refused for another reason than its rate, also
    where the answer is told in the same report. What was sent later and refused all the same speaks of the rate.

    early: how many were of the first kind. So are all until it is known better, by which the number falls.
    waits: nothing was heard, so the next answer is the first.
    """

    def __init__(self) -> None:
        self.early = 0
        self.waits = True
        self._refused: list[float] = []  # when they were sent, meanwhile
        self._let_through = float("-inf")  # when the first request was sent that was

    def refused(self, started: float) -> None:
        """Count a refusal of what was sent then."""
        if self.waits:
            self._refused.append(started)
            self.early += 1
        elif started <= self._let_through + _TOGETHER_S:
            self.early += 1

    def answered(self, started: float) -> None:
        """Hear the first answer, to what was sent then."""
        self.early -= sum(1 for each in self._refused if each > started + _TOGETHER_S)
        self._let_through = started
        self._end()

    def told(self, *, silent: bool, proven: bool) -> None:
        """Hear from all workers: whether nothing is let through, whether anything was ever answered."""
        if silent:
            self.waits = True
        elif self.waits:
            if not proven:
                # What was let through takes its time: then what was refused meanwhile speaks of the rate.
                self.early -= len(self._refused)
            self._end()

    def _end(self) -> None:
        self.waits = False
        self._refused.clear()


def wait_s(asked_s: float | None, refused_s: float, *, silent: bool) -> float | None:
    """Return how long to send nothing after a refusal; None where it is for the row alone to wait.

    asked_s: what the server has asked for, None where it did not. refused_s: for how long it has refused by now.
    silent: nothing is let through.
    """
    if asked_s is not None and asked_s > _BELIEVED_S:
        return min(asked_s, _BELIEVED_S, max(_FIRST_LOOK_S, refused_s))
    if not silent or (asked_s is not None and asked_s >= _NO_WAIT_S):
        return asked_s
    return min(max(_SHORTEST_S, _PART * refused_s), _LONGEST_S)
