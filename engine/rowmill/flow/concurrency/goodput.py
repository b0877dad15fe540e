"""What replies say about goodput and reply time: the measurements that `concurrency` decides on."""

from math import exp, log, sqrt

_FEW = 8  # replies that any mean takes at least
_LONGEST_S = 30.0  # a slow server is judged by fewer replies
_SPREAD = 0.5  # standard deviation of reply times, as a part of their mean: about what output lengths make it
_SMALLEST_STEP = 0.04  # logarithm of a ratio of requests in flight that can be told from chance

_MEMORY_S = 1.0  # replies are forgotten over so long, or two reply times


class Epoch:
    """A stretch of time at one limit: what was in flight before comes back, then goodput is measured.

    in_flight: mean requests in flight while measuring. mean_reply_s: seconds. goodput: valid replies a second.
    used_s, unused_s: for how long what is allowed was in use and was not.
    """

    def __init__(self, limit: int, *, settle_s: float | None) -> None:
        """Wait for what is in flight, and at least `settle_s`: the reply time before. None: measure at once."""
        self.limit = limit
        self.used_s = 0.0
        self.unused_s = 0.0
        self._settle_s = settle_s or 0.0
        self._returning: int | None = 0 if settle_s is None else None  # None: the limit is not yet in force
        self._seconds = 0.0
        self._slot_s = 0.0
        self._replies = 0
        self._reply_s = 0.0

    @property
    def replies(self) -> int:
        """Valid replies while measuring."""
        return self._replies

    @property
    def in_flight(self) -> float:
        """Mean requests in flight."""
        return self._slot_s / self._seconds

    @property
    def mean_reply_s(self) -> float:
        """Mean reply time of the valid replies."""
        return self._reply_s / self._replies

    @property
    def goodput(self) -> float:
        """Valid replies a second, by Little's law."""
        return self.in_flight / self.mean_reply_s

    def add(self, seconds: float, answered: int, reply_s: float, in_flight: int) -> None:
        """Take in what has happened in the last so many seconds."""
        if self._returning is None:
            # Leases travel: a limit is in force when the number in flight says so.
            if 0.85 * self.limit - 0.5 <= in_flight <= 1.1 * self.limit + 0.5:
                self._returning = in_flight
        elif self._returning > 0 or self._settle_s > 0:
            self._returning -= answered
            self._settle_s -= seconds
        else:
            self._seconds += seconds
            self._slot_s += seconds * in_flight
            self._replies += answered
            self._reply_s += reply_s

    def complete(self, replies: int, seconds: float, reply_times: float) -> bool:
        """Tell whether it has so many replies over so many seconds and mean reply times."""
        if self._replies < _FEW or self._seconds < max(seconds, reply_times * self.mean_reply_s):
            return False
        return self._slot_s > 0 and self._reply_s > 0 and (self._replies >= replies or self._seconds >= _LONGEST_S)

    def elasticity(self, base: "Epoch") -> float:
        """Return by how many percent goodput rises for one percent more in flight than in the base; 0 if unknown."""
        step = log(self.in_flight / base.in_flight)
        return 0.0 if abs(step) < _SMALLEST_STEP else log(self.goodput / base.goodput) / step

    def counted_elasticity(self, base: "Epoch") -> float:
        """Return the same by the number of replies. Waves of replies disturb it, a change that lingers does not."""
        step = log(self.in_flight / base.in_flight)
        ratio = self._replies / self._seconds / (base._replies / base._seconds)  # noqa: SLF001  its own class
        return 0.0 if abs(step) < _SMALLEST_STEP else log(ratio) / step

    def uncertainty(self, base: "Epoch") -> float:
        """Return by how much the elasticity may be off by chance: two standard deviations."""
        step = max(_SMALLEST_STEP, abs(log(self.in_flight / base.in_flight)))
        return 2 * noise(self, base) / step


def noise(one: Epoch, other: Epoch) -> float:
    """Return the standard deviation to be expected of the ratio of two goodputs."""
    return _SPREAD * sqrt(1 / one.replies + 1 / other.replies)


class Recent:
    """Replies of the last moments, older ones counting less.

    mean_reply_s: seconds; peak: most requests in flight.
    """

    def __init__(self) -> None:
        self.mean_reply_s = 1.0  # until a reply tells
        self._answered = 0.0
        self._reply_s = 0.0
        self._peak = 0.0

    @property
    def peak(self) -> int:
        """Most requests in flight."""
        return int(self._peak)

    def add(self, seconds: float, answered: int, reply_s: float, in_flight: int) -> None:
        """Take in what has happened in the last so many seconds."""
        kept = exp(-seconds / max(_MEMORY_S, 2 * self.mean_reply_s))
        self._answered = self._answered * kept + answered
        self._reply_s = self._reply_s * kept + reply_s
        self._peak = max(self._peak * kept, in_flight)
        if answered:
            self.mean_reply_s = self._reply_s / self._answered
