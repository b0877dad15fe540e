"""A worker process: reads its shards, keeps requests in flight, records outcomes, seals what is finished.

Three parts run side by side on one uvloop loop: the feeder reads rows into the dispatcher, the dispatcher's slots send
them, the `Committer` puts what they recorded on disk, group by group. Everything else answers the supervisor.

The worker ends in one of three ways: told to drain; the pipe to the supervisor closes, which is the same; or an
error that would stop any worker, which it reports before it goes.
"""

import asyncio
import resource
from functools import partial
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

from rowmill.core.amounts import Amount
from rowmill.core.counts import Counters
from rowmill.core.defects import told
from rowmill.core.errors import RowmillError
from rowmill.files.input.shard_readers import open_reader
from rowmill.flow.retry import RetryBudget, RetryPolicy
from rowmill.ipc import messages, processes
from rowmill.ipc.channel import Channel
from rowmill.ipc.memory import peak_rss
from rowmill.ipc.messages import (
    Allow,
    Assign,
    ClaimsAnswer,
    Drain,
    Durable,
    Heartbeat,
    Leased,
    Leases,
    Note,
    Ready,
    Recall,
    Setup,
    ShardLeft,
    Short,
    Stop,
    UseForm,
    Want,
)
from rowmill.store.checkpoint import Checkpoint
from rowmill.transport import faults
from rowmill.worker.defects import Defects
from rowmill.worker.documents import with_documents
from rowmill.worker.job import OpenShard
from rowmill.worker.live import opening
from rowmill.worker.live.carrier import Carrier
from rowmill.worker.live.committer import Committer
from rowmill.worker.live.dispatcher import Dispatcher
from rowmill.worker.live.measured import taken_together
from rowmill.worker.live.tally import Tally
from rowmill.worker.outcome_writer import OutcomeWriter
from rowmill.worker.supervised import SupervisedWorker

if TYPE_CHECKING:
    from rowmill.files.input.jsonl import ShardReader
    from rowmill.files.input.tables import TableReader
    from rowmill.worker.live.carried_claims import CarriedClaims
    from rowmill.worker.live.dedup import Dedup  # sqlite3 and all: only where requests are shared
    from rowmill.worker.live.handed_on import HandedOn

_ORPHAN_DRAIN_S = 5.0  # without a supervisor: enough for most replies that are already paid for, well under 10 s
_REST_S = 30.0  # where rows cannot be read any more: for the replies of those that could, as after an interrupt
_SILENT_S = 8.0  # after the first lease, or the first shard of a later step: if nothing has come by then, it is told
_STREAK = 100  # rows, over all workers, that fail for good with one and the same error until their provider is closed
_SHORTEST_STREAK = 25  # and in each
_FEELING = 5  # requests in flight, over all workers, until the first answer or for the first half second


def _feeling(worker: int, workers: int) -> int:
    """Return this worker's part of the first requests."""
    return _FEELING // workers + (worker < _FEELING % workers)


