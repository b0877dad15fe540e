"""Pacing by GCRA, the generic cell rate algorithm: a linear refill without counters to reset.

One number, the theoretical arrival time (TAT), says when the bucket would be full again. A cost is allowed once
spending it would not push the TAT further ahead than the burst. The same arithmetic as in OpenAI's rate limit
headers. Source: ITU-T I.371; "Rate limiting, cells, and GCRA", Leach 2015.

A worker's `Slice` is its share of one provider's requests and tokens a minute; the supervisor divides.
"""

import msgspec

# Of the second's worth that the design allows. A quarter is far above the timer's resolution of about 1 ms, so
# no rate is wasted, and leaves the rest of what servers tolerate to the network's jitter. Slow rates may burst by
# two within a second: with one alone, every millisecond that the loop is late would be lost for good.
_BURST_S = 0.25
_LEAST_BURST = 2.0


class Lease(msgspec.Struct, frozen=True):
    """A worker's share of a provider's budget. None stands for no limit."""

    requests_per_s: float | None
    tokens_per_s: float | None
    tokens_per_minute: float | None = None  # the whole provider's limit: what one request may cost at most
    first_s: float = 0.0  # the first request goes no earlier than this: workers' slices start in turn, not at once

    @property
    def unlimited(self) -> bool:
        """Whether there is nothing to pace."""
        return self.requests_per_s is None and self.tokens_per_s is None


class Gcra:
    """One paced quantity."""

    def __init__(self, rate: float, now: float, first_s: float = 0.0) -> None:
        """Allow `rate` units a second; the bucket starts empty, the first unit is free at `now + first_s`."""
        self._interval = 1.0 / rate
        self._burst = max(1.0, min(rate, max(_LEAST_BURST, rate * _BURST_S)))
        self._tolerance = self._burst * self._interval
        self._tat = now + first_s + self._tolerance - self._interval

    def ready_at(self, cost: float, now: float) -> float:
        """Return when this cost may be spent; at or before `now` means at once.

        A cost above the burst waits for a full bucket and then borrows: it would never be allowed otherwise.
        """
        return max(self._tat, now) + min(cost, self._burst) * self._interval - self._tolerance

    def spend(self, cost: float, now: float) -> None:
        """Take the cost from the bucket. A negative cost gives back."""
        self._tat = max(self._tat, now) + cost * self._interval if cost >= 0 else self._tat + cost * self._interval


class Slice:
    """What one worker may send to one provider: requests and tokens, both must allow."""

    def __init__(self, lease: Lease, now: float) -> None:
        self._requests = None if lease.requests_per_s is None else Gcra(lease.requests_per_s, now, lease.first_s)
        self._tokens_per_minute = lease.tokens_per_minute
        # Tokens need no staggered start: the requests' own start spreads them.
        self._tokens = None if lease.tokens_per_s is None else Gcra(lease.tokens_per_s, now)

    def fits(self, tokens: int) -> bool:
        """Tell whether a request of so many tokens can pass at all: no server lets more than a minute's through."""
        return self._tokens_per_minute is None or tokens <= self._tokens_per_minute

    def ready_at(self, tokens: int, now: float) -> float:
        """Return when a request of so many estimated tokens may be sent; at or before `now` means at once."""
        due = now
        if self._requests is not None:
            due = self._requests.ready_at(1.0, now)
        if self._tokens is not None:
            due = max(due, self._tokens.ready_at(tokens, now))
        return due

    def spend(self, tokens: int, now: float) -> None:
        """Debit one request of so many estimated tokens, at the moment of sending."""
        if self._requests is not None:
            self._requests.spend(1.0, now)
        if self._tokens is not None:
            self._tokens.spend(tokens, now)

    def settle(self, estimated: int, actual: int, now: float) -> None:
        """Correct the debit by what the reply says was used; what no minute can hold is a mistake of the reply."""
        if self._tokens is not None:
            used = actual if self._tokens_per_minute is None else min(actual, self._tokens_per_minute)
            self._tokens.spend(used - estimated, now)


def divide(requests_per_minute: float | None, tokens_per_minute: float | None, workers: int) -> list[Lease]:
    """Split a provider's budget into equal leases, one for each worker. Their rates sum to the budget.

    The first requests are spread over the first worker's interval, so that the slices do not start with as many
    requests at once as there are workers.
    """
    requests = None if requests_per_minute is None else requests_per_minute / 60
    tokens = None if tokens_per_minute is None else tokens_per_minute / 60
    return [
        Lease(
            requests_per_s=None if requests is None else requests / workers,
            tokens_per_s=None if tokens is None else tokens / workers,
            tokens_per_minute=tokens_per_minute,
            first_s=0.0 if requests is None else number / requests,
        )
        for number in range(workers)
    ]
