"""`rowmill report`: the report of a run as a page, as a file, as JSON, or served while the run goes on."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rowmill.core.errors import ConfigError, ExitCode, MachineError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of

OUT = "-"
_PAGE = b"<!doctype html"


def report(options: argparse.Namespace) -> int:
    """Make it, and return the exit code."""
    from rowmill.interface.ui.report_page import page
    from rowmill.runs.report.made import encoded, run_document
    from rowmill.store import durable
    from rowmill.store.run_directory import RunDirectory

    path, config = run_of(options, options.run)
    _refuse_what_does_not_fit(options)
    if options.live:
        from rowmill.interface.cli.served import serve

        return serve(options, path, config)
    document = encoded(run_document(path, config, whole=True))
    if options.json:
        return streams.out(document + b"\n")
    made = page(document)
    if options.output == OUT:
        return streams.out(made)
    if options.output is None:
        target = RunDirectory(path).page
        with _in_a_line(target, "--output"):
            durable.replace_unsynced(target, made)
    else:
        target = Path(options.output)
        written(target, made, "--output")
    if not options.quiet:
        streams.say(one_line(f"rowmill: the report is in {target}"))
    if options.open:
        show(target.resolve().as_uri())
    return ExitCode.OK


def _refuse_what_does_not_fit(options: argparse.Namespace) -> None:
    if options.port is not None and not options.live:
        raise ConfigError("--port is of --live")
    if options.live and (options.json or options.output is not None):
        raise ConfigError("--live serves the page: leave out --json and --output")
    if options.json and (options.output is not None or options.open):
        raise ConfigError("--json prints the document: leave out --output and --open")
    if options.open and options.output == OUT:
        raise ConfigError("--open needs a file: leave out --output -")
    if options.output == OUT and sys.stdout.isatty():
        raise ConfigError("--output -: the page is no text for a terminal; name a file, or pipe it on")


def written(target: Path, made: bytes, flag: str) -> None:
    """Write a page to a file of the user's, of which it replaces none but a page.

    flag: names another one. Raises `ConfigError` where something else lies there, `MachineError`.
    """
    with _in_a_line(target, flag):
        if _is_other(target):
            raise ConfigError(f"{target} is no page, and is not written over: name another file by {flag}")
        target.write_bytes(made)


def _is_other(target: Path) -> bool:
    """Whether a file of rows, answers, a configuration or the like lies there, which a slip of the keys would cost."""
    if not target.is_file():  # also a device or a pipe, which loses nothing
        return False
    with target.open("rb") as file:
        return file.read(len(_PAGE)).lower() not in (_PAGE, b"")


@contextmanager
def _in_a_line(target: Path, flag: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"{target} cannot be written: {error.strerror}; name another file by {flag}") from None


def show(url: str) -> None:
    """Open a page in the browser of whoever sits here."""
    import webbrowser

    if not webbrowser.open(url):
        raise MachineError(f"no browser was found to open {url}")
