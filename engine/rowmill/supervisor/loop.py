"""The supervisor: plans, assigns, watches, merges. One process, one loop, and it never touches a row.

The loop waits for whatever comes first: a message from a worker, the end of a worker, or something in the mailbox (a
planned shard, a merged one, a signal). Everything is decided in order, by one thread.

How a session travels: its parts are made (`session_parts`), its workers started (`staffing`), what arrives is taken in
(`incoming`), shards are handed out and four times a second everything is looked at (here), until the output is there or
something speaks for an end before (`shutdown`). Then the workers are seen out, and the session gives its account
(`account`).
"""

import multiprocessing.connection
from contextlib import suppress
from typing import Any

import msgspec

from rowmill.core.counts import Totals
from rowmill.core.defects import of_signal_handler, told
from rowmill.core.errors import MachineError, ProviderError, RowmillError
from rowmill.core.reports import Cost, SessionReport, StepFigures
from rowmill.ipc import messages, processes
from rowmill.ipc.messages import NoMore
from rowmill.supervisor.account import SessionAccount
from rowmill.supervisor.endpoints import EndpointStart
from rowmill.supervisor.incoming import Incoming
from rowmill.supervisor.machine.monitor import Condition
from rowmill.supervisor.session_parts import SessionParts
from rowmill.supervisor.shutdown import LATE_S
from rowmill.supervisor.staffing import Staffing

_LEFT = "the failed rows were asked again; others of the run are not asked yet"
_TICK_S = 0.25  # progress is shown and silence looked for this often
_ASLEEP_S = 5.0  # a loop that has not ticked for so long did not run, whatever kept it


