"""What reaches the supervisor, and whom it concerns: messages of workers, and what lies in the mailbox."""

import signal
from collections.abc import Sequence

from rowmill.core.defects import told
from rowmill.core.errors import RowmillError
from rowmill.core.histograms import Distributions
from rowmill.ipc import messages
from rowmill.ipc.messages import (
    BatchHeartbeat,
    Closed,
    Defective,
    Formed,
    HandedOver,
    Heartbeat,
    Leased,
    Note,
    RateLimited,
    Ready,
    ShardLeft,
    ShardSealed,
    Short,
    Stop,
    Tripped,
    Want,
)
from rowmill.supervisor.hosts import HERE, Joined, Leaving
from rowmill.supervisor.mailbox import Crashed, Merged, Planned
from rowmill.supervisor.pool import Member
from rowmill.supervisor.session_parts import SessionParts
from rowmill.supervisor.staffing import Staffing


class Incoming:
    """Takes in what arrives, one thing after the other."""

    def __init__(self, parts: SessionParts, staffing: Staffing) -> None:
        self._parts = parts
        self._staffing = staffing
        self._said: set[str] = set()  # notes that are told once

    def hear(self, member: Member) -> None:
        """Take in the next message of a worker's, or its end."""
        parts = self._parts
        message = messages.receive_in_supervisor(member.child.pipe)
        member.heard = parts.clock()
        member.stopped = False
        match message:
            case None:
                self._staffing.on_end(member)
            case Ready():
                if member.state == "starting":
                    member.become("working")
                    if member.host is HERE or not parts.providers.joined:
                        parts.providers.join(member, member.heard)
                    parts.spending.join(member, member.heard)
            case Want():
                member.wants = True
                if member.shards:  # on a node its first rows take a while: a part of the rate would wait for them
                    parts.providers.join(member, member.heard)
            case Heartbeat() | Short() | BatchHeartbeat():
                self._count(member, message)
            case HandedOver(reason=reason):
                parts.shutdown.hand_over(member, reason)
            case Leased() | RateLimited() | Tripped() | Closed():
                parts.providers.take(member, message, member.heard)
            case Formed():
                parts.forms.take(member, message, parts.pool.members)
            case ShardSealed(number=number):
                parts.shards.on_sealed(member.step, member.shards.pop(number))
            case ShardLeft(number=number, totals=totals):
                parts.scheduler.leave(member.step, member.shards.pop(number))
                parts.progress.left(member.step, number, totals)
            case Note(text=text, once=False):
                parts.observer.log(f"worker {member.place}: {text}")
            case Note(text=text):
                if text not in self._said:
                    self._said.add(text)
                    parts.observer.log(text)
            case Defective(reason=reason):
                member.defect = reason
                parts.observer.log(f"worker {member.place}: {reason}")
            case Stop(exit_code=code, reason=reason):
                if member.state != "draining":
                    member.become("draining")  # it does so by itself, and is not to be taken for dead
                parts.shutdown.stop(RowmillError.of(code, reason))

    def hear_out(self, member: Member) -> None:
        """Do as `hear` once the session ends: only figures count any more, and the end."""
        message = messages.receive_in_supervisor(member.child.pipe)
        if message is None:
            self._staffing.on_end(member)
        elif isinstance(message, Heartbeat | Short | BatchHeartbeat):
            member.heard = self._parts.clock()
            self._count(member, message)

    def _count(self, member: Member, message: Heartbeat | Short | BatchHeartbeat) -> None:
        match message:
            case Heartbeat():
                self._parts.progress.heartbeat(member, message)
                self._parts.providers.heartbeat(member, message, member.heard)
                self._parts.spending.heartbeat(member, message)
                self._parts.recorder.measured(message.spread, self._spreads(member, message))
            case Short():
                self._parts.spending.short(member, message)
            case BatchHeartbeat():
                self._parts.spending.batch = message

    def _spreads(self, member: Member, message: Heartbeat) -> Sequence[Distributions]:
        """Return what a worker has measured of each provider, with nothing of those that other steps ask."""
        steps = self._parts.prepared.steps
        if len(steps) == 1:
            return message.spreads
        theirs = [[Distributions() for _ in step.providers] for step in steps]
        theirs[member.step] = message.spreads or [message.spread]
        return [spread for step in theirs for spread in step]

    def take_mail(self) -> None:
        """Take in what threads and signal handlers have left."""
        parts = self._parts
        for item in parts.mailbox.take():
            match item:
                case Planned():
                    parts.shards.on_planned(item)
                case Merged():
                    parts.shards.on_merged(item)
                case Joined(host=host, workers=workers):
                    self._staffing.on_joined(host, workers)
                case Leaving(host=host, seconds=seconds):
                    parts.pool.drain(seconds, host)
                case str():
                    parts.observer.log(item)
                case Crashed(error=error):
                    parts.shutdown.stop(told(error, parts.directory.log))
                case signal.Signals():
                    parts.shutdown.interrupt(item)
