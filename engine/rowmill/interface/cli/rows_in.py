"""Rows of `rowmill map` that lie in no file as an input wants them: from a pipe, or lines of text. It writes them."""

import argparse
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import MachineError
from rowmill.interface.cli import streams
from rowmill.interface.cli.results_out import while_wanted
from rowmill.runs import piped, piped_rows

PIPE = "-"  # as a path
_WAITS_S = 3.0  # for the end of a pipe, before that is told


def come_once(config: Config) -> bool:
    """Whether the rows can be read once only: from stdin, or as `<(command)` gives them."""
    path = Path(config.input.path)
    return config.input.path == PIPE or path.is_fifo() or path.is_char_device()


def _spooled(options: argparse.Namespace, config: Config, called: str, *, piping: bool) -> piped.Spooled:
    """Write the rows of a pipe down."""
    own = config.input.path == PIPE
    typed = own and sys.stdin.isatty()
    limit = options.limit
    end = "Ctrl-D ends them" if limit is None else f"they are asked when there are {limit:,}, or after Ctrl-D"
    if typed:
        streams.say(f"rowmill: reads rows from the terminal; {end}")
    until = "until the pipe ends" if limit is None else f"until there are {limit:,}, or the pipe ends"
    waiting = threading.Timer(_WAITS_S, streams.say, [f"rowmill: reads rows {until}; then they are asked"])
    waiting.daemon = True
    try:
        with nullcontext(sys.stdin.buffer) if own else Path(config.input.path).open("rb") as source:
            if not (typed or options.quiet):
                waiting.start()
            blocks = while_wanted(source, sys.stdout.fileno()) if piping else piped_rows.blocks_of(source)
            if limit is not None:
                text = options.input_format == piped_rows.TEXT
                blocks = piped_rows.first_rows(blocks, limit, config, called, text=text)
            return piped.spooled(blocks, piped.base_of(config), config.machine.min_free_mb)
    except OSError as error:
        raise MachineError(f"the rows cannot be read: {error.strerror}") from None
    finally:
        waiting.cancel()


def written_down(
    options: argparse.Namespace, config: Config, called: str, *, piping: bool
) -> tuple[Config, piped.Spooled]:
    """Write the rows down as the input wants them: lines of text become rows of JSON.

    piping: the results go to stdout. Raises `ReaderGone` where nobody reads them any more, before all rows have come.
    """
    codec, base = config.input.codec, piped.base_of(config)
    as_text = {"format": "jsonl", "encoding": "auto"}  # what is written down is UTF-8
    if not come_once(config):
        return replaced(config, input=as_text), piped.spooled(
            piped_rows.text_rows(Path(config.input.path), codec, called), base
        )
    rows = _spooled(options, config, called, piping=piping)
    try:
        format_: str = piped_rows.TEXT if options.input_format == piped_rows.TEXT else config.input.format
        if format_ == "auto":
            format_ = piped_rows.format_of_rows(rows.path, config, called)
        if format_ == piped_rows.TEXT:
            read, rows = rows, piped.spooled(piped_rows.text_rows(rows.path, codec, called), base)
            read.drop()
            return replaced(config, input=as_text), rows
    except BaseException:
        rows.drop()
        raise
    return replaced(config, input={"format": format_}), rows


def replaced(config: Config, **sections: dict[str, Any]) -> Config:
    """Return the configuration with other keys."""
    changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()}
    return msgspec.structs.replace(config, **changed)
