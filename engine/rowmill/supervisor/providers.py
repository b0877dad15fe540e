"""The providers of a run as the supervisor handles them: a controller each, fed by messages, heard by leases."""

from collections.abc import Iterator
from random import Random

from rowmill.core.config import Config
from rowmill.core.leases import Lease
from rowmill.core.reports import ProviderFigures, ProviderView, SessionReport
from rowmill.flow.controller import ProviderController
from rowmill.ipc import messages
from rowmill.ipc.messages import Closed, Heartbeat, Leased, Leases, RateLimited, Tripped
from rowmill.supervisor.pool import Member

_LEAST_S = 0.01  # between two reports: what came in so short a time says little about a rate


class Providers:
    """All providers of one session.

    pressing: a lease should go out now rather than at the next tick.
    """

    def __init__(
        self, config: Config, *, workers: int, slots: int, now: float, rng: Random, leased: bool = True
    ) -> None:
        """`slots`: the most requests in flight of one worker. `leased`: False where workers pace themselves."""
        self._leased = leased
        self._governors = [
            ProviderController(
                number,
                provider,
                auto=config.workers.concurrency == "auto",
                slots=slots,
                workers=workers,
                now=now,
                rng=rng,
            )
            for number, provider in enumerate(config.provider)
        ]
        self._members: dict[int, Member] = {}
        self._heard: dict[int, float] = {}
        self.pressing = False

    def spent_before(self, session: SessionReport, seconds_ago: float) -> None:
        """Take in what an earlier session of the run, which ended so long ago, has sent."""
        for governor in self._governors:
            if (figures := session.providers.get(governor.name)) is not None:
                tokens = figures.prompt_tokens + figures.completion_tokens
                governor.spent_before(figures.requests, tokens, seconds_ago)

    def join(self, member: Member, now: float) -> None:
        """Count in a worker that is ready."""
        self._members[member.incarnation] = member
        self._heard[member.incarnation] = now
        for governor in self._governors:
            governor.join(member.incarnation, now)
        self.pressing = True

    def leave(self, member: Member, now: float) -> None:
        """Count out a worker that has ended."""
        if self._members.pop(member.incarnation, None) is not None:
            for governor in self._governors:
                governor.leave(member.incarnation, now)
            self.pressing = True

    def beat(self, member: Member, beat: Heartbeat, now: float) -> None:
        """Take in a worker's reports."""
        if member.incarnation not in self._members:
            return
        seconds = max(now - self._heard[member.incarnation], _LEAST_S)
        self._heard[member.incarnation] = now
        for governor, report in zip(self._governors, beat.providers, strict=True):
            governor.report(member.incarnation, report, seconds, now)
            self.pressing |= governor.pressing

    def take(self, member: Member, message: Leased | RateLimited | Tripped | Closed, now: float) -> None:
        """Take in what a worker says about one provider."""
        governor = self._governors[message.provider]
        match message:
            case Leased():
                governor.leased(member.incarnation, message.serial, message.returned, now)
                self.pressing = True
            case RateLimited():
                if governor.refused(message.wait_s, slow_down=message.slow_down, now=now):
                    self.pressing = True
            case Tripped():
                governor.tripped(message.reason)
                governor.tick(now)
                self.pressing = True
            case Closed():
                governor.close(message.reason)
                self.pressing = True

    def tick(self, now: float, factor: float, *, paused: bool, saturated: bool) -> None:
        """Look at what has happened since the last tick; the rest is what this machine can still take."""
        for governor in self._governors:
            governor.throttle(factor, paused=paused, saturated=saturated)
            governor.tick(now)
            if (reason := governor.hopeless(now)) is not None:
                governor.close(reason)
        self.pressing = True

    def send_leases(self, now: float) -> None:
        """Give every worker its new leases."""
        self.pressing = False
        if not self._leased:
            return
        by_holder: dict[int, list[Lease]] = {}
        for governor in self._governors:
            for holder, lease in governor.leases(now):
                by_holder.setdefault(holder, []).append(lease)
        for holder, leases in by_holder.items():
            messages.send(self._members[holder].child.pipe, Leases(leases))

    @property
    def none_left(self) -> str | None:
        """Why there is no provider left to send to; None where there is one."""
        reasons = [f"provider {each.name!r}: {each.closed}" for each in self._governors if each.closed is not None]
        return "; ".join(reasons) if len(reasons) == len(self._governors) else None

    def events(self) -> Iterator[str]:
        """Take what is worth a line in the log."""
        for governor in self._governors:
            events, governor.events = governor.events, []
            yield from events

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return sum(governor.allowed for governor in self._governors)

    def views(self, now: float) -> tuple[ProviderView, ...]:
        """Return what the progress shows."""
        return tuple(governor.view(now) for governor in self._governors)

    def figures(self, now: float) -> dict[str, ProviderFigures]:
        """Return what the report says, by name."""
        return {governor.name: governor.figures(now) for governor in self._governors}
