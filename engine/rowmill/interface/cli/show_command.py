"""`rowmill show`: the replies of a run, on the terminal."""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from rowmill.core.conditions import condition
from rowmill.core.errors import ExitCode
from rowmill.core.plain_text import one_line
from rowmill.core.reports import report_at
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of
from rowmill.interface.ui.replies_text import reply_text
from rowmill.runs.answered import Choice, Line, answered, with_prompts
from rowmill.store.run_directory import RunDirectory

_FEW = 20  # rows that are shown where nothing says how many
_BETWEEN = "\n"
_WIDTH = 100  # of text that leads to no terminal


def show(options: argparse.Namespace) -> int:
    """Print the chosen rows, and return the exit code."""
    path, config = run_of(options, options.run)
    chosen = options.rows or options.failed or options.fault or options.where or options.sample is not None
    choice = Choice(
        rows=tuple(options.rows or ()),
        failed=options.failed or options.fault is not None,
        fault=options.fault,
        holds=None if options.where is None else condition(options.where),
        step=options.step,
        sample=options.sample,
        limit=options.limit if options.limit is not None or chosen else _FEW + 1,
    )
    lines = answered(path, choice)
    if config is not None:
        missing = (lambda _: None) if options.quiet else _tell_missing
        lines = with_prompts(config, lines, missing=missing, step=options.step)
    if options.json:
        return streams.out_each(msgspec.json.encode(line) + b"\n" for line in lines)
    first = next(lines, None)
    if first is None:
        if not options.quiet:
            what = "no such row has an outcome" if chosen else "no row has an outcome"
            streams.say(one_line(f"rowmill: {path}: {what}{_left_out(path) or ' yet'}"))
        return ExitCode.OK
    return streams.out_each(_texts(chain([first], lines), None if chosen or options.limit is not None else _FEW))


def _texts(lines: Iterator[Line], few: int | None) -> Iterator[str]:
    """Yield rows as text, one at a time; behind so many of them only that there are more."""
    width, colour = streams.width_of(sys.stdout) or _WIDTH, streams.is_coloured(sys.stdout)
    for place, line in enumerate(lines):
        if place == few:
            yield "\nand more: --limit N, --sample N, --row N\n"
            return
        yield f"{'' if not place else _BETWEEN}{reply_text(line, width, colour=colour)}\n"


def _left_out(path: Path) -> str:
    """Say which steps of several have kept rows from going on, which are not shown."""
    report = report_at(RunDirectory(path).report)
    steps = [] if report is None else [step for step in report.steps or () if step.left_out]
    told = ", ".join(f"{step.left_out:,} by step {step.name}" for step in steps)
    return f"; left out were {told}: show --step {steps[0].name} has them" if told else ""


def _tell_missing(why: str) -> None:
    streams.say(one_line(f"rowmill: prompts are left out: {why}"))
