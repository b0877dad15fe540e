"""The supervisor: plans, assigns, watches, merges. One process, one loop, and it never touches a row.

The loop waits for whatever comes first: a message from a worker, the end of a worker, or something in the mailbox (a
planned shard, a merged one, a signal). Everything is decided here, in order, by one thread.
"""

import itertools
import multiprocessing.connection
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Literal

import psutil

from rowmill.core.counts import Counters, Totals
from rowmill.core.defects import told
from rowmill.core.errors import DefectError, ExitCode, MachineError, ProviderError, RowmillError
from rowmill.core.reports import Cost, Observer, SessionReport, Snapshot
from rowmill.core.wire import Endpoint
from rowmill.ipc import messages, processes
from rowmill.ipc.memory import peak_rss
from rowmill.ipc.messages import (
    BatchHeartbeat,
    Closed,
    Defective,
    HandedOver,
    Heartbeat,
    Leased,
    NoMore,
    Note,
    RateLimited,
    Ready,
    Setup,
    ShardLeft,
    ShardSealed,
    Short,
    Stop,
    Tripped,
    Want,
)
from rowmill.supervisor.claims import ClaimCleanup
from rowmill.supervisor.endpoints import EmbeddedEndpoint, EndpointStart, worker_count
from rowmill.supervisor.hosts import Cluster, Host, Joined, Leaving
from rowmill.supervisor.machine.monitor import Condition, Monitor
from rowmill.supervisor.mailbox import Crashed, Mailbox, Merged, Planned
from rowmill.supervisor.pool import Member, Pool
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.progress import Progress, seconds_since
from rowmill.supervisor.providers import Providers
from rowmill.supervisor.shards import ShardPipeline, ShardScheduler
from rowmill.supervisor.shutdown import DRAIN_S, LATE_S, Shutdown
from rowmill.supervisor.spending import SpendingTracker

Mode = Literal["live", "batch"]

_LEFT = "the failed rows were asked again; others of the run are not asked yet"
_TICK_S = 0.25  # progress is shown and silence looked for this often
_UNHEARD_S = 2.0  # of what a lost node did may not have been heard: it stops soon when nothing that it sends arrives
_ASLEEP_S = 5.0  # a loop that has not ticked for so long did not run, whatever kept it


