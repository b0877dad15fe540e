"""`rowmill map`: a job without a configuration's file; rows may come from a pipe, and results go into one.

The flags are keys of a configuration, which is checked and run as any other. With an output file the job lies beside
it, as a run does; without one `rowmill.runs.piped` keeps it until it is done, so that the same command goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config, hidden
from rowmill.core.errors import ConfigError, ExitCode, RowmillError
from rowmill.core.reports import RunReport, SessionReport
from rowmill.interface.cli import map_flags, rows_in, shown, streams
from rowmill.interface.cli.configured import environ_of
from rowmill.interface.cli.results_out import ReaderGone, ResultsOut
from rowmill.interface.cli.rows_in import PIPE, replaced
from rowmill.interface.ui.report import Again
from rowmill.runs import piped, piped_rows
from rowmill.runs.session import run
from rowmill.runs.trial import run_trial

_OUT = "/dev/stdout"  # what - stands for: on a terminal it leads to the same place as stdin
_STDIN, _STDOUT = "stdin", "stdout"
_SUFFIXES = {"csv": ".csv", "batch": ".jsonl"}  # of results on stdout


def map_rows(options: argparse.Namespace) -> int:
    """Run the job, and return the exit code."""
    if options.rows is None:
        if sys.stdin.isatty():
            raise ConfigError("rowmill map: name the file with the rows, or - for rows from a pipe")
        options.rows = PIPE
    options.output = _OUT if options.output in (None, PIPE) else options.output
    with map_flags.in_their_words():
        tree = map_flags.tree_of(options)
        config = configuration.parse(tree, "rowmill map")
        map_flags.check(options, config, piping=config.output.path == _OUT, once=rows_in.come_once(config))
        if options.save is not None:
            map_flags.save(options.save, tree)
        return _map(options, config)


def _map(options: argparse.Namespace, config: Config) -> int:
    named: dict[str, str] = {}  # what a message is not to name
    spooled: piped.Spooled | None = None
    text = options.input_format == piped_rows.TEXT
    called = _STDIN if config.input.path == PIPE else config.input.path
    try:
        if rows_in.come_once(config) or text or piped_rows.is_lines(config.input.path):
            config, spooled = rows_in.written_down(options, config, called, piping=config.output.path == _OUT)
            identity = spooled.digest
        else:
            identity = piped.identity_of(config) if config.output.path == _OUT else b""
        job = piped.job_of(config, identity, (options.limit, options.sample))
        if spooled is not None:
            suffix = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl"}.get(config.input.format, "")
            path = spooled.keep(job, suffix)
            named[str(path)] = called
            config = replaced(config, input={"path": str(path)})
    except ReaderGone as gone:
        if not options.quiet:
            streams.say(f"rowmill: {gone}; nothing was asked")
        return ExitCode.OK
    finally:
        if spooled is not None:
            spooled.drop()
    with _naming(named), shown.another_run(_again(options)):
        if config.output.path == _OUT:
            return _to_stdout(options, config, job, named)
        report, session, again, page = _to_file(options, config)
    if spooled is not None and report.finished and not report.totals.failed:
        job.remove()
    piped.prune(piped.base_of(config))
    return shown.ended(options, _called(report, named), session, again, page)


def _to_file(
    options: argparse.Namespace, config: Config
) -> tuple[RunReport, SessionReport | None, Again | None, Path | None]:
    again = _again(options)
    own = config
    environ = environ_of(options, config)
    progress = shown.display(options)
    trial = options.limit is not None or options.sample is not None
    if options.fresh:
        shown.fresh(options, config)
    try:
        if trial:
            own, report, session = run_trial(
                config, environ, progress, limit=options.limit, sample=options.sample, retry=options.retry
            )
        else:
            report, session = run(config, environ, progress, retry=options.retry)
    finally:
        progress.close()
    if trial and not options.quiet:
        if session is not None and not options.json:
            shown.first_replies(own)
        before = "" if session else "asked before: "
        streams.say(f"trial: {before}the results are in {own.output.path}; {config.output.path} is not touched")
    elif trial:
        pass
    elif session is None:
        failed = "; to ask again for the failed rows: the same command with --retry" if report.totals.failed else ""
        streams.complain(
            f"this has been asked before: {report.output} is complete ({report.totals.rows} rows, "
            f"{report.totals.failed} failed){failed}"
        )
    return report, session, None if trial else again, shown.kept_page(own, session)


def _to_stdout(options: argparse.Namespace, config: Config, job: piped.PipedJob, named: dict[str, str]) -> int:
    job.make()
    output = job.results(_SUFFIXES.get(config.output.format, ".jsonl"))
    format_ = "jsonl" if config.output.format == "auto" else config.output.format
    config = replaced(config, output={"path": str(output), "format": format_}, checkpoint={"dir": str(job.run)})
    named |= {str(output): _STDOUT, str(job.run): "this job"}
    # The results themselves show on a terminal how far it is.
    progress = shown.NoProgress() if sys.stdout.isatty() else shown.display(options)
    results = ResultsOut(progress, output, sys.stdout.fileno(), named)
    try:
        report, session = run(
            config,
            environ_of(options, config),
            results,
            retry=options.retry,
            limit=options.limit,
            sample=options.sample,
            afterwards=options.afterwards,
        )
    except RowmillError:
        if not job.begun():
            job.remove()  # nothing was asked
        raise
    finally:
        results.close()
    if not results.finish(finished=report.finished) and results.gone:
        if not options.quiet:
            _say_gone(report)
        return ExitCode.OK
    done = report.finished and not report.totals.failed
    if done:
        job.remove()
    piped.prune(piped.base_of(config))
    report = msgspec.structs.replace(_called(report, named), output=_STDOUT, errors=None)
    if session is None and not options.quiet:
        streams.say(f"rowmill: asked before, and told again: {report.totals.rows:,} rows")
    return shown.ended(options, report, session, _again(options))


def _say_gone(report: RunReport) -> None:
    of = "" if report.rows is None else f" of {report.rows:,}"
    streams.say(
        f"rowmill: whoever read the results has had enough; {report.totals.rows:,}{of} rows are answered and kept, "
        "and the same command goes on from there"
    )


def _again(options: argparse.Namespace) -> Again:
    """Return the commands that go on."""
    words = shlex.join(_shown([word for word in options.words if word not in ("--retry", "--fresh")]))
    before = "... | " if options.rows == PIPE else ""
    command = f"{before}rowmill {words}"
    return Again(run=command, retry=f"{command} --retry", fresh=f"{command} --fresh")


def _shown(words: list[str]) -> list[str]:
    """Return the words of a command line without what is like a key: a screen is seen by others."""
    shown = []
    for before, word in pairwise(["", *words]):
        if before == "--set":
            shown.append(hidden.typed(word))
        elif word.startswith("--set="):
            shown.append(f"--set={hidden.typed(word.removeprefix('--set='))}")
        else:
            shown.append(hidden.url(word) if "://" in word else word)
    return shown


def _called(report: RunReport, named: dict[str, str]) -> RunReport:
    return msgspec.structs.replace(report, input=named.get(report.input, report.input))


@contextmanager
def _naming(named: dict[str, str]) -> Iterator[None]:
    """Let messages say stdin and stdout where the user has named no file."""
    try:
        yield
    except RowmillError as error:
        text = str(error)
        for name, instead in named.items():
            text = text.replace(name, instead)
        told = type(error)(text)
        told.exit_code = error.exit_code
        raise told from None
