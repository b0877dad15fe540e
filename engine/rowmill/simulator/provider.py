"""One provider: its limits, its faults, its speed and its figures. What `app` asks at each station of a request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import log
from random import Random

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.faults import OK, ContentPlan, Fault, FaultPlan
from rowmill.simulator.limits import Denial, EnforcedLimits
from rowmill.simulator.replies import Completion, Damage
from rowmill.simulator.routes import Route
from rowmill.simulator.statistics import Statistics


class SimulatedProvider:
    """One path prefix. Mutable state: its parts, `held`, and how often in a row a fault has come."""

    def __init__(self, name: str, settings: SimulatorSettings, total: Statistics) -> None:
        """`total`: the figures of all providers together."""
        self.name = name
        self.settings = settings
        self.faults = FaultPlan(settings, Random(f"{settings.seed} faults {name}"))  # noqa: S311 - repeatable, no secret
        self.content_faults = ContentPlan(settings, Random(f"{settings.seed} content {name}"))  # noqa: S311 - the same
        self.statistics = Statistics()
        self.counted_in = (total, self.statistics)  # what happens here counts in both
        # First come, first served. None: all at a time.
        self._slots = asyncio.Semaphore(settings.parallel) if settings.parallel is not None else None
        self.held = 0  # replies that are being made or wait for it
        self._limits = EnforcedLimits(settings.requests_per_minute, settings.tokens_per_minute)
        self._random = Random(f"{settings.seed} latency {name}")  # noqa: S311 - repeatable, no secret
        self._log_median = log(settings.latency_ms / 1000) if settings.latency_ms > 0 else None
        self._last_fault: Fault | None = None
        self._in_a_row = 0

    def admit(self, tokens: int, now: float) -> Denial | None:
        """Charge one request of `tokens`, or say why not. What the queue has no room for is charged to no limit."""
        queue, parallel = self.settings.queue, self.settings.parallel
        if queue is not None and parallel is not None and self.held >= parallel + queue:
            return Denial(limit="queue", allowed=parallel + queue, used=self.held, requested=1, wait=None)
        return self._limits.admit(tokens, now)

    def limit_headers(self, now: float) -> dict[str, str]:
        """Build the `x-ratelimit-*` headers; none where the settings leave them off."""
        return self._limits.headers(now) if self.settings.limit_headers else {}

    def next_fault(self, now: float) -> tuple[Fault, int]:
        """Choose the fault of the next request, and tell how often in a row it has come now."""
        fault = self.faults.next(now)
        self._in_a_row = self._in_a_row + 1 if fault is self._last_fault else 1
        self._last_fault = fault
        return fault, self._in_a_row

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait in line for one of the places at work, and hold it."""
        if self._slots is None:
            yield
            return
        counted_in = self.counted_in if self._slots.locked() else ()
        for statistics in counted_in:
            statistics.waiting += 1
            statistics.waiting_max = max(statistics.waiting_max, statistics.waiting)
        try:
            await self._slots.acquire()
        finally:
            for statistics in counted_in:
                statistics.waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    def latency(self, tokens: int) -> float:
        """Draw the time in seconds that the next reply, of `tokens`, takes to make with what is in flight now."""
        settings = self.settings
        drawn = 0.0
        if self._log_median is not None:
            drawn = self._random.lognormvariate(self._log_median, settings.latency_sigma)
        seconds = drawn + tokens * settings.per_token_ms / 1000
        if settings.knee is not None and self.statistics.in_flight > settings.knee:
            seconds *= (self.statistics.in_flight / settings.knee) ** 2
        return seconds

    def compose(self, route: Route, body: bytes, mark: bytes) -> Completion:
        """Answer a request body as the route does, as long as the settings say."""
        return route.compose(body, mark, self.settings.reply_tokens, None)

    def damage(
        self, route: Route, body: bytes, mark: bytes, completion: Completion, fault: Fault, *, plan: ContentPlan
    ) -> tuple[Completion, Fault]:
        """Let content faults of the plan have their turn on a reply that no other fault has; tell what came of it."""
        if fault is OK:
            fault = plan.next()
        if fault.content:
            damage = Damage(fault.name, plan.spot())
            damaged = route.compose(body, mark, self.settings.reply_tokens, damage)
            return (damaged, fault) if damage.struck else (completion, OK)
        return completion, fault
