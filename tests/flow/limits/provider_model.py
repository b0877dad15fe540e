"""A provider with strict limits and the workers that use it, on a clock that only counts.

The workers are one bucket that is paced by a lease. As in a run, the lease in force is up to a second old, what was
sent is reported four times a second, and refusals are told at once, after the time that they take.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from rowmill.core.leases import LimitSample, Share
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.simulator.limits import Gcra, duration
from rowmill.transport.limit_headers import seconds as read_duration

STEP_S = 0.01
TICK_S = 0.25
RENEW_S = 1.0
ROUND_TRIP_S = 0.05


@dataclass
class Model:
    """Time 0 is the start. `sent`, `taken` and `refused` are the times at which it happened."""

    limits: ProviderLimits
    server: Gcra
    headers: bool = False
    demand: Callable[[float], float] = lambda _now: float("inf")  # requests a second that there is work for
    unpaced: float = 1000.0  # requests a second that the slots make where no rate is known
    slow_down: Callable[[float], bool] = lambda _now: False  # the provider refuses everything, with this code
    outage: Callable[[float], bool] = lambda _now: False
    reply_s: float = 0.5
    stray: float = 0.0  # share of requests that is refused for no reason
    seed: int = 0
    now: float = 0.0
    sent: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    news: list[str] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Go on until this time."""
        rng = Random(self.seed)
        share: Share | None = self.limits.requests(self.now)
        credit = wanted = 0.0
        unreported = told = answers = 0
        due_refusals: list[tuple[float, bool]] = []
        replies: deque[float] = deque()
        samples: deque[tuple[float, LimitSample]] = deque()
        tick = renew = self.now
        while self.now < until:
            now = self.now = self.now + STEP_S
            rate = self.unpaced if share is None else share.rate
            credit = min(credit + rate * STEP_S, max(1.0, rate * 0.25) if share is None else share.burst)
            wanted = min(wanted + self.demand(now) * STEP_S, 1000.0)
            while credit >= 1 and wanted >= 1:
                credit -= 1
                wanted -= 1
                unreported += 1
                self.sent.append(now)
                strange = self.outage(now) or self.slow_down(now) or rng.random() < self.stray
                if strange or self.server.wait(1, now) > 0:
                    self.refused.append(now)
                    heapq.heappush(due_refusals, (now + ROUND_TRIP_S, self.slow_down(now)))
                else:
                    self.server.spend(1, now)
                    self.taken.append(now)
                    replies.append(now + self.reply_s)
                if self.headers:
                    samples.append((now + ROUND_TRIP_S, said(self.server, now)))
            while due_refusals and due_refusals[0][0] <= now:
                _, slow_down = heapq.heappop(due_refusals)
                while replies and replies[0] < now - 2:
                    replies.popleft()
                lately = sum(1 for due in replies if due <= now) / 2
                told += 1
                self.limits.refused(now, slow_down=slow_down, requests_per_s=lately, tokens_per_s=0.0)
            if now >= tick:
                tick += TICK_S
                before, answers = answers, sum(at + self.reply_s <= now for at in self.taken)
                self.limits.spent(unreported, 0, now, refused=told, answered=answers - before)
                unreported = told = 0
                latest = None
                while samples and samples[0][0] <= now:
                    latest = samples.popleft()[1]
                self.limits.sample(latest, None, now)
                self.news += self.limits.learned()
                if now >= renew:
                    renew += RENEW_S
                    share = self.limits.requests(now)

    def share_refused(self, start: float, end: float) -> float:
        return between(self.refused, start, end) / max(1, between(self.sent, start, end))

    def rate_taken(self, start: float, end: float) -> float:
        return between(self.taken, start, end) / (end - start)


def said(server: Gcra, now: float) -> LimitSample:
    """Return what the server's headers say, as they are read from their text."""
    reset_s = read_duration(duration(server.debt(now)))
    assert reset_s is not None
    return LimitSample(server.per_minute, server.remaining(now), reset_s)


def between(times: list[float], start: float, end: float) -> int:
    return sum(start <= time < end for time in times)
