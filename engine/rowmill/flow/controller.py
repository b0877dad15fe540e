"""How fast one provider is used: everything that is known of it, brought together into leases.

`ProviderLimits` say what rate it lets through, `Concurrency` how many requests in flight bring more, `Breaker` whether
it is well at all; a 429 with Retry-After is a `Pause`. What comes of it is one capacity, which the `LeaseAllocator`
divides among the workers. Whatever throttles (a pause, a probe, a gradual release, a machine short of memory) is a
smaller number of requests in flight in the leases, so that workers need to know only their lease.

A holder is a worker process, by the number of its start.
"""

from random import Random

from rowmill.core.config import ProviderConfig
from rowmill.core.counts import DeadEnd, ProviderReport, ProviderSums
from rowmill.core.leases import Lease
from rowmill.core.reports import ProviderFigures, ProviderView
from rowmill.flow import rate_use
from rowmill.flow.breaker import Breaker
from rowmill.flow.concurrency.control import Concurrency
from rowmill.flow.leases.allocator import LeaseAllocator
from rowmill.flow.leases.capacity import Capacity
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.flow.patience import Patience
from rowmill.flow.pause import Pause
from rowmill.flow.traffic import RATE_S, Traffic

_RELEASE_S = 5.0  # a release takes as long as the pause did, and no longer than this
_START_S = 10.0  # from its first lease; after that what a rate takes has been found
_FULL = 0.8  # of the requests in flight that are allowed, the share from which on they count as used


