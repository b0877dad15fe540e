"""`rowmill compare`: two runs held against each other."""

import argparse
from pathlib import Path

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import config_of
from rowmill.interface.ui.compared_text import compared_text
from rowmill.runs.comparing import compare as compare_runs


def compare(options: argparse.Namespace) -> int:
    """Print what two runs come to, and return the exit code."""
    options.set = []
    compared = compare_runs(_run_dir(options, options.first), _run_dir(options, options.second), most=options.limit)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(compared), indent=2) + b"\n")
    return ExitCode.OK if options.quiet else streams.out(compared_text(compared) + "\n")


def _run_dir(options: argparse.Namespace, target: str) -> Path:
    options.config = Path(target)
    is_run = options.config.is_dir() and (options.config / "manifest.json").exists()
    return options.config if is_run else config_of(options).run_dir
