"""`rowmill status`: looks at a run from outside, once or until it ends."""

import argparse
import time
from pathlib import Path

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.interface.cli import shown, streams
from rowmill.interface.cli.configured import config_of
from rowmill.interface.ui.status_text import status_text
from rowmill.runs.standing import StandingRun, standing

_EVERY_S = 0.5


def status(options: argparse.Namespace) -> int:
    """Tell where a run stands, and return the exit code."""
    options.config = Path(options.run)
    is_run = options.config.is_dir() and (options.config / "manifest.json").exists()
    path = options.config if is_run else config_of(options).run_dir
    found = _watched(options, path) if options.watch else standing(path)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if not options.quiet:
        return streams.out(status_text(found) + "\n")
    return ExitCode.OK


def _watched(options: argparse.Namespace, path: Path) -> StandingRun:
    """Show the run until it ends; return how it stands then."""
    progress = shown.display(options)
    try:
        while True:
            found = standing(path)
            if found.run.state != "at work":
                return found
            if found.status is not None:
                progress.show(found.status.snapshot)
            time.sleep(_EVERY_S)
    finally:
        progress.close()