class _Worker(SupervisedWorker):
    def __init__(self, setup: Setup, channel: Channel) -> None:
        super().__init__(setup, channel)
        self._committer = Committer(
            sealed=self._shard_files.sealed,
            codec=self._codec,
            delay_s=setup.config.checkpoint.commit_ms / 1000,
            on_synced=self._on_synced,
            on_sealed=self._on_sealed,
            on_left=lambda number, totals: self._tell(ShardLeft(number, totals)),
            on_failed=self._on_seal_failed,
        )
        self._assigned: asyncio.Queue[Assign] = asyncio.Queue()
        step = setup.step
        before = None if step is None else step.previous
        self._previous = None if before is None else self._directory.of_step(before)
        self._wants = False  # a shard, and there is none yet
        self._drain_s: float | None = None
        self._stopped = False  # the supervisor has been told why no worker could go on
        self._orphaned = False  # the supervisor is gone
        self._listening = False
        self._carrier = Carrier(self._tell)
        self._carried_claims: CarriedClaims | None = None
        self._reservations = opening.reservations(setup, self._on_short) if setup.capped else None

    async def run(self) -> None:
        setup = self._setup
        loop = asyncio.get_running_loop()
        board = opening.board(setup, self._directory)
        rng = Random(setup.incarnation)  # noqa: S311 - jitter, no secret
        config = setup.config
        defects = Defects(self._note)
        self._writer = OutcomeWriter(
            task=self._task,
            board=board,
            include=frozenset(config.output.include),
            on_recorded=self._committer.on_recorded,
            defects=defects,
            step="" if setup.step is None else setup.step.name,
        )
        self._providers = opening.providers(setup, self._task)
        self._dispatcher = Dispatcher(
            task=self._task,
            providers=self._providers,
            retry=RetryPolicy(config.retry.attempts, rng, deadline_s=config.retry.deadline_s),
            budget=RetryBudget(config.retry.share, config.retry.floor_per_s / setup.workers, monotonic()),
            board=board,
            slots=setup.slots,
            streak=max(_STREAK // setup.workers, _SHORTEST_STREAK),
            asks=config.retry.invalid_output,
            writer=self._writer,
            tell=self._tell,
            rng=rng,
            defects=defects,
            on_idle=self._committer.hasten,
            reservations=self._reservations,
            # Of several providers each has its part by weight from the first request on.
            feeling=_feeling(setup.worker, setup.workers) if len(config.provider) == 1 else None,
            rules=opening.finish_rules(config),
        )
        self._tally = Tally(board.counts, self._providers, self._count, list(faults.TABLE))
        self._dispatcher.keep(self._tally)
        self._dedup = self._share() if config.cache.use != "off" else None
        self._begin_to_hear()
        processes.stay_awake(self._dispatcher.halt)
        self._tell(Ready())
        parts = [
            loop.create_task(part)
            for part in (self._feed(), self._committer.run(self._writer), self._send_heartbeats())
        ]
        if self._dedup is not None:
            parts.append(loop.create_task(self._dedup.run()))
        stop = loop.create_task(self._draining.wait())
        try:
            waited: list[asyncio.Future[Any]] = [stop, self._dispatcher.ended, *parts]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            abandoned = await self._finish(parts)
        finally:
            await self._hear_no_more()
            self._close_documents()
            for provider in self._providers:
                await provider.transport.close()
        if abandoned and self._orphaned:
            board.note_unsynced(abandoned)  # nobody is there to be told: the next session finds it on the board
        self._tally.leave()
        board.leave()

    def _share(self) -> "Dedup":
        """Share requests with the other workers."""
        setup, feeder = self._setup, self._dispatcher.feeder
        if setup.carried:
            self._carried_claims = opening.carried_claims(setup, self._tell)
        claims = self._carried_claims or opening.claims(setup, self._directory.claims)
        dedup = opening.dedup(setup, claims, record=self._writer.follow, send=feeder.lead, note=self._note)
        if self._carried_claims is not None:
            self._carried_claims.on_answer = dedup.hurry
        feeder.share(dedup)
        return dedup

    # Messages

    def _hear(self, message: messages.ToWorker) -> None:
        if isinstance(message, Leases):
            if self._previous is None:  # else there may be nothing to ask for long
                self._listen()
            for lease, returned in self._dispatcher.apply(message.leases):
                self._tell(Leased(lease.provider, lease.serial, returned))
        elif isinstance(message, Allow):
            self._dispatcher.allow(message.amount)
        elif isinstance(message, Recall):
            assert self._reservations is not None
            self._reservations.recalled()
        elif isinstance(message, Assign):
            self._assigned.put_nowait(message)
        elif isinstance(message, Drain):
            self._stop(message.seconds)
        elif isinstance(message, Durable):
            self._carrier.stored(message)
        elif isinstance(message, UseForm):
            self._providers[message.provider].take_form(message.form, monotonic(), message.model)
        elif isinstance(message, ClaimsAnswer):
            assert self._carried_claims is not None
            self._carried_claims.answered(message)

    def _listen(self) -> None:
        """Begin to wait for a first answer."""
        if not self._listening:
            self._listening = True
            asyncio.get_running_loop().call_later(_SILENT_S, self._tell_silence)

    def _tell_silence(self) -> None:
        """Say of whom nothing has come yet: there may be nobody, or a model that takes its time."""
        for provider, configured in zip(self._providers, self._setup.config.provider, strict=True):
            if text := provider.silence(_SILENT_S, configured.timeout_s):
                self._tell(Note(text, once=True))

    def _left_alone(self) -> None:
        self._orphaned = True
        self._carrier.give_up()
        self._stop(_ORPHAN_DRAIN_S)

    def _stop(self, seconds: float) -> None:
        """Begin to drain; a second call can only shorten it."""
        self._drain_s = seconds if self._drain_s is None else min(seconds, self._drain_s)
        self._dispatcher.close()
        self._dispatcher.hasten(self._drain_s)
        self._draining.set()

    def _on_short(self, left: Amount, need: Amount) -> None:
        self._tell(Short(left, need))

    # The parts

    async def _feed(self) -> None:
        """Open assigned shards, one after the other, and read their rows into the dispatcher as it wants them."""
        setup = self._setup
        while True:
            await self._dispatcher.feeder.hungry()
            await self._committer.room()
            self._tell(Want())
            self._wants = self._assigned.empty()
            assign = await self._assigned.get()
            self._wants = False
            if self._previous is not None:
                self._listen()
            shard = assign.shard
            path = self._shard_files.checkpoint_path(shard)
            carry = partial(self._carrier.carry, shard.number) if setup.carried else None
            checkpoint = await Checkpoint.open(path, shard, salvage=setup.salvage, carry=carry)
            if checkpoint.cut_bytes:
                self._note(f"{path.name}: cut {checkpoint.cut_bytes} bytes of a torn group; its rows are redone")
            if setup.retry_failed:
                checkpoint.forget_failed()
            only = checkpoint.failed_before() if setup.retry_failed else None
            opened = OpenShard(shard, checkpoint, frozenset(assign.suspects), frozenset(assign.quarantined), only)
            nothing = checkpoint.complete or opened.left
            self._committer.add(opened)
            if not nothing:
                async with self._reader(assign) as reader:
                    row = shard.first_row
                    while lines := await reader.read():
                        if self._previous is not None:
                            self._dispatcher.feeder.pass_over(opened, row, lines)
                        async for first, ready in with_documents(self._task, opened, row, lines):
                            self._dispatcher.feeder.feed(opened, first, ready)
                            await self._dispatcher.feeder.hungry()
                            await self._committer.keeps_up()
                        row += len(lines)
                self._dispatcher.feeder.fed()

    def _reader(self, assign: Assign) -> "ShardReader | TableReader | HandedOn":
        """Return what reads the rows of a shard: of the input, or of what the step before has handed on."""
        shard = assign.shard
        if self._previous is not None:
            from rowmill.worker.live.handed_on import HandedOn  # who asks the first question loads nothing of others

            return HandedOn(self._previous.sealed_path(shard), shard)
        return open_reader(assign.part or self._setup.parts[shard.part], shard, self._columns)

    def _on_synced(self) -> None:
        self._dispatcher.synced()
        self._tally.keep()
        super()._on_synced()

    def _on_seal_failed(self) -> None:
        self._stop(0.0)

    def _between_heartbeats(self, seconds: float) -> None:
        if self._carrier.stuck:
            self._dispatcher.halt()  # until the next lease, which says that the driver is there
        self._dispatcher.gaps.tick()
        self._dispatcher.backlog.look_ahead(seconds)

    def _send_progress(self) -> None:
        self._tell(self._progress())
        for provider in self._providers:
            provider.reported()

    def _count(self) -> Counters:
        counters = self._dispatcher.count()
        counters.rows = self._committer.rows
        counters.failed = self._committer.rows_failed
        return counters

    def _progress(self) -> Heartbeat:
        dispatcher = self._dispatcher
        backlog = dispatcher.backlog
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counters = self._count()
        self._tally.keep()
        rows_wait, paced = backlog.has_rows(monotonic()), backlog.paced is not None
        last = self._wants and backlog.untried <= backlog.waiting
        none = last and not backlog.waiting and not dispatcher.in_flight
        spread, spreads = taken_together(dispatcher.measured, [provider.measured for provider in self._providers])
        beat = Heartbeat(
            counters=counters,
            in_flight=dispatcher.in_flight,
            in_flight_max=dispatcher.in_flight_max,
            waiting=backlog.waiting,
            next_due_s=dispatcher.next_due_s,
            rss_max=peak_rss(),
            cpu_s=usage.ru_utime + usage.ru_stime,
            shards={number: opened.checkpoint.acknowledged for number, opened in self._committer.open.items()},
            providers=[
                provider.taken(rows_wait=rows_wait, paced=paced, last=last, none=none) for provider in self._providers
            ],
            lag_ms=round(self._lag_ms, 1),
            retries_short=backlog.budget_short,
            spread=spread,
            spreads=spreads,
            spent=Amount() if self._reservations is None else self._reservations.credit.spent,
            reserved=Amount() if self._reservations is None else self._reservations.credit.reserved,
        )
        backlog.budget_short = False
        return beat

    # The end

    async def _finish(self, parts: list[asyncio.Task[None]]) -> int:
        """Let what is in flight come back, put it on disk, say how far it came.

        Returns how many requests were given up.
        """
        slots = [self._dispatcher.ended.result()] if self._dispatcher.ended.done() else []
        ended = (part.exception() for part in [*parts, *slots] if part.done() and not part.cancelled())
        failed = self._committer.failed or next(ended, None)
        if failed is not None:
            reading = parts[0].done() and self._committer.failed is None and not parts[1].done()
            self._report(failed)
            self._stop(_REST_S if reading else 0.0)  # what cannot be written down is not waited for
        abandoned = await self._dispatcher.drained(self._drain_s or 0.0)
        if not self._orphaned:  # else the board says so
            self._dispatcher.counters.maybe_billed_twice += abandoned
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        try:
            await self._committer.close(self._writer)
            if self._dedup is not None:
                await self._dedup.close()
        except (RowmillError, OSError) as error:
            # What was answered and could not be written down is asked for again.
            self._dispatcher.counters.maybe_billed_twice += self._writer.pending_rows
            self._report(error)
        if self._reservations is not None:
            self._reservations.recalled()
        self._tell_progress()
        return abandoned

    def _report(self, error: BaseException) -> None:
        """Tell the supervisor why no worker could go on. A defect goes up and ends this one, and no other."""
        failure = told(error, self._directory.log) if isinstance(error, OSError) else error
        if not isinstance(failure, RowmillError):
            raise failure
        if not self._stopped and not self._orphaned:
            self._stopped = True
            self._tell(Stop(failure.exit_code, str(failure)))


main = _Worker.main
