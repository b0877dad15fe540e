"""When this process did not run: it was stopped, or slept with the machine. Who failed then has nothing to do with it.

By the clock that goes on while the machine sleeps. A request that was on its way during a gap may have been answered by
a server that found nobody to take the answer.
"""

from collections.abc import Callable
from math import inf
from time import CLOCK_BOOTTIME, clock_gettime, monotonic

_GAP_S = 5.0  # a loop that has not turned for so long did not run, whatever kept it
_KEPT = 16  # gaps that a row may have met


def _always() -> float:
    return clock_gettime(CLOCK_BOOTTIME)


class Gaps:
    """The gaps of one worker. To be told that it runs, several times a second."""

    def __init__(self, clock: Callable[[], float] = monotonic, always: Callable[[], float] = _always) -> None:
        """`clock`: which rows go by, and which may stand still while the machine sleeps; `always`: which does not."""
        self._clock, self._always = clock, always
        self._before = clock(), always()
        self._gaps: list[tuple[float, float]] = []  # when it was over, and how far the clock had gone on meanwhile

    def __repr__(self) -> str:
        return f"<{len(self._gaps)} gaps>"

    def tick(self) -> None:
        """Take note that this process runs."""
        now, always = self._clock(), self._always()
        before, always_before = self._before
        if always - always_before > _GAP_S:
            self._gaps = [*self._gaps[1 - _KEPT :], (now, now - before)]
        self._before = now, always

    def since(self, moment: float) -> bool:
        """Whether this process did not run for a while after that moment of its clock."""
        self.tick()
        return max((over for over, _ in self._gaps), default=-inf) > moment

    def age_s(self, moment: float, now: float) -> float:
        """Return how long ago that moment is, as far as this process ran."""
        return now - moment - sum(length for over, length in self._gaps if over > moment)
