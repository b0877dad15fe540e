"""Strict limits on requests and tokens a minute, as a provider enforces them.

GCRA: the state is one number, the time at which the bucket will be full again. What is admitted in any window of T
seconds is at most `rate * T + burst`, with a burst of one second's worth and at least 1. A request that costs more
tokens than the burst is admitted from a full bucket and charged in full (the bucket goes into debt), so for tokens
the bound's burst is the larger of one second's worth and the largest single request.

No clock is read here: every method takes `now`, in seconds of any monotonic clock.
"""

from math import ceil
from typing import Literal

import msgspec

LimitName = Literal["requests", "tokens", "queue"]

# Waits below a nanosecond are rounding: without this a client that waits exactly as long as it was told is denied.
_ROUNDING_S = 1e-9
_SECOND_MS = 1000
_MINUTE_MS = 60_000


class Gcra:
    """One limit. The only mutable state is `_full_at`."""

    def __init__(self, per_minute: float) -> None:
        if not per_minute > 0:
            raise ValueError(f"a limit must be above 0 a minute, not {per_minute}")
        self.per_minute = per_minute
        self.burst = max(1.0, per_minute / 60)
        self._interval = 60 / per_minute  # seconds that one unit takes to come back
        self._full_at = float("-inf")

    def wait(self, cost: float, now: float) -> float:
        """Seconds until `cost` would be admitted; 0 means now."""
        wait = self.debt(now) + (min(cost, self.burst) - self.burst) * self._interval
        return wait if wait > _ROUNDING_S else 0.0

    def spend(self, cost: float, now: float) -> None:
        """Charge `cost`, whether it was admitted or not."""
        self._full_at = max(self._full_at, now) + cost * self._interval

    def debt(self, now: float) -> float:
        """Seconds until the bucket is full again: what `x-ratelimit-reset` says."""
        return max(0.0, self._full_at - now)

    def remaining(self, now: float) -> int:
        """Units left of the minute's worth: OpenAI's arithmetic, in which limit - remaining refills within reset."""
        return max(0, int(self.per_minute - self.debt(now) / self._interval + _ROUNDING_S))


class Denial(msgspec.Struct, frozen=True):
    """Why a request was not admitted."""

    limit: LimitName
    allowed: float  # a minute; in the queue and at work together, where `limit` is the queue
    used: float
    requested: float
    wait: float | None  # seconds; None where nobody can tell, or one request costs more than a minute's worth


class EnforcedLimits:
    """A provider's two limits. A denied request is charged to neither."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._limits: dict[LimitName, Gcra] = {}
        if requests_per_minute is not None:
            self._limits["requests"] = Gcra(requests_per_minute)
        if tokens_per_minute is not None:
            self._limits["tokens"] = Gcra(tokens_per_minute)

    def admit(self, tokens: int, now: float) -> Denial | None:
        """Charge one request of `tokens`, or say why not: the limit with the longer wait."""
        denial: Denial | None = None
        costs = {"requests": 1, "tokens": tokens}
        for name, limit in self._limits.items():
            cost = costs[name]
            too_large = name == "tokens" and cost > limit.per_minute
            wait = None if too_large else limit.wait(cost, now)
            if wait is None or wait > (denial.wait or 0.0 if denial else 0.0):
                used = limit.per_minute - limit.remaining(now)
                denial = Denial(limit=name, allowed=limit.per_minute, used=used, requested=cost, wait=wait)
        if denial is None:
            for name, limit in self._limits.items():
                limit.spend(costs[name], now)
        return denial

    def headers(self, now: float) -> dict[str, str]:
        """Build the `x-ratelimit-*` headers; none for a limit that is not set."""
        headers: dict[str, str] = {}
        for name, limit in self._limits.items():
            headers[f"x-ratelimit-limit-{name}"] = f"{limit.per_minute:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = str(limit.remaining(now))
            headers[f"x-ratelimit-reset-{name}"] = duration(limit.debt(now))
        return headers


def duration(seconds: float) -> str:
    """Write a time as OpenAI's reset headers do: `12ms`, `8.64s`, `6m0s`, `1h0m0s`; rounded up, never down."""
    ms = ceil(seconds * _SECOND_MS - _ROUNDING_S)
    if ms < _SECOND_MS:
        return f"{max(ms, 0)}ms"
    if ms < _MINUTE_MS:
        return f"{ms / _SECOND_MS:g}s"
    minutes, s = divmod(ceil(ms / _SECOND_MS), 60)
    return f"{minutes}m{s}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m{s}s"  # noqa: PLR2004 - minutes
