"""What one session of a run is made of, and what it begins with. The supervisor's loop and its neighbours share it."""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from rowmill.core.counts import Counters, Totals
from rowmill.core.reports import Meter, Observer, SessionReport
from rowmill.supervisor.claims import ClaimCleanup
from rowmill.supervisor.endpoints import EmbeddedEndpoint, worker_count
from rowmill.supervisor.hosts import Cluster
from rowmill.supervisor.learned_forms import LearnedForms
from rowmill.supervisor.machine.monitor import Monitor
from rowmill.supervisor.mailbox import Mailbox
from rowmill.supervisor.pool import Pool
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.progress import Progress, seconds_since
from rowmill.supervisor.providers import Providers
from rowmill.supervisor.recorder import Recorder
from rowmill.supervisor.shard_pipeline import ShardPipeline
from rowmill.supervisor.shutdown import DRAIN_S, Shutdown
from rowmill.supervisor.spending import SpendingTracker
from rowmill.supervisor.step_schedulers import StepSchedulers

Mode = Literal["live", "batch"]


class SessionParts:
    """The parts of one session, each of which says itself what it is for.

    told_before: what the worker of batches has told in earlier sessions. workers: how many a session begins with, and
    has where there is no cluster.
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
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`mode`: the phase of the run, by live requests or by batches. `retry`: rows that have failed are done again.

        `embedded` is the endpoint to start where the configuration asks for the simulator; `slots`: the most requests
        in flight of one worker; `notices`: what was found before the start; `earlier`: the run's sessions so far,
        `billed` requests that may have been answered in some that nobody knows of, and `before` what the sessions have
        come to, where nothing of it is done again. `cluster`: where the workers are to run, instead of here.
        `meter`: where figures are collected from outside.
        """
        config = prepared.config
        now = clock()
        batch = mode == "batch"
        self.prepared = prepared
        self.config = config
        self.directory = prepared.directory
        self.observer = observer
        self.mode: Mode = mode
        self.salvage = salvage
        self.retry = retry
        self.slots = slots
        self.embedded = embedded
        self.clock = clock
        # Batches are paced by the provider: one process keeps up with any.
        self.cluster = None if batch else cluster
        wanted = None if self.cluster is None else self.cluster.workers
        most = worker_count(config, prepared.input.size, prepared.manifest.shard_bytes, wanted)
        self.workers = 1 if batch else most
        self.pool = Pool(prepared.directory, batch=batch)
        self.progress = Progress(now, notices, before, steps=[each.name for each in prepared.steps])
        self.progress.billed_twice = billed
        self.spending = SpendingTracker(prepared, mode=mode, workers=self.workers)
        self.providers = Providers(
            config,
            steps=[each.providers for each in prepared.steps],
            workers=self.workers,
            slots=slots,
            now=now,
            rng=Random(),  # noqa: S311 - jitter, no secret
            leased=not batch,
        )
        self.providers.worked_before(self.spending.answered_before)
        for session in earlier:
            self.providers.spent_before(session, seconds_since(session.ended))
        # Of batches the journal has all requests: what a killed worker had not told, the next one tells.
        self.told_before = Counters.total(each.counters for each in earlier if each.mode == mode == "batch")
        self.forms = LearnedForms(prepared.steps, prepared.directory, observer.log)
        self.mailbox = Mailbox()
        if meter is not None:
            meter.begin(self.progress.id, mode)
        self.recorder = Recorder(prepared.directory, self.progress.id, log=observer.log, meter=meter)
        self.claims = ClaimCleanup(prepared, fresh=retry or prepared.completed)
        self.scheduler = StepSchedulers(len(prepared.steps), workers=max(1, self.workers // len(prepared.steps)))
        self.shards = ShardPipeline(prepared, self.scheduler, self.progress, self.mailbox, retry=retry)
        self.monitor = Monitor(
            (prepared.directory.path, config.output_path, config.errors_path),
            memory=config.machine.memory,
            min_free_mb=config.machine.min_free_mb,
        )
        self.shutdown = Shutdown(
            self.pool,
            drain_s=min(DRAIN_S, max(provider.timeout_s for provider in config.provider)),
            doing="batches go on at the provider" if batch else "finishing what is in flight",
            clock=clock,
            log=observer.log,
        )
