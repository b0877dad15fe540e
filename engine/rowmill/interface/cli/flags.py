"""The flags that several commands have, and what their values are."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rowmill.interface.cli import streams


class Command(argparse.ArgumentParser):
    """A command. Options whose reading takes imports that others do not wait for are added once it is given."""

    add_options: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with all options."""
        if self.add_options is not None:
            self.add_options(self)
            self.add_options = None
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        # Whether argparse passes over a stream that takes nothing depends on the Python, and on what is buffered.
        if not message:
            return
        if file is sys.stdout:
            streams.out(message)  # whoever asks for help has asked for nothing that could fail
        else:
            streams.say(message.removesuffix("\n"))


def add_config(command: argparse.ArgumentParser) -> None:
    """Add the configuration and --set."""
    command.add_argument("config", nargs="?", default="config.toml", type=Path, help="default: config.toml")
    add_set(command)


def add_manners(command: argparse.ArgumentParser) -> None:
    """Add -q and -v."""
    # Without defaults: what stands before the command counts too.
    for short, name, about in (
        ("-q", "--quiet", "say nothing but what is wrong"),
        ("-v", "--verbose", "every event as a plain line, on a terminal too"),
    ):
        command.add_argument(short, name, action="store_true", default=argparse.SUPPRESS, help=about)


def add_set(command: argparse.ArgumentParser) -> None:
    """Add --set."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration, as in --set workers.count=4 (a TOML value; may be repeated)",
    )


def rows(text: str) -> int:
    """Read a number of rows."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows: 1 or more")
    return int(text)


def row(text: str) -> int:
    """Read the number of a row."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a row: 0 or more")
    return int(text)


def port(text: str) -> int:
    """Read a port."""
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - what a port can be
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)
