"""`rowmill status`: looks at a run from outside, once or until it ends."""

import argparse
import sys
import time
from pathlib import Path

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.interface.cli import shown, streams
from rowmill.interface.cli.configured import again, run_of
from rowmill.interface.ui.status_text import status_text
from rowmill.runs.standing import StandingRun, standing, still

_EVERY_S = 0.5


def status(options: argparse.Namespace) -> int:
    """Tell where a run stands, and return the exit code."""
    path, config = run_of(options, options.run)
    found = _watched(options, path) if options.watch else standing(path)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if not options.quiet:
        commands = None if config is None else again(options)
        return streams.out(status_text(found, commands, streams.width_of(sys.stdout)) + "\n")
    return ExitCode.OK


def _watched(options: argparse.Namespace, path: Path) -> StandingRun:
    """Show the run until it ends; return how it stands then."""
    found = standing(path)
    progress = shown.display(options)
    try:
        while found.run.state == "at work":
            if found.status is not None:
                progress.show(found.status.snapshot)
            time.sleep(_EVERY_S)
            found = still(path, found)
        return found
    finally:
        progress.close()
