"""Whether and when a failed row is tried again.

`RetryPolicy` looks at one row: tenacity's wait and stop policies (`backoff`) decide the backoff and the end; they are
consulted only after a failure, since its call wrapper costs more than the request. A row that waits sits in a `DueHeap`
and holds no slot. `RetryBudget` looks at all rows of a worker, when a row that is due is about to be sent again.

The budget's theory. F requests were a row's first, R were retries. Retries paid by the share are at most

    share / (1 - share) * F

so that they are at most `share` of all requests, themselves included: a provider that fails every request is sent
11 requests for 10 rows at a share of 0.1, not 60. Without the floor a run would stand still once its last rows wait
and nothing new earns; it is a token bucket of `floor_per_s` that holds one second's worth, so no retry waits for ever,
and what was not used in quiet hours is not there for a stampede. Together, at any time,

    R <= share * (F + R) + floor_per_s * elapsed + start

where start is what the bucket begins with: a second's worth, and at least 10, so that small runs are not slowed.
The share counts over the whole run: a long one that went well can afford a bad minute, in which the breaker, not the
budget, is what keeps requests from the unhealthy provider.
"""

import heapq
from functools import cached_property
from math import inf
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

from rowmill.core.wire import Failure

if TYPE_CHECKING:
    from rowmill.flow.backoff import Backoff

_JITTER = 0.25  # share of a wait added at random: rows that failed together must not come back together
_LONGEST_JITTER_S = 30.0
_SHORTEST_WAIT_S = 0.1  # a server that says 0 is not to be asked again in the same millisecond
_FREE_TRIES = 50  # refusals that spend no attempt; a server that refuses one row more often means the row
_START_RETRIES = 10.0  # that the floor allows at once when a worker starts
_WHOLE = 1.0 - 1e-9  # a retry's worth of the floor, but for the rounding of the refill
_LEAST_REST = 1e-9  # of the requests that a share of 1 leaves to first ones, so that it can be divided by

Item = TypeVar("Item")


class RetryPolicy:
    """The verdict on one failure."""

    def __init__(self, attempts: int, rng: Random, *, deadline_s: float = inf) -> None:
        """Allow `attempts` tries that count, the first one included, and none later than `deadline_s` after it."""
        self._attempts = attempts
        self._rng = rng
        self._deadline_s = deadline_s

    @cached_property
    def _backoff(self) -> "Backoff":
        from rowmill.flow.backoff import Backoff  # at the first failure: many workers never see one

        return Backoff(self._attempts)

    def wait_s(
        self, failure: Failure, *, tries: int, attempts: int, age_s: float = 0.0, own: bool = False
    ) -> float | None:
        """Return the seconds to wait before the next try; None when the row has failed for good.

        `tries` is the number of requests this row has taken, `attempts` how many of them count against it, `age_s`
        how long ago the first of them was sent. The server's Retry-After is a floor: never earlier, and a little later
        at random. Of a server that only asks to slow down it is the whole wait, since it knows better than our backoff.

        Tries that do not count are free up to 50 of them; each one more counts like an attempt. A request that no
        waiting lets through ("Request too large", answered as a 429) would otherwise be sent for ever. `own`: this
        one counts whatever its class is, for others are let through meanwhile.
        """
        if not failure.fault.retryable:
            return None
        counted = attempts + max(0, tries - attempts - _FREE_TRIES)
        if (own or failure.fault.spends_attempt or counted > attempts) and self._backoff.over(counted):
            return None
        floor = failure.retry_after
        if floor is None or failure.fault.spends_attempt:
            floor = max(self._backoff.wait_s(tries), floor or 0.0)
        floor = max(floor, _SHORTEST_WAIT_S)
        wait = floor + self._rng.uniform(0.0, min(_JITTER * floor, _LONGEST_JITTER_S))
        return wait if age_s + wait <= self._deadline_s else None


class RetryBudget:
    """When one worker may send a retry: a share of its requests, and a floor. See the theory above.

    It is told the worker's own counts, so that a request costs it nothing; only a retry that is due asks.
    """

    def __init__(self, share: float, floor_per_s: float, now: float) -> None:
        """Allow `share` (0 to 1) of requests, and `floor_per_s` (above 0) retries a second, from `now` on."""
        self._earned = share / max(1.0 - share, _LEAST_REST)  # retries by each first request
        self._shared = 0  # retries that the share has paid; the others were the floor's
        self._rate = floor_per_s
        self._most = max(1.0, floor_per_s)
        self._level = max(_START_RETRIES, floor_per_s)  # retries in the floor's bucket at `_filled`; below 0 a debt
        self._filled = now
        self._retries = 0  # accounted for

    def __repr__(self) -> str:
        return f"<{self._retries} retries, {self._shared} by the share; {self._level:g} left of the floor>"

    def ready_at(self, now: float, firsts: int, retries: int) -> float:
        """Return when the next retry may be sent; at or before `now` means at once. Never inf.

        `firsts` and `retries` are the requests that this worker has sent so far, those that were a row's first and
        those that were not. First requests sent meanwhile can make it earlier, never later. Retries that were sent
        without asking count too: what was too much is waited out.
        """
        self._account(now, firsts, retries)
        if self._shared + 1 <= self._earned * firsts or self._level >= _WHOLE:
            return now
        return now + (1.0 - self._level) / self._rate

    def _account(self, now: float, firsts: int, retries: int) -> None:
        """Refill the bucket, and charge the retries of the time since the last call to the share as far as it goes."""
        self._level = max(self._level, min(self._most, self._level + (now - self._filled) * self._rate))
        self._filled = now
        sent = retries - self._retries
        by_share = max(0, min(sent, int(self._earned * firsts) - self._shared))
        self._shared += by_share
        self._level -= sent - by_share
        self._retries = retries


class DueHeap(Generic[Item]):
    """Rows waiting for their time, soonest first; equal times in order of arrival.

    entries: the heap itself, the same list for good: whether any row waits can be asked without a call.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Item]] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<{len(self)} waiting, next due {self.next_due}>"

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
