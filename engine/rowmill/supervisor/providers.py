"""The providers of a run as the supervisor handles them: a controller each, fed by messages, heard by leases."""

from collections.abc import Iterable, Iterator
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
        self._controllers = [
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
        for controller in self._controllers:
            if (figures := session.providers.get(controller.name)) is not None:
                tokens = figures.prompt_tokens + figures.completion_tokens
                controller.spent_before(figures.requests, tokens, seconds_ago)
                if figures.answered:
                    controller.worked_before()

    def worked_before(self, names: Iterable[str]) -> None:
        """Take note of who has answered in an earlier session of the run, also one that left no report."""
        for controller in self._controllers:
            if controller.name in names:
                controller.worked_before()

    def join(self, member: Member, now: float) -> None:
        """Count in a worker that is ready, if it is not yet."""
        if member.incarnation in self._members:
            return
        self._members[member.incarnation] = member
        self._heard[member.incarnation] = now
        for controller in self._controllers:
            controller.join(member.incarnation, now)
        self.pressing = True

    @property
    def joined(self) -> bool:
        """Whether anybody is counted in."""
        return bool(self._members)

    def leave(self, member: Member, now: float) -> None:
        """Count out a worker that has ended."""
        if self._members.pop(member.incarnation, None) is not None:
            for controller in self._controllers:
                controller.leave(member.incarnation, now)
            self.pressing = True

    def heartbeat(self, member: Member, heartbeat: Heartbeat, now: float) -> None:
        """Take in a worker's reports."""
        if member.incarnation not in self._members:
            return
        seconds = max(now - self._heard[member.incarnation], _LEAST_S)
        self._heard[member.incarnation] = now
        for controller, report in zip(self._controllers, heartbeat.providers, strict=True):
            controller.report(member.incarnation, report, seconds, now)
            self.pressing |= controller.pressing

    def take(self, member: Member, message: Leased | RateLimited | Tripped | Closed, now: float) -> None:
        """Take in what a worker says about one provider."""
        controller = self._controllers[message.provider]
        match message:
            case Leased():
                controller.leased(member.incarnation, message.serial, message.returned, now)
                self.pressing = True
            case RateLimited():
                if controller.refused(message.wait_s, slow_down=message.slow_down, now=now):
                    self.pressing = True
            case Tripped():
                controller.tripped(message.reason, message.dead_end, now - message.ago_s)
                controller.tick(now)
                self.pressing = True
            case Closed():
                controller.close(message.reason)
                self.pressing = True

    def tick(self, now: float, factor: float, *, paused: bool, saturated: bool) -> None:
        """Look at what has happened since the last tick; the rest is what this machine can still take."""
        for controller in self._controllers:
            controller.throttle(factor, paused=paused, saturated=saturated)
            controller.tick(now)
        for controller in self._controllers:
            others = any(
                each is not controller and each.closed is None and not each.at_dead_end for each in self._controllers
            )
            if (reason := controller.hopeless(now, others=others)) is not None:
                controller.close(reason)
        self.pressing = True

    def send_leases(self, now: float) -> None:
        """Give every worker its new leases."""
        self.pressing = False
        if not self._leased:
            return
        by_holder: dict[int, list[Lease]] = {}
        for controller in self._controllers:
            for holder, lease in controller.leases(now):
                by_holder.setdefault(holder, []).append(lease)
        for holder, leases in by_holder.items():
            messages.send(self._members[holder].child.pipe, Leases(leases))

    @property
    def none_left(self) -> str | None:
        """Why there is no provider left to send to; None where there is one."""
        reasons = [f"provider {each.name!r}: {each.closed}" for each in self._controllers if each.closed is not None]
        return "; ".join(reasons) if len(reasons) == len(self._controllers) else None

    def events(self) -> Iterator[str]:
        """Take what is worth a line in the log."""
        for controller in self._controllers:
            events, controller.events = controller.events, []
            yield from events

    @property
    def allowed(self) -> int:
        """Requests that may be in flight now."""
        return sum(controller.allowed for controller in self._controllers)

    def views(self, now: float) -> tuple[ProviderView, ...]:
        """Return what the progress shows."""
        return tuple(controller.view(now) for controller in self._controllers)

    def figures(self, now: float) -> dict[str, ProviderFigures]:
        """Return what the report says, by name."""
        return {controller.name: controller.figures(now) for controller in self._controllers}
