"""Who works in a session: workers are started, told what they need to know, and followed by others when they end."""

import itertools
from collections.abc import Sequence
from contextlib import suppress

import psutil

from rowmill.core.counts import Counters
from rowmill.core.errors import DefectError, MachineError, RowmillError
from rowmill.core.wire import Endpoint
from rowmill.ipc import processes
from rowmill.ipc.messages import Setup
from rowmill.supervisor.hosts import HERE, Host
from rowmill.supervisor.pool import Member
from rowmill.supervisor.session_parts import SessionParts

_UNHEARD_S = 2.0  # of what a lost node did may not have been heard: it stops soon when nothing that it sends arrives


class Staffing:
    """The workers of a session, from the first that is started to the last that ends."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts
        self._endpoints: list[Sequence[Endpoint]] | None = None  # of each step

    def begin(self) -> None:
        """Start the first workers; on a cluster, look for machines to start them on. They wait for what to ask."""
        parts = self._parts
        if parts.cluster is not None:
            given = parts.prepared.input
            inputs = given.parts(parts.directory.spool)
            parts.cluster.begin(parts.mailbox.put, parts.directory, inputs, given.origins())
            return
        for place in range(parts.workers):
            self._start(place, HERE)

    def set_up(self, endpoints: Sequence[Endpoint]) -> None:
        """Set up all that have been started, and from now on all that are: so much is asked, step after step."""
        each = iter(endpoints)
        self._endpoints = [list(itertools.islice(each, len(step.providers))) for step in self._parts.prepared.steps]
        for member in self._parts.pool.members:
            self._set_up(member, self._endpoints[member.step])

    def on_joined(self, host: Host, workers: int) -> None:
        """Start workers on a machine of the cluster that has come, as far as there is work for them."""
        parts = self._parts
        if parts.shutdown.over or parts.shutdown.begun or parts.shards.finishing:
            return
        most = -(-parts.prepared.input.size // parts.prepared.manifest.shard_bytes) or 1
        for _ in range(min(workers, most - len(parts.pool.members))):
            taken = {member.place for member in parts.pool.members}
            self._start(next(place for place in itertools.count() if place not in taken), host)

    def on_end(self, member: Member) -> None:
        """React to the end of a worker process: take its shards back and fill its place."""
        parts = self._parts
        parts.providers.leave(member, parts.clock())
        death = parts.pool.bury(member, parts.progress.work.rows)
        billed = death.board.maybe_billed if death else 0
        if member.host.lost:  # and with it what it had done since its board was carried last
            unheard = round(_UNHEARD_S * parts.progress.rows_per_s)
            billed += min(parts.progress.open_rows(member) - billed, unheard)
        parts.progress.ended(member, billed)
        parts.spending.leave(member, billed)
        with suppress(RowmillError):  # a full disk: its board stays where it is
            parts.spending.write(sync=False)
            parts.pool.forget_boards()
            parts.spending.buried()
        parts.claims.forget(member.incarnation)
        parts.scheduler.give_back(member.step, member.shards.values())
        if death is None or parts.shards.finishing:
            return
        if not death.wanted:
            parts.observer.log(death.report)
        if parts.shutdown.over or parts.shutdown.begun or member.host.lost or member.host.leaving:
            return
        if parts.pool.cannot_work:
            ended_by = MachineError if death.defect is None else DefectError
            how = death.how if death.defect is None else death.defect
            parts.shutdown.stop(ended_by(f"workers keep dying without a row done ({how}); see the messages above"))
            return
        self._start(member.place, member.host)

    def _start(self, place: int, host: Host) -> None:
        with processes.signals_held():
            step = place % len(self._parts.prepared.steps)
            member = self._parts.pool.start(place, self._parts.clock(), host, step)
        if self._endpoints is not None:
            self._set_up(member, self._endpoints[step])

    def _set_up(self, member: Member, endpoints: Sequence[Endpoint]) -> None:
        parts = self._parts
        prepared = parts.prepared
        steps = len(prepared.steps)
        step = prepared.steps[member.step]
        setup = Setup(
            worker=member.place // steps,  # among those of its step
            config=step.config,
            parts=prepared.input.parts(parts.directory.spool),
            layout=step.layout,
            endpoints=[*endpoints],
            slots=parts.slots,
            workers=max(1, parts.workers // steps),
            run_dir=str(parts.directory.path),
            supervisor=psutil.Process().pid,
            incarnation=member.incarnation,
            claimant=parts.claims.claimant(member.incarnation),
            salvage=parts.salvage,
            retry_failed=parts.retry,
            prices=step.prices,
            capped=parts.config.budget.limited,
            left=parts.spending.left,
            run=prepared.manifest.run_id,
            session=parts.progress.id,
            told=Counters.total((parts.told_before, parts.progress.counters(parts.pool))),
            until=prepared.deadline,
            step=step.worker,
            forms=parts.forms.known(member.step),
        )
        parts.pool.set_up(member, setup)
