"""`rowmill show`: the replies of a run, on the terminal."""

import argparse
import shutil
import sys

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of
from rowmill.interface.ui.replies_text import reply_text
from rowmill.runs.answered import Choice, answered, with_prompts
from rowmill.runs.conditions import condition

_FEW = 20  # rows that are shown where nothing says how many
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
        sample=options.sample,
        limit=options.limit if options.limit is not None or chosen else _FEW,
    )
    lines = list(answered(path, choice))
    if config is not None and lines:
        with_prompts(config, lines)
    if options.json:
        return streams.out(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    if not lines:
        if not options.quiet:
            what = "no such row has an outcome" if chosen else "no row has an outcome"
            streams.say(one_line(f"rowmill: {path}: {what} yet"))
        return ExitCode.OK
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    text = "\n\n".join(reply_text(line, width) for line in lines)
    more = (
        ""
        if chosen or len(lines) < _FEW or options.limit is not None
        else "\n\nand more: --limit N, --sample N, --row N"
    )
    return streams.out(f"{text}{more}\n")
