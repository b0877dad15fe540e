"""What a command shows while a run goes on, and what it says at its end."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rowmill.core.errors import AnotherRun, ExitCode, RowmillError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import environ_of

if TYPE_CHECKING:
    from pathlib import Path

    from rowmill.core.config import Config
    from rowmill.core.reports import RunReport, SessionReport, Snapshot
    from rowmill.interface.ui.report import Again
    from rowmill.interface.ui.screen import ProgressDisplay


_FIRST = 3  # rows of a trial that are shown
_CLIPPED = 600  # characters of each of their texts


class NoProgress:
    """Shows nothing."""

    def show(self, snapshot: "Snapshot") -> None:
        """Show nothing."""

    def log(self, line: str) -> None:
        """Tell nothing."""

    def close(self) -> None:
        """Do nothing."""


def display(options: argparse.Namespace) -> "ProgressDisplay":
    """Return what shows the run: nothing with -q, plain lines with -v, else what fits where stderr leads."""
    if options.quiet:
        return NoProgress()
    from rowmill.interface.ui.progress import open_progress

    return open_progress(sys.stderr, plain=options.verbose)


def fresh(options: argparse.Namespace, config: "Config") -> None:
    """Set a run aside that there is, and say where it lies."""
    from rowmill.runs.fresh import set_aside

    aside = set_aside(config, environ_of(options, config))
    if aside is not None and not options.quiet:
        output = "" if aside.output is None else f"{aside.output} and "
        streams.say(one_line(f"rowmill: the run before is kept aside: {output}{aside.run_dir}"))


def first_replies(config: "Config") -> None:
    """Show the first rows of a trial, for whoever asked for it wants to see them."""
    from rowmill.interface.ui.replies_text import reply_text
    from rowmill.runs.answered import Choice, answered, with_prompts

    with suppress(RowmillError):  # the trial itself has told what there is to be told
        lines = with_prompts(config, answered(config.run_dir, Choice(limit=_FIRST)), missing=lambda _: None)
        width, colour = shutil.get_terminal_size().columns, streams.is_coloured(sys.stderr)
        texts = (reply_text(line, width, most=_CLIPPED, colour=colour) for line in lines)
        streams.say("\n".join(f"\n{text}" for text in texts) + "\n")


@contextmanager
def another_run(again: "Again") -> Iterator[None]:
    """Let the refusal of a run directory that is of something else end in a command that starts anew."""
    try:
        yield
    except AnotherRun as error:
        raise AnotherRun(f"{error}; to start anew, with what there is kept aside: {again.fresh}") from None


def kept_page(config: "Config", session: "SessionReport | None") -> "Path | None":
    """Write the page of a run's report, where something was done, and return where it lies."""
    if session is None:
        return None
    from rowmill.interface.ui.report_page import keep_page

    return keep_page(config)


def ended(
    options: argparse.Namespace,
    report: "RunReport",
    session: "SessionReport | None",
    again: "Again | None",
    page: "Path | None" = None,
) -> int:
    """Say how it ended, and return the exit code. No session: the run had finished before, and nothing was done.

    again: the commands that go on with it, where there are some. page: where the report lies as a page.
    """
    from rowmill.core.reports import to_json
    from rowmill.interface.ui.report import summary

    if session is not None and not options.quiet:
        width = streams.width_of(sys.stderr)
        streams.say(summary(report, session, again=again, page=page, width=width))
    elif session is not None and not report.finished and session.exit_code:
        streams.complain(f"stopped: {session.stopped_by or 'before its end'}; {report.totals.rows:,} rows are done")
    if options.json:
        streams.out(to_json(report))
    if session is None:
        return ExitCode.ROWS_FAILED if report.totals.failed else ExitCode.OK
    return session.exit_code
