"""`rowmill completion SHELL`: what a shell reads to complete commands, flags and files."""

import shtab

from rowmill.interface.cli.arguments import parser, with_all_flags

_FILES = {"FILE", "ROWS", "CONFIG", "DIR"}


def script(shell: str) -> str:
    """Return the script of this shell."""
    every = parser()
    for command in with_all_flags(every).values():
        for action in command._actions:  # noqa: SLF001 - argparse has no other way to its arguments
            name = str(action.metavar or action.dest).upper()
            if name in _FILES:
                action.complete = shtab.DIRECTORY if name == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(every, shell=shell))
