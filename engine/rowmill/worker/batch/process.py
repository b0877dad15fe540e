"""The worker of batches: the one process of a run's batch phase that touches rows and talks to the provider.

To the supervisor it is a worker as any other: it wants shards, sends heartbeats, seals what is complete, drains when
told. It takes all shards, for what comes back is for any of them, and it sends nothing by itself: the `BatchScheduler`
does.
"""

import asyncio
import resource
import time
from math import inf
from random import Random

from rowmill.core.counts import ProviderReport
from rowmill.core.defects import told
from rowmill.core.errors import RowmillError
from rowmill.core.rows import Shard
from rowmill.flow import deadline
from rowmill.ipc import messages
from rowmill.ipc.channel import Channel
from rowmill.ipc.memory import peak_rss
from rowmill.ipc.messages import (
    Assign,
    BatchHeartbeat,
    Drain,
    HandedOver,
    Heartbeat,
    NoMore,
    Ready,
    Setup,
    ShardLeft,
    Stop,
    Want,
)
from rowmill.store import durable
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.in_flight import InflightBoard
from rowmill.transport.batch_api import BatchApi
from rowmill.worker.batch.client import BatchClient, Clock, End
from rowmill.worker.batch.files import BatchFiles
from rowmill.worker.batch.lifecycle import BatchLifecycle
from rowmill.worker.batch.requests import request_counts
from rowmill.worker.batch.reservations import BatchReservations
from rowmill.worker.batch.scheduler import BatchScheduler, HandOver
from rowmill.worker.batch.shards import ShardAccess
from rowmill.worker.defects import Defects
from rowmill.worker.outcome_writer import OutcomeWriter
from rowmill.worker.supervised import SupervisedWorker

_SHORT_S = 5.0  # a session that ends leaves collecting so long; batches go on without it


