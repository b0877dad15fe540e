"""Whether and when a failed row is tried again.

tenacity's wait and stop policies decide the backoff and the end; they are consulted only after a failure, since
its call wrapper costs more than the request. A row that waits sits in a `DueHeap` and holds no slot.
"""

import heapq
from random import Random
from typing import Generic, TypeVar

import tenacity

from engine.records import Failure

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_JITTER = 0.25  # share of a wait added at random: rows that failed together must not come back together
_LONGEST_JITTER_S = 30.0
_SHORTEST_WAIT_S = 0.1  # a server that says 0 is not to be asked again in the same millisecond

Item = TypeVar("Item")


class RetryPolicy:
    """The verdict on one failure."""

    def __init__(self, attempts: int, rng: Random) -> None:
        """Allow `attempts` tries that count, the first one included."""
        self._stop = tenacity.stop_after_attempt(attempts)
        self._wait = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
        self._rng = rng

    def wait_s(self, failure: Failure, *, tries: int, attempts: int) -> float | None:
        """Return the seconds to wait before the next try; None when the row has failed for good.

        `tries` is the number of requests this row has taken, `attempts` how many of them count against it. The
        server's Retry-After is a floor: never earlier, and a little later at random. Of a server that only asks to
        slow down it is the whole wait, since it knows better than our backoff.
        """
        if not failure.fault.retryable:
            return None
        if failure.fault.spends_attempt and self._stop(_call_state(attempts)):
            return None
        floor = failure.retry_after
        if floor is None or failure.fault.spends_attempt:
            floor = max(self._wait(_call_state(tries)), floor or 0.0)
        floor = max(floor, _SHORTEST_WAIT_S)
        return floor + self._rng.uniform(0.0, min(_JITTER * floor, _LONGEST_JITTER_S))


def _call_state(attempt_number: int) -> tenacity.RetryCallState:
    # tenacity's policies read the attempt number from the state of a call that it makes itself; here it makes none.
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt_number
    return state


class DueHeap(Generic[Item]):
    """Rows waiting for their time, soonest first; equal times in order of arrival.

    entries: the heap itself, the same list for good: whether any row waits can be asked without a call.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Item]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.entries)

    def push(self, due: float, item: Item) -> None:
        """Add an item that is due at that time."""
        self._arrivals += 1
        heapq.heappush(self.entries, (due, self._arrivals, item))

    @property
    def next_due(self) -> float | None:
        """When the soonest item is due; None when none waits."""
        return self.entries[0][0] if self.entries else None

    def pop_due(self, now: float) -> Item | None:
        """Take the soonest item that is due; None when there is none."""
        if self.entries and self.entries[0][0] <= now:
            return heapq.heappop(self.entries)[2]
        return None
