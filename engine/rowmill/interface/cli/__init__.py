"""The `rowmill` command: reads the command line, shows what happens, exits. The only part that prints or exits.

Data goes to stdout, everything else to stderr. Modules are imported where a command needs them: `--help` should not
wait.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from rowmill.core.errors import ExitCode, RowmillError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli.arguments import parser

if TYPE_CHECKING:
    from rowmill.core.config import Config
    from rowmill.core.reports import RunReport, SessionReport
    from rowmill.runs.plan.trials import Trial


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    options = parser().parse_args(arguments)
    commands = {
        "run": _run,
        "retry": _retry,
        "plan": _plan,
        "cancel": _cancel,
        "init": _init,
        "simulate": _simulate,
    }
    try:
        status = commands[options.command](options)
    except RowmillError as error:
        # An address or a server's words can be in it: they must not steer the terminal.
        print("rowmill: " + "\n".join(map(one_line, str(error).split("\n"))), file=sys.stderr)
        status = error.exit_code
    except KeyboardInterrupt:
        status = ExitCode.INTERRUPTED
    sys.exit(int(status))


def _run(options: argparse.Namespace) -> int:
    if options.limit is not None or options.sample is not None:
        return _trial(options)
    report, session = _at_work(options, retry=False)
    if session is None:
        print(
            f"rowmill: this run has finished: {report.output} is complete ({report.totals.rows} rows, "
            f"{report.totals.failed} failed). For a new run, name another output.path"
            f"{'; to ask again for the failed rows: rowmill retry' if report.totals.failed else ''}.",
            file=sys.stderr,
        )
    return _ended(options, report, session)


def _retry(options: argparse.Namespace) -> int:
    report, session = _at_work(options, retry=True)
    if session is None:
        print(
            f"rowmill: no row of this run has failed: {report.output} is complete ({report.totals.rows} rows).",
            file=sys.stderr,
        )
    return _ended(options, report, session)


def _trial(options: argparse.Namespace) -> int:
    from rowmill.interface.ui.progress import open_progress
    from rowmill.runs.trial import run_trial

    config = _config(options)
    progress = open_progress(sys.stderr)
    try:
        own, report, session = run_trial(
            config, os.environ, progress, limit=options.limit, sample=options.sample, salvage=options.salvage
        )
    finally:
        progress.close()
    status = _ended(options, report, session)
    rows = f"the first {options.limit:,}" if options.limit is not None else f"{options.sample:,} random"
    print(
        f"  trial    {rows} rows{'' if session else ', asked before'}: in {own.output.path} and {own.run_dir}; "
        f"{config.output.path} is not touched",
        file=sys.stderr,
    )
    return status


def _plan(options: argparse.Namespace) -> int:
    from rowmill.interface.ui.plan_text import text, to_json
    from rowmill.runs.plan import plan

    config = _config(options)
    trial = None
    if options.sample_live is not None:
        ended = _live_sample(config, options.sample_live)
        if isinstance(ended, int):
            return ended
        trial = ended
    planned = plan(config, trial)
    print(to_json(planned).decode() if options.json else f"{text(planned)}\n", end="", flush=True)
    return ExitCode.OK


def _live_sample(config: "Config", rows: int) -> "Trial | int":
    """Ask some rows for real. Returns the exit code where that did not come to its end."""
    from rowmill.interface.ui.progress import open_progress
    from rowmill.interface.ui.report import summary
    from rowmill.runs.plan.trials import live, trial_of
    from rowmill.runs.trial import run_trial

    progress = open_progress(sys.stderr)
    try:
        own, report, session = run_trial(live(config), os.environ, progress, sample=rows)
    finally:
        progress.close()
    if session is not None:
        print(summary(report, session), file=sys.stderr)
        if not report.finished:
            return session.exit_code
    return trial_of(own, report, rows, again=session is None)


def _cancel(options: argparse.Namespace) -> int:
    from rowmill.runs.cancel import cancel

    return cancel(_config(options), os.environ, lambda line: print(line, file=sys.stderr))


def _at_work(options: argparse.Namespace, *, retry: bool) -> "tuple[RunReport, SessionReport | None]":
    from rowmill.interface.ui.progress import open_progress
    from rowmill.runs.session import run

    config = _config(options)
    progress = open_progress(sys.stderr)
    try:
        return run(config, os.environ, progress, salvage=options.salvage, retry=retry)
    finally:
        progress.close()


def _config(options: argparse.Namespace) -> "Config":
    from rowmill.core import config as configuration

    return configuration.load(options.config, options.set)


def _ended(options: argparse.Namespace, report: "RunReport", session: "SessionReport | None") -> int:
    """Say how it ended. No session: the run had finished before, and nothing was done."""
    from rowmill.core.reports import to_json
    from rowmill.interface.ui.report import summary

    if session is not None:
        print(summary(report, session), file=sys.stderr)
    if options.json:
        print(to_json(report).decode(), end="", flush=True)
    if session is None:
        return ExitCode.ROWS_FAILED if report.totals.failed else ExitCode.OK
    return session.exit_code


def _init(options: argparse.Namespace) -> int:
    from rowmill.interface.cli import recipes

    if options.recipe is None:
        for name in recipes.names():
            print(f"{name:<12} {recipes.about(name)}")
        return ExitCode.OK
    written = recipes.write(options.recipe, options.directory)
    here = os.path.realpath(options.directory) == os.path.realpath(".")
    print(
        f"wrote {', '.join(str(path) for path in written)}\n"
        f"  next     {'' if here else f'cd {options.directory} && '}rowmill run: by the embedded simulator, until "
        "config.toml names a provider",
        file=sys.stderr,
    )
    return ExitCode.OK


def _simulate(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.simulator_flags import settings
    from rowmill.simulator.server import serve

    def ready(port: int) -> None:
        print(f"http://127.0.0.1:{port}/v1", flush=True)

    try:
        serve(settings(options), port=options.port, on_ready=ready)
    except (ValueError, OSError) as error:
        print(f"rowmill simulate: {error}", file=sys.stderr)
        return ExitCode.USAGE
    return ExitCode.OK
