"""`rowmill compare`: two runs held against each other."""

import argparse

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of
from rowmill.interface.ui.compared_text import compared_text
from rowmill.runs.comparing import compare as compare_runs


def compare(options: argparse.Namespace) -> int:
    """Print what two runs come to, and return the exit code."""
    options.set = []
    (first, _), (second, _) = run_of(options, options.first), run_of(options, options.second)
    compared = compare_runs(first, second, most=options.limit)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(compared), indent=2) + b"\n")
    return ExitCode.OK if options.quiet else streams.out(compared_text(compared) + "\n")