class ProviderController:
    """The supervisor's view of one provider, and its hand on it.

    events: what is worth a line in the log since they were last taken.
    closed: why nothing more is sent to it in this session; None while it is open.
    allowed: requests that may be in flight.
    """

    def __init__(
        self,
        number: int,
        provider: ProviderConfig,
        *,
        auto: bool,
        slots: int,
        workers: int,
        now: float,
        rng: Random,
    ) -> None:
        """`slots`: the most requests in flight of one worker; with `auto` the right number is found below them."""
        self.name = provider.name
        self.events: list[str] = []
        self.closed: str | None = None
        self._slots = slots
        self._workers = workers  # that there were at most
        self._holders = 0
        self._limits = ProviderLimits(provider, now)
        self._concurrency = Concurrency(auto=auto, ceiling=slots * workers, now=now)
        self._breaker = Breaker(now)
        self._allocator = LeaseAllocator(number, rng)
        self._traffic = Traffic(now)
        self._pause = Pause(now)
        self._start = now
        self._before = ProviderSums()  # at the last tick
        self._tripped = False
        self._state = self._breaker.state
        # What this machine can still take
        self._factor = 1.0
        self._machine_paused = self._saturated = False
        self._patience = Patience(provider.timeout_s, now)
        self._paused_s = 0.0  # in all
        self._in_flight_max = 0
        self.allowed = 0

    def __repr__(self) -> str:
        return (
            f"<{self.name}: {self.state}, {self.in_flight} of {self.allowed} in flight; {self._breaker}, {self._pause}>"
        )

    def spent_before(self, requests: int, tokens: int, seconds_ago: float) -> None:
        """Debit the day's budgets by what an earlier session has sent."""
        self._limits.spent_before(requests, tokens, seconds_ago)

    # What workers say

    def join(self, holder: int, now: float) -> None:
        """Count in a worker that is ready for leases."""
        if not self._traffic.heard and not self._before.requests:
            self._start = now
        self._allocator.join(holder, now)
        self._holders += 1
        if self._holders > self._workers:  # in a cluster nodes join
            self._workers = self._holders
            self._concurrency.set_ceiling(self._slots * self._workers)

    def leave(self, holder: int, now: float) -> None:
        """Count out a worker that has ended; its lease returns."""
        self._traffic.leave(holder)
        self._holders -= 1
        self._allocator.leave(holder, now)

    def report(self, holder: int, report: ProviderReport, seconds: float, now: float) -> None:
        """Take in what a worker tells; its last report is so many seconds ago."""
        before = self._traffic.report(holder, report)
        if report.doubted and report.refusal:
            self._patience.refusal = report.refusal
        if report.trouble:
            self._patience.trouble(report.trouble, report.dead_end)
        if report.limit:
            self._patience.limited(report.limit, report.asked_s, now)
        self._limits.sample(report.requests_limit, report.tokens_limit, now)
        used = (report.requests - before.requests) / seconds, (report.tokens - before.tokens) / seconds
        self._allocator.report(holder, report, used, now)

    @property
    def pressing(self) -> bool:
        """Whether leases should be sent now rather than at the next tick."""
        return self._allocator.pressing

    def leased(self, holder: int, serial: int, returned: tuple[float, float], now: float) -> None:
        """Take note that a worker has put a lease in force."""
        self._allocator.acknowledge(holder, serial, returned, now)

    def refused(self, wait_s: float | None, *, slow_down: bool, now: float) -> bool:
        """Take in a worker's 429; True where all workers should be told at once."""
        rate = self._traffic.rate
        self._limits.refused(
            now,
            slow_down=slow_down,
            requests_per_s=rate("answered", now),
            tokens_per_s=rate("prompt_tokens", now) + rate("completion_tokens", now),
        )
        if wait_s is None:
            self._limits.stands_alone()
            return False
        if not self._pause.extend(wait_s, now):
            return False
        self._limits.holds()
        self._concurrency.pause(now)
        return True

    def worked_before(self) -> None:
        """Take note that an earlier session of the run was answered: what fails now is an outage."""
        self._patience.answered = True

    def tripped(self, reason: str, dead_end: DeadEnd = "", since: float = 0.0) -> None:
        """Take note that a worker has stopped by itself: it saw nothing but failures.

        dead_end: what they say of the way there, since when.
        """
        self._tripped = True
        self._patience.tripped(reason, dead_end, since)

    def close(self, reason: str) -> None:
        """Send nothing more in this session."""
        if self.closed is None:
            self.closed = reason
            # Once is enough for what may be a line of advice; the end of the session says it again.
            before = self._patience.told
            told = reason if reason != before else "nothing has changed"
            self.events.append(f"provider {self.name}: closed: {told.removesuffix(f': {before}')}")

    # What follows

    def throttle(self, factor: float, *, paused: bool, saturated: bool) -> None:
        """Set what this machine can still take: a share of the requests in flight, none, or no more than now."""
        self._factor = factor
        self._machine_paused = paused
        self._saturated = saturated

    def tick(self, now: float) -> None:
        """Look at what has happened since the last tick, about a quarter of a second ago."""
        total, before = self._traffic.total, self._before
        self._before = total
        self._patience.answered |= total.answered > 0
        answered = total.answered - before.answered
        in_flight = self.in_flight
        self._in_flight_max = max(self._in_flight_max, in_flight)
        paused_s = self._pause.passed_s(now)
        self._paused_s += paused_s
        if self._pause.length_s >= RATE_S:
            # Silence as long as what the rate is figured over. Shorter waits are how a limit paces, and belong to it.
            self._limits.paused(paused_s)
        self._limits.spent(
            total.requests - before.requests,
            total.tokens - before.tokens,
            now,
            refused=total.limited - before.limited,
            early=total.early - before.early,
            answered=answered,
        )
        self._traffic.remember(now)
        self.events += [f"provider {self.name}: {line}" for line in self._limits.learned()]
        if self._pause.ends(now):
            self._concurrency.restart(now, over_s=min(self._pause.length_s, _RELEASE_S))
            if self._pause.length_s >= RATE_S:
                self._limits.held()
        self._breaker.update(
            now,
            answered=answered,
            unhealthy=total.unhealthy - before.unhealthy,
            tripped=self._tripped,
            in_flight=in_flight,
        )
        self._tripped = False
        refused_by_all = self._patience.refused_by_all(
            now, doubted=self._traffic.doubted, answered=total.answered, in_flight=in_flight
        )
        if refused_by_all is not None:
            self.close(refused_by_all)
        unhealthy = total.unhealthy > before.unhealthy
        self._patience.listen(now, requests=total.requests, in_flight=in_flight, unhealthy=unhealthy)
        self._breaker.eager = self.at_dead_end
        self._follow(now)
        if not self._pause.active and self._breaker.state == "closed":
            if now < self._start + _START_S:
                self._concurrency.expect(rate_use.needed(self._limits, total, now), now)
            self._concurrency.update(
                now,
                answered=answered,
                lost=total.lost - before.lost,
                reply_s=total.reply_s - before.reply_s,
                in_flight=in_flight,
                busy=in_flight >= _FULL * self.allowed and self._traffic.wants_slots,
                paced=self._saturated or rate_use.limits(self._limits, self._traffic, now),
            )

    def leases(self, now: float) -> list[tuple[int, Lease]]:
        """Return the leases to send now, with their holders."""
        self.allowed = self._may_be_in_flight(now)
        capacity = Capacity(
            requests=self._limits.requests(now),
            tokens=self._limits.tokens(now),
            in_flight=self.allowed,
            ceiling=self._slots,
            largest=self._limits.largest,
            paused_until=self._pause.until,
            closed=self.closed is not None,
            failing=self._breaker.state in ("open", "probing") and not self._last,
            last=self._last,
            proven=self._before.answered > 0,
            silent=self._limits.silent,
            known=self._patience.answered,
        )
        self._allocator.set_capacity(capacity, now)
        return self._allocator.renew(now)

    def _may_be_in_flight(self, now: float) -> int:
        if self._machine_paused or self.closed is not None:
            return 0
        allowed = self._concurrency.limit
        if (cap := self._breaker.cap(now)) is not None and not self._last:
            allowed = min(allowed, cap)
        if self._pause.active:
            # What the release begins with: workers go by it at once, and the next tick may come a little late.
            allowed = min(allowed, self._concurrency.beginning(self._pause.length_s))
        # A machine that is short of something goes on slowly.
        return max(1, int(allowed * self._factor)) if allowed and self._factor < 1.0 else allowed

    @property
    def _last(self) -> bool:
        """Whether hardly a row is left that has not failed: no probe will tell more than their own tries do.

        Their waits and their attempts spare the provider, and end. Of one that was never answered nothing is known.
        """
        return self._patience.answered and self._breaker.state != "closed" and self._traffic.last

    def _follow(self, now: float) -> None:
        """React to where the breaker has got."""
        state = self._breaker.state
        if state == self._state:
            return
        if state == "open" and self._state == "closed":
            self._concurrency.pause(now)
            self.events.append(f"provider {self.name}: failing; only probes are sent: {self._patience.opened(now)}")
        elif state == "half-open":
            self.events.append(f"provider {self.name}: answers again")
        elif state == "closed":
            self._patience.closed()
        self._state = state

    @property
    def at_dead_end(self) -> bool:
        """Whether nothing was ever answered, and the way there is what fails."""
        return self._patience.at_dead_end

    def hopeless(self, now: float, *, others: bool = False) -> str | None:
        """Return why it is no use to wait any longer for a failing provider; None where it is.

        others: there are providers that may be well.
        """
        return self._patience.hopeless(now, in_flight=self.in_flight, others=others)

    # How it stands

    @property
    def in_flight(self) -> int:
        """Requests in flight, measured."""
        return self._traffic.in_flight

    @property
    def state(self) -> str:
        """As in `reports.ProviderView`."""
        if self.closed is not None:
            return "closed"
        if self._breaker.state != "closed":
            return "recovering" if self._breaker.state == "half-open" else "failing"
        return "holding" if self._pause.active else "open"

    def view(self, now: float) -> ProviderView:
        """Return what the progress shows."""
        total = self._traffic.total
        requests, tokens = self._limits.requests(now), self._limits.tokens(now)
        return ProviderView(
            name=self.name,
            state=self.state,
            in_flight=self.in_flight,
            allowed=self.allowed,
            requests=total.requests,
            answered=total.answered,
            limited=total.limited,
            prompt_tokens=total.prompt_tokens,
            completion_tokens=total.completion_tokens,
            requests_per_s=None if requests is None else requests.rate,
            tokens_per_s=None if tokens is None else tokens.rate,
            held_s=self._pause.until - now if self._pause.active else None,
        )

    def figures(self, now: float) -> ProviderFigures:
        """Return what the session's report says."""
        total = self._traffic.total
        requests, tokens = self._limits.requests(now), self._limits.tokens(now)
        return ProviderFigures(
            state=self.state,
            requests=total.requests,
            answered=total.answered,
            limited=total.limited,
            failed=max(0, total.requests - total.answered - self.in_flight),
            retries=total.retries,
            prompt_tokens=total.prompt_tokens,
            completion_tokens=total.completion_tokens,
            mean_reply_s=round(total.reply_s / total.answered, 3) if total.answered else None,
            held_s=self._paused_s,
            opened=self._breaker.opened,
            in_flight_max=self._in_flight_max,
            odd_headers=total.odd_headers,
            odd_usage=total.odd_usage,
            requests_per_minute=None if requests is None else round(requests.rate * 60, 1),
            tokens_per_minute=None if tokens is None else round(tokens.rate * 60, 1),
        )
