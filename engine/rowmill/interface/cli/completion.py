"""`rowmill completion SHELL`: what a shell reads to complete commands, flags and files."""

import shtab

from rowmill.interface.cli import recipes
from rowmill.interface.cli.arguments import parser, with_all_flags

_FILES = {"FILE": shtab.FILE, "ROWS": shtab.FILE, "CONFIG": shtab.FILE, "RUN": shtab.FILE, "DIR": shtab.DIRECTORY}


def script(shell: str) -> str:
    """Return the script of this shell."""
    every = parser()
    for command in with_all_flags(every).values():
        for action in command._actions:  # noqa: SLF001 - argparse has no other way to its arguments
            name = str(action.metavar or action.dest).upper()
            if name in _FILES:
                action.complete = _FILES[name]  # type: ignore[attr-defined]
            elif "--recipe" in action.option_strings:
                action.choices = recipes.names()
    return str(shtab.complete(every, shell=shell))
