"""One run from start to end: prepared, supervised, reported. What the command line calls."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rowmill.core.config import SIMULATOR, Config
from rowmill.core.defects import of_signal_handler, told
from rowmill.core.errors import ConfigError, ExitCode, RowmillError, RunDirectoryError
from rowmill.core.plain_text import place_of
from rowmill.core.reports import Observer, RunReport, SessionReport, report_at, to_json
from rowmill.files.input.streams import shown
from rowmill.runs.delivery import deliver
from rowmill.runs.frozen_plan import refused_as_cleaned
from rowmill.runs.metered import metered
from rowmill.runs.notify.news import ToldRun
from rowmill.runs.notify.notifier import Notifier
from rowmill.runs.preparation import already_finished, prepare
from rowmill.runs.reported import (
    as_it_was,
    ended_the_output,
    none_answered,
    summed_up,
    with_killed,
    with_win_rates,
)
from rowmill.runs.session_log import SessionLog, first_lines
from rowmill.store import durable
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.cache import claims
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.aftermath import take_in
from rowmill.supervisor.endpoints import worker_count
from rowmill.supervisor.hosts import Cluster
from rowmill.supervisor.loop import Supervisor
from rowmill.supervisor.machine.preflight import Ask, Preflight, estimate_output, preflight
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.session_parts import Mode, SessionParts

if TYPE_CHECKING:
    from rowmill.simulator.process import SimulatorProcess  # whoever asks a real server need not load it

_AUTO_SLOTS = 1024  # requests in flight of one worker, where the right number is to be found: what one core can hold
# Of a run in each mode, how it goes on once a phase hands over.
_PHASES: dict[str, tuple[Mode, ...]] = {"live": ("live",), "batch": ("batch",), "auto": ("batch", "live")}
_ESTIMATED_ROWS = 100  # first rows, by whose length the others are estimated


def run(
    config: Config,
    environ: Mapping[str, str],
    observer: Observer,
    *,
    salvage: bool = False,
    retry: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    afterwards: ExitStack | None = None,
) -> tuple[RunReport, SessionReport | None]:
    """Run a configuration to its end and return the report; no session where there was nothing to do.

    retry: do the rows again that have failed, into the same output. limit, sample: do only so many rows of the input,
    its first ones or any. afterwards: closed by the caller once all is said; metrics stay a while then. Without it that
    is before this returns.

    Raises `RowmillError` only for what is found before the run starts; later ends are in the report. No other exception
    leaves this but those that end a program, and what a signal handler of the program's raises.
    """
    try:
        notifier = Notifier(config, environ)
        # Who is to hear of the end hears of it before metrics stay a while.
        with ExitStack() if afterwards is None else nullcontext(afterwards) as later:
            report, session = _run(
                config, environ, observer, notifier, later, salvage=salvage, retry=retry, limit=limit, sample=sample
            )
            if session is not None and notifier.tells:
                _tell_end(config, observer, notifier, report, session)
    except RowmillError:
        raise
    except Exception as error:
        if of_signal_handler(error):
            raise
        raise told(error, RunDirectory(config.run_dir).log) from error
    else:
        return report, session


def _run(
    config: Config,
    environ: Mapping[str, str],
    observer: Observer,
    notifier: Notifier,
    afterwards: ExitStack,
    *,
    salvage: bool,
    retry: bool,
    limit: int | None,
    sample: int | None,
) -> tuple[RunReport, SessionReport | None]:
    embedded(config)  # to be before now what cannot be
    if retry and not RunDirectory(config.run_dir).manifest.exists():
        raise RunDirectoryError(f"{config.run_dir} holds no run whose rows could be retried: start it by rowmill run")
    prepared = prepare(config, environ, limit=limit, sample=sample)
    asked, config = config, prepared.config
    with prepared.directory as directory:
        earlier = report_at(directory.report)
        before = [] if earlier is None else earlier.sessions
        found = take_in(prepared, frozenset(each.id for each in before if each.id))
        finished = already_finished(config, prepared.manifest) and earlier is not None
        if earlier is not None and found.sessions:
            # Killed between the end of the output and the report of it: all there is to do is to tell it.
            finished = finished and not ended_the_output(prepared, found.sessions[-1])
            earlier = with_killed(prepared, earlier, found.sessions)
        if finished and earlier is not None and none_answered(earlier):
            retry = True  # resumed, it asks for all of them
        _refuse_what_was_cleaned(prepared, finished=finished, retry=retry and bool(earlier and earlier.totals.failed))
        if finished and earlier is not None and not (retry and earlier.totals.failed):
            return _as_finished(prepared, earlier, changed=bool(found.sessions)), None
        _begin_telling(notifier, prepared, asked)
        with SessionLog(directory.log, observer, notifier) as log:
            for line in first_lines(prepared):
                log.log(line)
            seen = _preflight(prepared, simulated=embedded(config) is not None)
            for line in seen.lines:
                log.log(line)
            metrics = afterwards.enter_context(metered(prepared, environ, log.log))
            sessions = [*before, *found.sessions]
            phases = _phases(prepared)
            for mode in phases:
                with _cluster(config, mode, log) as cluster:
                    parts = SessionParts(
                        prepared,
                        log,
                        mode=mode,
                        slots=seen.concurrency,
                        notices=seen.lines,
                        earlier=sessions,
                        billed=found.billed if mode == phases[0] else 0,
                        before=None if earlier is None or retry or salvage or prepared.completed else earlier.totals,
                        salvage=salvage,
                        retry=retry and mode == phases[0],
                        embedded=embedded(config),
                        cluster=cluster,
                        meter=metrics,
                    )
                supervisor = Supervisor(parts)
                session = supervisor.run()
                log.log(f"ended with exit code {session.exit_code}")  # why stands above
                session = _delivered(prepared, supervisor, session, log)
                sessions.append(session)
                report = summed_up(prepared, asked, supervisor, sessions)
                if finished and earlier is not None and not supervisor.finished:
                    report = as_it_was(report, earlier)
                _write_report(directory, report)
                if supervisor.finished or not supervisor.handed_over:
                    break
                prepared = prepared.again()
            if metrics is not None:
                metrics.ended(report, session.exit_code)
            if supervisor.finished and _has_grown(prepared):
                log.log("the input has grown since it was counted: the same command asks for the new rows")
        if supervisor.finished:
            _discard_scratch(directory)
        return report, session


def _as_finished(prepared: Prepared, report: RunReport, *, changed: bool) -> RunReport:
    """Return the report of a run that had finished, once what may still be done is. changed: it is to be written."""
    delivery, directory = prepared.delivery, prepared.directory
    if delivery is not None:
        deliver(delivery, directory, prepared.manifest)
        report = msgspec.structs.replace(report, finished=True)
    told = with_win_rates(prepared, report)  # which may be asked for what it was not before
    if changed or delivery is not None or told is not report:
        durable.replace_durably(directory.report, to_json(told))
    return told


def _write_report(directory: RunDirectory, report: RunReport) -> None:
    with suppress(OSError):  # a full disk has no room for it either
        durable.replace_durably(directory.report, to_json(report))


def _discard_scratch(directory: RunDirectory) -> None:
    # The output has the lines of the sealed shards, and the checkpoints could make them again.
    for files in (directory, *directory.steps()):
        for path in files.sealed.glob("*.sealed"):
            path.unlink(missing_ok=True)
    claims.discard(directory.claims)


def _begin_telling(notifier: Notifier, prepared: Prepared, asked: Config) -> None:
    directory = prepared.directory
    subject = ToldRun(
        prepared.manifest.run_id, prepared.input.where, shown(asked.output.path), place_of(directory.path)
    )
    notifier.begin(subject, directory.notified, prepared.secrets)


def _tell_end(
    config: Config, observer: Observer, notifier: Notifier, report: RunReport, session: SessionReport
) -> None:
    """Have told that the session has ended: nobody holds the run directory by then, for who hears may go on with it."""
    with ExitStack() as stack:
        log: Observer = observer
        with suppress(RowmillError):  # it may be gone, which is why the session has ended
            log = stack.enter_context(SessionLog(RunDirectory(config.run_dir).log, observer, notifier))
        for line in notifier.end(report, session):
            log.log(line)


def _refuse_what_was_cleaned(prepared: Prepared, *, finished: bool, retry: bool) -> None:
    """Refuse to ask for answers again that were there, and that somebody has had removed. Raises `AnotherRun`."""
    done = prepared.manifest.finished
    if done is None or not done.cleaned:
        return
    if not finished:
        raise refused_as_cleaned(prepared.directory, "its output cannot be made anew")
    if retry:
        raise refused_as_cleaned(prepared.directory, "its failed rows cannot be asked by themselves")


@contextmanager
def _cluster(config: Config, mode: Mode, log: SessionLog) -> Iterator[Cluster | None]:
    """Connect to the cluster on which the workers are to run, where there is one.

    The session lets go of it; where none can be made of it, this does.
    """
    if not config.cluster.used:
        yield None
        return
    if mode == "batch":
        log.log("cluster: batches are made on this machine, where one process keeps up with any provider")
        yield None
        return
    from rowmill.cluster.driver import RayCluster  # who has no cluster need not load it

    cluster = RayCluster(config, log.log)
    if cluster.started:
        log.log("cluster: none is running; one was started on this machine, for this run")
    try:
        yield cluster
    except BaseException:
        cluster.close()
        raise


def _has_grown(prepared: Prepared) -> bool:
    """Whether a file of the input is larger by now than it was planned."""
    for file in prepared.input.files:
        with suppress(OSError):
            if file.mtime_ns and Path(file.path).stat().st_size > file.size:
                return True
    return False


def _phases(prepared: Prepared) -> tuple[Mode, ...]:
    """Return the phases of the run. Batches that a run by live requests finds under way are taken in first."""
    mode = prepared.config.task.mode
    if mode == "live" and any(t.open and t.creations for t in BatchJournal.read(prepared.directory.journal).current()):
        return ("batch", "live")
    return _PHASES[mode]


def _delivered(prepared: Prepared, supervisor: Supervisor, session: SessionReport, log: SessionLog) -> SessionReport:
    """Upload the output that is finished, where it is to be; where that fails, the session has not reached its end."""
    delivery = prepared.delivery
    if delivery is None or not supervisor.finished:
        return session
    log.log(f"uploading the output to {shown(delivery.output)}")
    try:
        deliver(delivery, prepared.directory, prepared.manifest)
    except RowmillError as error:
        log.log(f"stopping: {error}")
        return msgspec.structs.replace(session, exit_code=ExitCode.MACHINE, stopped_by=str(error))
    return session


def _preflight(prepared: Prepared, *, simulated: bool) -> Preflight:
    """Hold what the run asks of this machine against what there is."""
    config = prepared.config
    asked = config.workers.concurrency
    return preflight(
        Ask(
            workers=worker_count(config, prepared.input.size, prepared.manifest.shard_bytes),
            concurrency=_AUTO_SLOTS if asked == "auto" else asked,
            chosen=asked != "auto",
            providers=len(config.provider),
            embedded=simulated,
            run_dir=prepared.directory.path,
            output=config.output_path,
            output_bytes=estimate_output(
                prepared.input.size,
                prepared.input.first_rows(_ESTIMATED_ROWS),
                config.task.params,
                include_input="input" in config.output.include,
                copies=1 + len({"choices", "message"} & set(config.output.parts)),
            ),
            min_free_mb=config.machine.min_free_mb,
            steps=len(prepared.steps),
        )
    )


def embedded(config: Config) -> "SimulatorProcess | None":
    """Make the simulator's process, not yet started, where any provider is to be it. All such share the one."""
    if not any(provider.base_url == SIMULATOR for provider in config.provider):
        return None
    from rowmill.simulator.process import SimulatorProcess

    settings = config.simulator
    state = config.run_dir / "simulator"
    if settings.state is None and (config.task.mode != "live" or state.exists()):
        # What it has been given is to be there when the run is resumed.
        settings = msgspec.structs.replace(settings, state=str(state))
    try:
        return SimulatorProcess(settings)
    except ValueError as error:
        raise ConfigError(f"simulator: {error}") from None