class _BatchWorker(SupervisedWorker):
    def __init__(self, setup: Setup, channel: Channel) -> None:
        super().__init__(setup, channel)
        self._number = setup.config.provider.index(setup.config.batch_provider)

    async def run(self) -> None:
        setup = self._setup
        config, provider = setup.config, setup.config.batch_provider
        endpoint = setup.endpoints[self._number]
        clock, rng = Clock(), Random()  # noqa: S311 - jitter, no secret
        task = self._task
        writer = OutcomeWriter(
            task=task,
            board=InflightBoard.unseen(),  # a row whose outcome is lost is read out of its results again
            include=frozenset(config.output.include),
            on_recorded=lambda _: None,  # `ShardAccess` asks by itself what is to be committed
            defects=Defects(self._note),
        )
        self._shards = shards = ShardAccess(
            inputs=setup.parts,
            directory=self._directory,
            task=task,
            columns=self._columns,
            codec=self._codec,
            writer=writer,
            salvage=setup.salvage,
            retry_failed=setup.retry_failed,
            want=lambda: self._tell(Want()),
            may_seal=self._may_seal,
            on_sealed=self._on_sealed,
            on_synced=self._on_synced,
            note=self._note,
        )
        self._journal = journal = BatchJournal.open(self._directory.journal, setup.run)
        price = setup.prices[self._number] if setup.prices else None
        self._reservations = reservations = BatchReservations(journal, setup.left, price, task.reply_tokens)
        self._sent_before = setup.told  # and not what the journal has: a killed worker may not have told of all of it
        self._files = files = BatchFiles(
            shards=shards,
            config=config,
            reservations=reservations,
            ask_model=None if provider.model is None else task.asking(provider.model),
            secrets=endpoint.secrets,
        )
        known = any(t.file_id is not None for t in journal.tries.values())
        api = BatchApi(endpoint, rng=rng, publish=durable.publish_written, known=known)
        client = BatchClient(
            api,
            provider=provider.name,
            config=config.batch,
            clock=clock,
            note=self._note,
            known=known,
        )
        self._lifecycle = BatchLifecycle(
            journal=journal,
            client=client,
            files=files,
            folder=self._directory.batches,
            run=setup.run,
        )
        self._scheduler = BatchScheduler(
            journal=journal,
            lifecycle=self._lifecycle,
            files=files,
            reservations=reservations,
            clock=clock,
            retry_failed=setup.retry_failed,
        )
        loop = asyncio.get_running_loop()
        self._begin_to_hear()
        self._tell(Ready())
        work = loop.create_task(self._work())
        heartbeat = loop.create_task(self._send_heartbeats())
        stop = loop.create_task(self._draining.wait())
        try:
            await asyncio.wait((work, heartbeat, stop), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                # What is under way at the provider goes on there; what is half done here is done again.
                work.cancel()
                await asyncio.wait((work,), timeout=_SHORT_S)
            for task_ in (heartbeat, stop):
                task_.cancel()
            self._tell_progress()
            if work.done() and not work.cancelled():
                work.result()
        finally:
            await self._hear_no_more()
            self._close_documents()
            await api.close()
            journal.close()

    async def _work(self) -> None:
        """Run the batches to their end, and tell the supervisor which it was."""
        try:
            with durable.machine_errors(f"use {self._directory.batches}"):
                if self._setup.config.task.mode == "live":
                    self._scheduler.switch(deadline.cancel_seconds(inf), "batches of an earlier session are taken in")
                elif self._setup.until is not None:
                    # How long the live API takes is known once every row is. A resume may be late already: then no
                    # further batch is made.
                    await self._shards.reach(inf)
                    self._look_at_deadline()
                await self._scheduler.run()
                if self._setup.retry_failed and self._setup.config.task.mode == "batch":
                    await self._leave_the_rest()
        except HandOver as over:
            self._tell_progress()
            self._tell(HandedOver(str(over)))
        except End as end:
            self._tell_progress()
            self._tell(Stop(end.exit_code, str(end)))
        except (RowmillError, OSError) as error:
            failure = told(error, self._directory.log)
            self._tell(Stop(failure.exit_code, str(failure)))
        else:
            await self._draining.wait()
        self._draining.set()

    async def _leave_the_rest(self) -> None:
        """Tell of the shards whose failed rows were asked again, and whose others were never asked."""
        await self._shards.reach(inf)
        left = self._shards.unsealed
        if left:
            self._tell_progress()
        for shard in left:
            self._tell(ShardLeft(shard.number, self._shards.acknowledged[shard.number]))

    # Messages

    def _hear(self, message: messages.ToWorker) -> None:
        if isinstance(message, Assign):
            self._shards.assigned(message.shard)
        elif isinstance(message, NoMore):
            self._shards.assigned(None)
        elif isinstance(message, Drain):
            self._draining.set()

    def _left_alone(self) -> None:
        self._draining.set()

    def _may_seal(self, shard: Shard) -> bool:
        """Whether every batch with rows of this shard is over: only then is noted what they cost."""
        end = shard.first_row + shard.rows
        return not any(t.open and t.first_row < end and shard.first_row < t.end_row for t in self._journal.current())

    # Progress

    def _between_heartbeats(self, seconds: float) -> None:  # noqa: ARG002 - of no interest here
        self._look_at_deadline()

    def _look_at_deadline(self) -> None:
        """Go over to the live API once that takes all the time that is left."""
        setup, whole_s = self._setup, self._setup.config.batch.deadline_s
        if setup.until is None or whole_s is None or self._lifecycle.session.switched or not self._shards.no_more:
            return
        rows = sum(shard.rows for shard in self._shards.added) - sum(t.rows for t in self._shards.acknowledged.values())
        rows -= sum(shard.rows for shard in self._shards.added if self._shards.sealed(shard))
        tries = self._journal.tries.values()
        asked, requests = sum(t.rows for t in tries), sum(t.requests for t in tries)
        tokens = sum(t.reserved.tokens for t in tries) / asked * rows if asked else 0.0
        left = rows * requests / asked if asked else rows / self._shards.task.rows_per_request
        live_s = deadline.live_seconds(left, tokens, setup.config.provider, whole_s)
        now = time.time()
        if now >= deadline.switches_at(setup.until, whole_s, live_s):
            away = f"is {setup.until - now:.0f} s away" if now < setup.until else f"was {now - setup.until:.0f} s ago"
            self._note(f"{left:,.0f} requests are left, and the deadline {away}")
            self._scheduler.switch(deadline.cancel_seconds(whole_s))

    def _send_progress(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counters = self._files.counters
        sent, before = request_counts(self._journal.tries.values()), self._sent_before
        counters.rows = self._shards.rows
        counters.failed = self._shards.rows_failed
        counters.requests = max(0, sent.requests - before.requests)
        counters.retries = max(0, sent.retries - before.retries)
        counters.maybe_billed_twice = max(0, sent.maybe_billed_twice - before.maybe_billed_twice)
        report = ProviderReport(
            requests=counters.requests,
            answered=counters.replies,
            retries=counters.retries,
            odd_usage=self._files.odd_usage,
        )
        none = ProviderReport()
        self._tell(
            Heartbeat(
                counters=counters,
                in_flight=0,
                in_flight_max=0,
                waiting=0,
                next_due_s=None,
                rss_max=peak_rss(),
                cpu_s=usage.ru_utime + usage.ru_stime,
                shards=self._shards.acknowledged,
                providers=[
                    report if number == self._number else none for number in range(len(self._setup.config.provider))
                ],
                lag_ms=round(self._lag_ms, 1),
                retries_short=False,
            )
        )
        current = self._journal.current()
        self._tell(
            BatchHeartbeat(
                batches=self._scheduler.views,
                parts=len(current),
                collected=sum(t.phase == "collected" and not t.left for t in current),
                spent=self._reservations.spent,
                wasted=self._reservations.wasted,
                reserved=self._reservations.reserved,
                doubtful=self._reservations.doubtful,
            )
        )


main = _BatchWorker.main