class Supervisor:
    """Runs one session of a prepared run: to the run's end, or to where it must stop."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts
        self._staffing = Staffing(parts)
        self._incoming = Incoming(parts, self._staffing)
        self._account = SessionAccount(parts)
        parts.spending.session = self._account.report
        self._condition = Condition()
        self._ticked = self._measured = parts.clock()

    # The session

    def run(self) -> SessionReport:
        """Run to the end; the report says which. Errors that end the run are in the report, not raised.

        But for what a signal handler of the program's raises: that is raised once the workers are gone.
        """
        parts = self._parts
        starting: EndpointStart | None = None
        with processes.signals_noted(parts.mailbox.put):
            try:
                parts.spending.begin()
                parts.claims.begin()
                parts.shards.open_output()
                with processes.signals_held():
                    endpoints = [endpoint for step in parts.prepared.steps for endpoint in step.endpoints]
                    starting = EndpointStart(endpoints, parts.embedded, providers=len(parts.config.provider))
                    self._staffing.begin()
                parts.shards.start_planning()
                self._show(parts.clock())  # who waits for the processes to come up sees that they do
                self._staffing.set_up(starting.wait())
                self._ticked = parts.clock()
                while not self._over():
                    self._step()
            except Exception as error:  # whatever it is: workers drain, and what is done is reported
                if of_signal_handler(error):
                    raise
                failure = told(error, parts.directory.log)
                parts.shutdown.stopped_by = parts.shutdown.stopped_by or failure
                if failure is not error:
                    parts.observer.log(f"stopping: {failure}")
            finally:
                parts.shards.stop_planning()
                self._see_out()
                parts.shards.close_output()
                if starting is not None:
                    starting.end()
                if parts.cluster is not None:
                    parts.cluster.close()
                parts.mailbox.close()
        snapshot = self._account.snapshot(parts.clock(), self._condition)
        parts.recorder.look(snapshot, last=True)
        with suppress(RowmillError):  # it has ended
            parts.observer.show(snapshot)
        report = self._account.report()
        if self.finished and report.stopped_by is not None:
            parts.observer.log(report.stopped_by)  # no row was answered, which is known only now
        return report

    def _over(self) -> bool:
        """Tell whether there is nothing more to wait for."""
        parts = self._parts
        if parts.shards.finished:
            return True
        # A signal that comes while the output is being finished changes nothing: it is done in a moment.
        shutdown = parts.shutdown
        interrupted = shutdown.interrupted > 0 and not parts.shards.finishing
        broken_off = shutdown.stopped_by is not None or shutdown.handed_over is not None or interrupted
        return broken_off and not parts.pool.members

    def _step(self) -> None:
        parts = self._parts
        by_pipe = {member.child.pipe: member for member in parts.pool.members}
        sources: list[Any] = [*by_pipe, parts.mailbox]
        timeout = max(0.0, self._ticked + _TICK_S - parts.clock())
        ready: list[Any] = multiprocessing.connection.wait(sources, timeout)
        for source in ready:
            if source is parts.mailbox:
                self._incoming.take_mail()
            else:
                self._incoming.hear(by_pipe[source])
        self._assign()
        if parts.scheduler.complete and not parts.shards.finishing:
            parts.pool.drain(0.0)
            parts.shards.finish()
        if parts.scheduler.all_left and not parts.shutdown.begun:
            parts.shutdown.leave(_LEFT)
        now = parts.clock()
        if now - self._ticked >= _TICK_S:
            self._tick(now)
        if parts.providers.pressing:
            self._lease(now)
        if parts.spending.pressing:
            self._pay(now, due=False)

    def _see_out(self) -> None:
        """See every worker out. After a regular end they are on their way; after an error they are told."""
        parts = self._parts
        parts.shutdown.over = True
        parts.pool.drain(0.0)
        before = parts.clock()
        until = before + LATE_S
        while parts.pool.members:
            now = parts.clock()
            until += now - before if now - before > _ASLEEP_S else 0.0
            before = now
            if parts.shutdown.interrupted > 1:
                parts.pool.stop_all()
            elif now > until:
                parts.pool.kill_all()
            by_pipe = {member.child.pipe: member for member in parts.pool.members}
            ready: list[Any] = multiprocessing.connection.wait(list(by_pipe), _TICK_S)
            for pipe in ready:
                self._incoming.hear_out(by_pipe[pipe])
        with suppress(RowmillError, OSError):  # a full disk has no room for it either
            parts.spending.write(sync=True)

    # What is decided in a step

    def _assign(self) -> None:
        parts = self._parts
        if parts.shutdown.begun:
            return
        for member in parts.pool.members:
            if member.wants and member.state == "working":
                shard = parts.scheduler.assign(member.step)
                if shard is not None:
                    parts.pool.assign(member, shard)
                elif parts.mode == "batch" and parts.scheduler.planned:
                    member.wants = False
                    messages.send(member.child.pipe, NoMore())

    def _lease(self, now: float) -> None:
        """Divide anew what the providers let through. With none of them left the run cannot go on."""
        parts = self._parts
        parts.providers.send_leases(now)  # before the log, which may be slow: some of them stop workers
        for event in parts.providers.events():
            parts.observer.log(event)
        if (reason := parts.providers.none_left) is not None:
            parts.shutdown.stop(ProviderError(reason), "no provider is left to ask")

    def _pay(self, now: float, *, due: bool) -> None:
        """Hand out what the budget covers. Where that is nothing the run cannot go on."""
        try:
            self._parts.spending.tick(now, due=due)
        except RowmillError as error:
            self._parts.shutdown.stop(error)

    def _tick(self, now: float) -> None:
        parts = self._parts
        if (gap := now - self._ticked) > _ASLEEP_S:
            # Stopped (Ctrl-Z), or the machine was: what nobody said meanwhile says nothing about the workers.
            parts.observer.log(f"asleep for {gap:.0f} s; going on")
            parts.pool.slept(now)
            parts.shutdown.slept(gap)
        self._ticked = now
        for member in parts.pool.kill_silent(now):
            parts.observer.log(f"worker {member.place} (pid {member.child.process.pid}) is silent; killed")
        parts.shutdown.look(now)
        if now - self._measured >= 1.0:
            parts.pool.measure(now - self._measured)
            self._measured = now
            self._look(now)
        condition = self._condition
        self._pay(now, due=True)
        parts.providers.tick(now, condition.factor, paused=condition.paused, saturated=condition.saturated)
        self._show(now)

    def _show(self, now: float) -> None:
        snapshot = self._account.snapshot(now, self._condition)
        self._parts.recorder.look(snapshot)
        try:
            self._parts.observer.show(snapshot)
        except RowmillError as error:  # whom the results are for wants no more of them, or can take no more
            self._parts.shutdown.stop(error)

    def _look(self, now: float) -> None:
        """Look at what this machine can still take, and whether the run directory is still ours."""
        parts = self._parts
        parts.directory.check()
        self._condition = parts.monitor.look(now, parts.pool.lags())
        for event in self._condition.events:
            parts.observer.log(event)
        if self._condition.give_up is not None and not parts.shards.finishing:
            parts.shutdown.stop(MachineError(self._condition.give_up))

    # What the run has come to

    @property
    def finished(self) -> bool:
        """Whether every row has its line in the output."""
        return self._parts.shards.finished

    @property
    def failures(self) -> dict[str, int]:
        """Failed rows by class, once every row has its line in the output."""
        return self._parts.shards.failures

    @property
    def handed_over(self) -> bool:
        """Whether what is left is for the next phase."""
        return self._parts.shutdown.handed_over is not None and not self._parts.shutdown.interrupted

    @property
    def cost(self) -> Cost:
        """What the run has cost so far."""
        return self._parts.spending.final(self._parts.progress.work, self._parts.progress.total_work)

    @property
    def steps(self) -> tuple[StepFigures, ...] | msgspec.UnsetType:
        """What each of several steps has come to."""
        return self._parts.progress.steps

    @property
    def totals(self) -> Totals:
        """Acknowledged rows of the whole run, earlier sessions included."""
        return self._parts.progress.totals

    @property
    def rows(self) -> int | None:
        """The rows of the input; None where they were not counted to the end."""
        return self._parts.progress.total_rows
