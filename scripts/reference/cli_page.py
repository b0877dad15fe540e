"""Every command with its usage, its options and its exit codes, as argparse has them."""

import argparse
import textwrap
from collections.abc import Iterator

from rowmill.interface.cli import arguments

_WIDTH = 100  # of a usage


def text() -> str:
    """Return the page's Markdown."""
    every = arguments.parser()
    lines = ["## Before the command", "", *_options(every)]
    for name, command in arguments.with_all_flags(every).items():
        lines += [f"## rowmill {name}", "", _plain(command.description or ""), ""]
        lines += ["```text", _usage(command), "```", "", *_options(command), *_end(command)]
    return "\n".join(lines)


def _usage(command: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(prog=command.prog, width=_WIDTH)
    formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups)  # noqa: SLF001 - as its help does
    first, *others = formatter.format_help().removeprefix("usage: ").rstrip().splitlines()
    return "\n".join([first, *(line.removeprefix(" " * len("usage: ")) for line in others)])


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    formatter = argparse.HelpFormatter(prog=command.prog)
    for action in command._actions:  # noqa: SLF001 - argparse has no other way to them
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):  # noqa: SLF001
            continue
        default = action.dest.upper() if action.option_strings else action.dest
        shown = formatter._metavar_formatter(action, default)(1)[0]  # noqa: SLF001
        names = [f"{name} {shown}" if action.nargs != 0 else name for name in action.option_strings] or [shown]
        about = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        yield ", ".join(f"`{name}`" for name in names)
        yield f": {_plain(about[:1].upper() + about[1:])}."
        yield ""


def _end(command: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what stands behind the options: examples, exit codes."""
    for paragraph in (command.epilog or "").split("\n\n"):
        title, _, rest = paragraph.partition("\n")
        title = f"{title[:1].upper()}{title[1:]}"
        if title.startswith("Exit codes") and rest:
            yield "Exit codes: [those of a run](../troubleshooting.md#exit-codes)."
        elif rest:
            yield f"{title}\n\n```text\n{textwrap.dedent(rest)}\n```"
        else:
            yield f"{title}."
        yield ""


def _plain(words: str) -> str:
    """Return a text in which nothing is taken for Markdown."""
    for mark in "*_<[":
        words = words.replace(mark, f"\\{mark}")
    return words
