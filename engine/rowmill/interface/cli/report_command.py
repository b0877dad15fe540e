"""`rowmill report`: the report of a run as a page, as a file, as JSON, or served while the run goes on."""

import argparse
import sys
from pathlib import Path

from rowmill.core.errors import ConfigError, ExitCode, MachineError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import run_of

_OUT = "-"


def report(options: argparse.Namespace) -> int:
    """Make it, and return the exit code."""
    from rowmill.interface.ui.report_page import page
    from rowmill.runs.report.made import encoded, run_document
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
    if options.output == _OUT:
        return streams.out(made)
    own = RunDirectory(path).page
    target = own if options.output is None else Path(options.output)
    _write(target, made, private=options.output is None)
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
    if options.open and options.output == _OUT:
        raise ConfigError("--open needs a file: leave out --output -")
    if options.output == _OUT and sys.stdout.isatty():
        raise ConfigError("--output -: the page is no text for a terminal; name a file, or pipe it on")


def _write(target: Path, made: bytes, *, private: bool = False) -> None:
    """Write a page. private: it replaces what was there, in a directory of ours. Raises `MachineError`."""
    from rowmill.store import durable

    try:
        if private:
            durable.replace_unsynced(target, made)
        else:
            target.write_bytes(made)
    except OSError as error:
        raise MachineError(f"{target} cannot be written: {error.strerror}; name another file by --output") from None


def show(url: str) -> None:
    """Open a page in the browser of whoever sits here."""
    import webbrowser

    if not webbrowser.open(url):
        raise MachineError(f"no browser was found to open {url}")
