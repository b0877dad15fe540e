"""`rowmill compare`: two runs held against each other."""

import argparse
import sys
from pathlib import Path

import msgspec

from rowmill.core.errors import ConfigError, ExitCode
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of
from rowmill.interface.ui.compared_text import compared_text
from rowmill.runs.comparing import compare as compare_runs


def compare(options: argparse.Namespace) -> int:
    """Print what two runs come to, and return the exit code."""
    options.set = []
    (first, _), (second, _) = run_of(options, options.first), run_of(options, options.second)
    if options.html is not None:
        return _as_page(options, first, second)
    compared = compare_runs(first, second, most=options.limit)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(compared), indent=2) + b"\n")
    if options.quiet:
        return ExitCode.OK
    text = compared_text(compared, streams.width_of(sys.stdout), colour=streams.is_coloured(sys.stdout))
    return streams.out(f"{text}\n")


def _as_page(options: argparse.Namespace, first: Path, second: Path) -> int:
    from rowmill.interface.cli.report_command import OUT, written
    from rowmill.interface.ui.report_page import page
    from rowmill.runs.report.compared import DIFFERING, compared_document

    if options.json:
        raise ConfigError("--json prints the figures: leave out --html")
    document = compared_document(compare_runs(first, second, most=DIFFERING))
    made = page(msgspec.json.encode(document))
    if options.html == OUT:
        return streams.out(made)
    written(Path(options.html), made, "--html")
    if not options.quiet:
        streams.say(one_line(f"rowmill: the page is in {options.html}"))
    return ExitCode.OK