class Supervisor:
    """Runs one prepared run to its end, or to where it must stop.

    failures: failed rows by class, once every row has its line in the output.
    """

    def __init__(
        self,
        prepared: Prepared,
        observer: Observer,
        *,
        mode: Mode = "live",
        salvage: bool = False,
        retry: bool = False,
        slots: int = 64,
        notices: Sequence[str] = (),
        earlier: Sequence[SessionReport] = (),
        billed: int = 0,
        before: Totals | None = None,
        embedded: EmbeddedEndpoint | None = None,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`mode`: the phase of the run, by live requests or by batches. `retry`: rows that have failed are done again.

        `embedded` is the endpoint to start where the configuration asks for the simulator; `slots`: the most requests
        in flight of one worker; `notices`: what was found before the start; `earlier`: the run's sessions so far,
        `billed` requests that may have been answered in some that nobody knows of, and `before` what the sessions have
        come to, where nothing of it is done again. `cluster`: where the workers are to run, instead of here.
        """
        self._config = prepared.config
        self._directory = prepared.directory
        self._manifest = prepared.manifest
        self._prepared = prepared
        self._observer = observer
        self._salvage = salvage
        self._retry = retry
        self._embedded = embedded
        self._clock = clock
        now = clock()
        self._mode = mode
        # Batches are paced by the provider: one process keeps up with any.
        batch = mode == "batch"
        self._cluster = None if batch else cluster
        wanted = None if self._cluster is None else self._cluster.workers
        most = worker_count(prepared.config, prepared.input.size, prepared.manifest.shard_bytes, wanted)
        self._workers = 1 if batch else most
        self._pool = Pool(prepared.directory, batch=batch)
        self._slots = slots
        self._providers = Providers(
            prepared.config,
            workers=self._workers,
            slots=slots,
            now=now,
            rng=Random(),  # noqa: S311 - jitter, no secret
            leased=not batch,
        )
        self._progress = Progress(now, notices, before)
        self._progress.billed_twice = billed
        self._spending = SpendingTracker(prepared, mode=mode, workers=self._workers)
        self._providers.worked_before(self._spending.answered_before)
        self._spending.session = self._session
        # Of batches the journal has all requests: what a killed worker had not told, the next one tells.
        self._told_before = Counters.total(each.counters for each in earlier if each.mode == mode == "batch")
        for session in earlier:
            self._providers.spent_before(session, seconds_since(session.ended))
        self._monitor = Monitor(
            (prepared.directory.path, prepared.config.output_path, prepared.config.errors_path),
            memory=prepared.config.machine.memory,
            min_free_mb=prepared.config.machine.min_free_mb,
        )
        self._condition = Condition()
        self._mailbox = Mailbox()
        self.failures: dict[str, int] = {}
        self._claims = ClaimCleanup(prepared, fresh=retry)
        self._scheduler = ShardScheduler()
        self._shards = ShardPipeline(prepared, self._scheduler, self._progress, self._mailbox, retry=retry)
        self._shutdown = Shutdown(
            self._pool,
            drain_s=min(DRAIN_S, max(provider.timeout_s for provider in prepared.config.provider)),
            doing="batches go on at the provider" if batch else "finishing what is in flight",
            clock=clock,
            log=observer.log,
        )
        self._endpoints: list[Endpoint] | None = None
        self._said: set[str] = set()  # notes that are told once
        self._ticked = self._measured = now

    # The run

    def run(self) -> SessionReport:
        """Run to the end; the report says which. Errors that end the run are in the report, not raised."""
        starting: EndpointStart | None = None
        with processes.signals_noted(self._mailbox.put):
            try:
                self._spending.begin()
                self._claims.begin()
                self._shards.open_output()
                with processes.signals_held():
                    starting = EndpointStart(
                        self._config, self._prepared.endpoints, self._embedded, batch=self._mode == "batch"
                    )
                    if self._cluster is None:
                        for place in range(self._workers):
                            self._pool.start(place, self._clock())
                    else:
                        self._begin_cluster(self._cluster)
                self._shards.start_planning()
                self._endpoints = starting.wait()
                for member in self._pool.members:
                    self._set_up(member)
                self._ticked = self._clock()
                while not self._over():
                    self._step()
            except Exception as error:  # noqa: BLE001 - whatever it is: workers drain, and what is done is reported
                failure = told(error, self._directory.log)
                self._shutdown.stopped_by = self._shutdown.stopped_by or failure
                if failure is not error:
                    self._observer.log(f"stopping: {failure}")
            finally:
                self._shards.stop_planning()
                self._end_workers()
                self._shards.close_output()
                if starting is not None:
                    starting.end()
                if self._cluster is not None:
                    self._cluster.close()
                self._mailbox.close()
        return self._report()

    @property
    def finished(self) -> bool:
        """Whether every row has its line in the output."""
        return self._shards.finished

    def _begin_cluster(self, cluster: Cluster) -> None:
        cluster.begin(self._mailbox.put, self._directory, self._prepared.input.parts(self._directory.spool))

    def _set_up(self, member: Member) -> None:
        assert self._endpoints is not None
        setup = Setup(
            worker=member.place,
            config=self._config,
            parts=self._prepared.input.parts(self._directory.spool),
            layout=self._prepared.layout,
            endpoints=self._endpoints,
            slots=self._slots,
            workers=self._workers,
            run_dir=str(self._directory.path),
            supervisor=psutil.Process().pid,
            incarnation=member.incarnation,
            claimant=self._claims.claimant(member.incarnation),
            salvage=self._salvage,
            retry_failed=self._retry,
            prices=self._prepared.prices,
            capped=self._config.budget.limited,
            left=self._spending.left,
            run=self._manifest.run_id,
            session=self._progress.id,
            told=Counters.total((self._told_before, self._progress.counters(self._pool))),
            until=self._prepared.deadline,
        )
        self._pool.set_up(member, setup)

    def _over(self) -> bool:
        """Tell whether there is nothing more to wait for."""
        if self._shards.finished:
            return True
        # A signal that comes while the output is being finished changes nothing: it is done in a moment.
        shutdown = self._shutdown
        interrupted = shutdown.interrupted > 0 and not self._shards.finishing
        broken_off = shutdown.stopped_by is not None or shutdown.handed_over is not None or interrupted
        return broken_off and not self._pool.members

    # One step of the loop

    def _step(self) -> None:
        by_pipe = {member.child.pipe: member for member in self._pool.members}
        sources: list[Any] = [*by_pipe, self._mailbox]
        timeout = max(0.0, self._ticked + _TICK_S - self._clock())
        ready: list[Any] = multiprocessing.connection.wait(sources, timeout)
        for source in ready:
            if source is self._mailbox:
                for item in self._mailbox.take():
                    self._on_mail(item)
            else:
                self._on_pipe(by_pipe[source])
        self._assign()
        if self._scheduler.complete and not self._shards.finishing:
            self._pool.drain(0.0)
            self._shards.finish()
        if self._scheduler.all_left and not self._shutdown.begun:
            self._shutdown.leave(_LEFT)
        now = self._clock()
        if now - self._ticked >= _TICK_S:
            self._tick(now)
        if self._providers.pressing:
            self._lease(now)
        if self._spending.pressing:
            self._pay(now, due=False)

    def _on_pipe(self, member: Member) -> None:
        message = messages.receive_in_supervisor(member.child.pipe)
        member.heard = self._clock()
        member.stopped = False
        match message:
            case None:
                self._on_end(member)
            case Ready():
                if member.state == "starting":
                    member.become("working")
                    self._providers.join(member, member.heard)
                    self._spending.join(member, member.heard)
            case Want():
                member.wants = True
            case Heartbeat():
                self._count(member, message)
                self._providers.heartbeat(member, message, member.heard)
            case Short() | BatchHeartbeat():
                self._count(member, message)
            case HandedOver(reason=reason):
                self._shutdown.hand_over(member, reason)
            case Leased() | RateLimited() | Tripped() | Closed():
                self._providers.take(member, message, member.heard)
            case ShardSealed(number=number):
                self._shards.on_sealed(member.shards.pop(number))
            case ShardLeft(number=number, totals=totals):
                self._scheduler.leave(member.shards.pop(number))
                self._progress.left(number, totals)
            case Note(text=text, once=False):
                self._observer.log(f"worker {member.place}: {text}")
            case Note(text=text):
                if text not in self._said:
                    self._said.add(text)
                    self._observer.log(text)
            case Defective(reason=reason):
                member.defect = reason
                self._observer.log(f"worker {member.place}: {reason}")
            case Stop(exit_code=code, reason=reason):
                if member.state != "draining":
                    member.become("draining")  # it does so by itself, and is not to be taken for dead
                self._shutdown.stop(RowmillError.of(code, reason))

    def _count(self, member: Member, message: Heartbeat | Short | BatchHeartbeat) -> None:
        """Take in the figures that a worker tells, also while the session ends."""
        match message:
            case Heartbeat():
                self._progress.heartbeat(member, message)
                self._spending.heartbeat(member, message)
            case Short():
                self._spending.short(member, message)
            case BatchHeartbeat():
                self._spending.batch = message

    def _on_mail(self, item: object) -> None:
        match item:
            case Planned():
                self._shards.on_planned(item)
            case Merged():
                self._progress.shards_merged = item.shards
                if item.sizes is not None:
                    self._shards.finished = True
                    self.failures = item.failures
            case Joined(host=host, workers=workers):
                self._on_joined(host, workers)
            case Leaving(host=host, seconds=seconds):
                self._pool.drain(seconds, host)
            case str():
                self._observer.log(item)
            case Crashed(error=error):
                self._shutdown.stop(told(error, self._directory.log))
            case signal.Signals():
                self._shutdown.interrupt(item)

    def _on_joined(self, host: Host, workers: int) -> None:
        """Start workers on a machine of the cluster that has come, as far as there is work for them."""
        if self._shutdown.over or self._shutdown.begun or self._shards.finishing:
            return
        room = self._most_workers - len(self._pool.members)
        for _ in range(min(workers, room)):
            member = self._pool.start(self._free_place(), self._clock(), host)
            if self._endpoints is not None:
                self._set_up(member)

    def _free_place(self) -> int:
        taken = {member.place for member in self._pool.members}
        return next(place for place in itertools.count() if place not in taken)

    @property
    def _most_workers(self) -> int:
        return -(-self._prepared.input.size // self._manifest.shard_bytes) or 1

    def _assign(self) -> None:
        if self._shutdown.begun:
            return
        for member in self._pool.members:
            if member.wants and member.state == "working":
                shard = self._scheduler.assign()
                if shard is None:
                    if self._mode == "batch" and self._scheduler.planned:
                        member.wants = False
                        messages.send(member.child.pipe, NoMore())
                    return
                self._pool.assign(member, shard)

    def _lease(self, now: float) -> None:
        """Divide anew what the providers let through. With none of them left the run cannot go on."""
        for event in self._providers.events():
            self._observer.log(event)
        if (reason := self._providers.none_left) is not None:
            self._shutdown.stop(ProviderError(reason), "no provider is left to ask")
        self._providers.send_leases(now)

    def _pay(self, now: float, *, due: bool) -> None:
        """Hand out what the budget covers. Where that is nothing the run cannot go on."""
        try:
            self._spending.tick(now, due=due)
        except RowmillError as error:
            self._shutdown.stop(error)

    def _tick(self, now: float) -> None:
        if (gap := now - self._ticked) > _ASLEEP_S:
            # Stopped (Ctrl-Z), or the machine was: what nobody said meanwhile says nothing about the workers.
            self._observer.log(f"asleep for {gap:.0f} s; going on")
            self._pool.slept(now)
            self._shutdown.slept(gap)
        self._ticked = now
        for member in self._pool.kill_silent(now):
            self._observer.log(f"worker {member.place} (pid {member.child.process.pid}) is silent; killed")
        self._shutdown.look(now)
        if now - self._measured >= 1.0:
            self._pool.measure(now - self._measured)
            self._measured = now
            self._look(now)
        condition = self._condition
        self._pay(now, due=True)
        self._providers.tick(now, condition.factor, paused=condition.paused, saturated=condition.saturated)
        self._observer.show(self._snapshot(now))

    def _look(self, now: float) -> None:
        """Look at what this machine can still take, and whether the run directory is still ours."""
        self._directory.check()
        self._condition = self._monitor.look(now, self._pool.lags())
        for event in self._condition.events:
            self._observer.log(event)
        if self._condition.give_up is not None and not self._shards.finishing:
            self._shutdown.stop(MachineError(self._condition.give_up))

    def _snapshot(self, now: float) -> Snapshot:
        cluster = () if self._cluster is None else self._cluster.notices()
        notices = (*self._shards.notices(), *self._condition.notices, *cluster, *self._pool.notices())
        spending = self._spending
        return self._progress.snapshot(
            self._pool,
            self._providers,
            now,
            draining=self._shutdown.draining,
            notices=notices,
            cost=spending.cost(self._progress.totals, self._progress.total_rows),
            batches=spending.batches,
            parts=spending.parts,
        )

    # Ends

    def _on_end(self, member: Member) -> None:
        """React to the end of a worker process: take its shards back and fill its place."""
        self._providers.leave(member, self._clock())
        death = self._pool.bury(member, self._progress.totals.rows)
        billed = death.board.maybe_billed if death else 0
        if member.host.lost:  # and with it what it had done since its board was carried last
            billed += min(self._progress.open_rows(member) - billed, round(_UNHEARD_S * self._progress.rows_per_s))
        self._progress.ended(member, billed)
        self._spending.leave(member, billed)
        with suppress(RowmillError):  # a full disk: its board stays where it is
            self._spending.write(sync=False)
            self._pool.forget_boards()
            self._spending.buried()
        self._claims.forget(member.incarnation)
        self._scheduler.give_back(member.shards.values())
        if death is None or self._shards.finishing:
            return
        if not death.wanted:
            self._observer.log(death.report)
        if self._shutdown.over or self._shutdown.begun or member.host.lost or member.host.leaving:
            return
        if self._pool.cannot_work:
            ended_by = MachineError if death.defect is None else DefectError
            how = death.how if death.defect is None else death.defect
            self._shutdown.stop(ended_by(f"workers keep dying without a row done ({how}); see the messages above"))
            return
        with processes.signals_held():
            successor = self._pool.start(member.place, self._clock(), member.host)
        if self._endpoints is not None:
            self._set_up(successor)

    def _end_workers(self) -> None:
        """See every worker out. After a regular end they are on their way; after an error they are told."""
        self._shutdown.over = True
        self._pool.drain(0.0)
        before = self._clock()
        until = before + LATE_S
        while self._pool.members:
            now = self._clock()
            until += now - before if now - before > _ASLEEP_S else 0.0
            before = now
            if self._shutdown.interrupted > 1:
                self._pool.stop_all()
            elif now > until:
                self._pool.kill_all()
            pipes = {member.child.pipe: member for member in self._pool.members}
            ready: list[Any] = multiprocessing.connection.wait(list(pipes), _TICK_S)
            for pipe in ready:
                member = pipes[pipe]
                message = messages.receive_in_supervisor(member.child.pipe)
                if message is None:
                    self._on_end(member)
                elif isinstance(message, Heartbeat | Short | BatchHeartbeat):
                    self._count(member, message)
        with suppress(RowmillError, OSError):  # a full disk has no room for it either
            self._spending.write(sync=True)

    def _report(self) -> SessionReport:
        self._observer.show(self._snapshot(self._clock()))
        return self._session()

    def _session(self) -> SessionReport:
        """Return the report of the session as it stands."""
        code, reason = self._shutdown.outcome(finished=self._shards.finished, failed=self._progress.totals.failed)
        if code == ExitCode.ROWS_FAILED and self._shards.finished:
            reason = self._progress.none_answered(self.failures)
            if reason is not None:
                code = ExitCode.PROVIDER
                self._observer.log(reason)
        own = resource.getrusage(resource.RUSAGE_SELF)
        return self._progress.report(
            self._pool,
            self._providers,
            self._clock(),
            exit_code=code,
            stopped_by=reason,
            own_cpu_s=own.ru_utime + own.ru_stime,
            own_rss=peak_rss(),
            notices=self._monitor.summary(),
            mode=self._mode,
            batches=self._spending.batches,
            nodes=[] if self._cluster is None else self._cluster.figures(self._progress.rows_on(self._pool)),
        )

    @property
    def handed_over(self) -> bool:
        """Whether what is left is for the next phase."""
        return self._shutdown.handed_over is not None and not self._shutdown.interrupted

    @property
    def cost(self) -> Cost:
        """What the run has cost so far."""
        return self._spending.final(self._progress.totals, self._progress.total_rows)

    @property
    def totals(self) -> Totals:
        """Acknowledged rows of the whole run, earlier sessions included."""
        return self._progress.totals

    @property
    def rows(self) -> int | None:
        """The rows of the input; None where they were not counted to the end."""
        return self._progress.total_rows
