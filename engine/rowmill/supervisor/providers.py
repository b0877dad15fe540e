"""The providers of a run as the supervisor handles them: a controller each, fed by messages, heard by leases."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random

import msgspec

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
        self,
        config: Config,
        *,
        workers: int,
        slots: int,
        now: float,
        rng: Random,
        leased: bool = True,
        steps: Sequence[Sequence[int]] = (),
    ) -> None:
        """`slots`: the most requests in flight of one worker. `leased`: False where workers pace themselves.

        `steps`: the numbers of those that each step of the run may ask, as its workers count them; left out: one step,
        which may ask all. `workers`: of all steps together.
        """
        self._leased = leased
        self._steps = steps or [range(len(config.provider))]
        asked_in = [sum(number in step for step in self._steps) for number in range(len(config.provider))]
        self._controllers = [
            ProviderController(
                number,
                provider,
                auto=config.workers.concurrency == "auto",
                slots=slots,
                workers=max(1, workers * asked_in[number] // len(self._steps)),
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
        for controller in self._of(member):
            controller.join(member.incarnation, now)
        self.pressing = True

    @property
    def joined(self) -> bool:
        """Whether anybody is counted in."""
        return bool(self._members)

    def leave(self, member: Member, now: float) -> None:
        """Count out a worker that has ended."""
        if self._members.pop(member.incarnation, None) is not None:
            for controller in self._of(member):
                controller.leave(member.incarnation, now)
            self.pressing = True

    def heartbeat(self, member: Member, heartbeat: Heartbeat, now: float) -> None:
        """Take in a worker's reports."""
        if member.incarnation not in self._members:
            return
        seconds = max(now - self._heard[member.incarnation], _LEAST_S)
        self._heard[member.incarnation] = now
        for controller, report in zip(self._of(member), heartbeat.providers, strict=True):
            controller.report(member.incarnation, report, seconds, now)
            self.pressing |= controller.pressing

    def take(self, member: Member, message: Leased | RateLimited | Tripped | Closed, now: float) -> None:
        """Take in what a worker says about one provider."""
        controller = self._of(member)[message.provider]
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
        for number, controller in enumerate(self._controllers):
            others = all(
                any(
                    other != number and each.closed is None and not each.at_dead_end
                    for other, each in enumerate(self._controllers)
                    if other in step
                )
                for step in self._steps
                if number in step
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
        for number, controller in enumerate(self._controllers):
            for holder, lease in controller.leases(now):
                theirs = self._steps[self._members[holder].step].index(number)
                given = lease if theirs == lease.provider else msgspec.structs.replace(lease, provider=theirs)
                by_holder.setdefault(holder, []).append(given)
        for holder, leases in by_holder.items():
            messages.send(self._members[holder].child.pipe, Leases(leases))

    @property
    def none_left(self) -> str | None:
        """Why there is no provider left to send to, in any of the steps; None where there is one."""
        for step in self._steps:
            asked = [self._controllers[number] for number in step]
            reasons = [f"provider {each.name!r}: {each.closed}" for each in asked if each.closed is not None]
            if len(reasons) == len(asked):
                return "; ".join(reasons)
        return None

    def _of(self, member: Member) -> list[ProviderController]:
        """Return those that a worker asks, as it counts them."""
        return [self._controllers[number] for number in self._steps[member.step]]

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
