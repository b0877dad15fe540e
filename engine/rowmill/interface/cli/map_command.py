"""`rowmill map`: a job without a configuration's file; rows may come from a pipe, and results go into one.

The flags are keys of a configuration, which is checked and run as any other. With an output file the job lies beside
it, as a run does; without one `rowmill.runs.piped` keeps it until it is done, so that the same command goes on.
"""

import argparse
import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import ConfigError, ExitCode, MachineError, RowmillError
from rowmill.core.reports import RunReport, SessionReport
from rowmill.interface.cli import shown, streams
from rowmill.interface.cli.results_out import ResultsOut
from rowmill.interface.ui.report import Again
from rowmill.runs import piped
from rowmill.runs.session import run
from rowmill.runs.trial import run_trial

_PIPE = "-"
_IN, _OUT = _PIPE, "/dev/stdout"  # what it stands for: on a terminal both would lead to the same place
_STDIN, _STDOUT = "stdin", "stdout"
_WAITS_S = 3.0  # for the end of a pipe, before that is told
_FLAGS = {  # keys -> what they are called here
    "input.path": "ROWS",
    "input.id": "--id",
    "task.model": "-m",
    "task.prompt": "-p",
    "task.system": "--system",
    "task.schema": "--schema",
    "output.path": "-o",
    "output.include": "--include",
    "provider.base_url": "--base-url",
    "budget.max_usd": "--max-usd",
}
_WORDS = {  # what advice calls them
    "set output.format": "set --to",
    "set input.path": "set ROWS",
    "set input.format": "set --from",
    "start it by rowmill run": "leave out --retry",
}
_SUFFIXES = {"csv": ".csv", "batch": ".jsonl"}  # of results on stdout


def map_rows(options: argparse.Namespace) -> int:
    """Run the job, and return the exit code."""
    if options.rows is None:
        if sys.stdin.isatty():
            raise ConfigError("rowmill map: name the file with the rows, or - for rows from a pipe")
        options.rows = _PIPE
    options.output = _OUT if options.output in (None, _PIPE) else options.output
    with _in_words_of_flags():
        tree = _tree(options)
        config = configuration.parse(tree, "rowmill map")
        _check(options, config)
        if options.save is not None:
            _save(options.save, tree)
        return _map(options, config)


def _map(options: argparse.Namespace, config: Config) -> int:
    named: dict[str, str] = {}  # what a message is not to name
    spooled: piped.Spooled | None = None
    text = options.input_format == piped.TEXT
    called = _STDIN if config.input.path == _IN else config.input.path
    try:
        if _comes_through_a_pipe(config) or text or piped.is_lines(config.input.path):
            config, spooled = _as_rows(config, called, text=text, quiet=options.quiet)
            identity = spooled.digest
        else:
            identity = piped.identity_of(config) if config.output.path == _OUT else b""
        job = piped.job_of(config, identity, (options.limit, options.sample))
        if spooled is not None:
            suffix = {"csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl"}.get(config.input.format, "")
            path = spooled.keep(job, suffix)
            named[str(path)] = called
            config = _replaced(config, input={"path": str(path)})
    finally:
        if spooled is not None:
            spooled.drop()
    with _naming(named), shown.another_run(_again(options)):
        if config.output.path == _OUT:
            return _to_stdout(options, config, job, named)
        report, session, again = _to_file(options, config)
    if spooled is not None and report.finished and not report.totals.failed:
        job.remove()
    piped.prune(piped.base_of(config))
    return shown.ended(options, _called(report, named), session, again)


def _to_file(options: argparse.Namespace, config: Config) -> tuple[RunReport, SessionReport | None, Again | None]:
    again = _again(options)
    progress = shown.display(options)
    trial = options.limit is not None or options.sample is not None
    if options.fresh:
        shown.fresh(options, config)
    try:
        if trial:
            own, report, session = run_trial(
                config, os.environ, progress, limit=options.limit, sample=options.sample, retry=options.retry
            )
        else:
            report, session = run(config, os.environ, progress, retry=options.retry)
    finally:
        progress.close()
    if trial and not options.quiet:
        before = "" if session else "asked before: "
        streams.say(f"trial: {before}the results are in {own.output.path}; {config.output.path} is not touched")
    elif trial:
        pass
    elif session is None:
        failed = "; to ask again for the failed rows: the same command with --retry" if report.totals.failed else ""
        streams.complain(
            f"this has been asked before: {report.output} is complete ({report.totals.rows} rows, "
            f"{report.totals.failed} failed){failed}"
        )
    return report, session, None if trial else again


def _to_stdout(options: argparse.Namespace, config: Config, job: piped.PipedJob, named: dict[str, str]) -> int:
    job.make()
    output = job.results(_SUFFIXES.get(config.output.format, ".jsonl"))
    format_ = "jsonl" if config.output.format == "auto" else config.output.format
    config = _replaced(config, output={"path": str(output), "format": format_}, checkpoint={"dir": str(job.run)})
    named |= {str(output): _STDOUT, str(job.run): "this job"}
    # The results themselves show on a terminal how far it is.
    progress = shown.NoProgress() if sys.stdout.isatty() else shown.display(options)
    results = ResultsOut(progress, output, sys.stdout.fileno(), named)
    try:
        report, session = run(
            config, os.environ, results, retry=options.retry, limit=options.limit, sample=options.sample
        )
    except RowmillError:
        if not job.begun():
            job.remove()  # nothing was asked
        raise
    finally:
        results.close()
    if not results.finish(finished=report.finished) and results.gone:
        if not options.quiet:
            _say_gone(report)
        return ExitCode.OK
    done = report.finished and not report.totals.failed
    if done:
        job.remove()
    piped.prune(piped.base_of(config))
    report = msgspec.structs.replace(_called(report, named), output=_STDOUT, errors=None)
    if session is None and not options.quiet:
        streams.say(f"rowmill: asked before, and told again: {report.totals.rows:,} rows")
    return shown.ended(options, report, session, _again(options))


def _say_gone(report: RunReport) -> None:
    of = "" if report.rows is None else f" of {report.rows:,}"
    streams.say(
        f"rowmill: whoever read the results has had enough; {report.totals.rows:,}{of} rows are answered and kept, "
        "and the same command goes on from there"
    )


def _comes_through_a_pipe(config: Config) -> bool:
    """Whether the rows can be read once only: from stdin, or as `<(command)` gives them."""
    path = Path(config.input.path)
    return config.input.path == _IN or path.is_fifo() or path.is_char_device()


def _spooled(config: Config, *, quiet: bool) -> piped.Spooled:
    """Write the rows of a pipe down."""
    own = config.input.path == _IN
    typed = own and sys.stdin.isatty()
    if typed:
        streams.say("rowmill: reads rows from the terminal; Ctrl-D ends them")
    waiting = threading.Timer(_WAITS_S, streams.say, ["rowmill: reads rows until the pipe ends; then they are asked"])
    waiting.daemon = True
    try:
        with nullcontext(sys.stdin.buffer) if own else Path(config.input.path).open("rb") as source:
            if not (typed or quiet):
                waiting.start()
            return piped.spooled(piped.blocks_of(source), piped.base_of(config), config.machine.min_free_mb)
    except OSError as error:
        raise MachineError(f"the rows cannot be read: {error.strerror}") from None
    finally:
        waiting.cancel()


def _as_rows(config: Config, called: str, *, text: bool, quiet: bool) -> tuple[Config, piped.Spooled]:
    """Write the rows down as the input wants them: lines of text become rows of JSON."""
    codec, base = config.input.codec, piped.base_of(config)
    as_text = {"format": "jsonl", "encoding": "auto"}  # what is written down is UTF-8
    if not _comes_through_a_pipe(config):
        return _replaced(config, input=as_text), piped.spooled(
            piped.text_rows(Path(config.input.path), codec, called), base
        )
    rows = _spooled(config, quiet=quiet)
    try:
        format_: str = piped.TEXT if text else config.input.format
        if format_ == "auto":
            format_ = piped.format_of_rows(rows.path, config, called)
        if format_ == piped.TEXT:
            read, rows = rows, piped.spooled(piped.text_rows(rows.path, codec, called), base)
            read.drop()
            return _replaced(config, input=as_text), rows
    except BaseException:
        rows.drop()
        raise
    return _replaced(config, input={"format": format_}), rows


def _tree(options: argparse.Namespace) -> dict[str, Any]:
    """Make the configuration, as its file would have it."""
    schema: Any = options.schema
    if schema is not None and schema.lstrip().startswith("{"):
        try:
            schema = msgspec.json.decode(schema)
        except msgspec.DecodeError as error:
            raise ConfigError(f"rowmill map: --schema: no JSON: {error}") from None
    include = [word for text in options.include for word in text.split(",") if word]
    format_ = "jsonl" if options.input_format == piped.TEXT else options.input_format
    sections = {
        "input": {"path": options.rows, "format": format_, "id": options.id},
        "task": {
            "api": options.api,
            "model": options.model,
            "system": _text_of("--system", options.system),
            "prompt": _text_of("-p", options.prompt),
            "schema": schema,
        },
        "output": {"path": options.output, "format": options.output_format, "include": include or None},
        "budget": {"max_usd": options.max_usd},
    }
    tree: dict[str, Any] = {
        name: own for name, keys in sections.items() if (own := {k: v for k, v in keys.items() if v is not None})
    }
    provider = {"base_url": options.base_url, "api_key_env": options.api_key_env}
    if own := {key: value for key, value in provider.items() if value is not None}:
        tree["provider"] = [own]
    for change in options.set:
        configuration.override(tree, change)
    return tree


def _text_of(flag: str, given: str | None) -> str | None:
    """Return the text of a flag; @FILE is what the file says. Raises `ConfigError`."""
    if given is None or not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{flag} {given}: is no UTF-8 text") from None
    except (OSError, ValueError) as error:
        if "{" in given or any(map(str.isspace, given)):
            return given  # no name of a file, but a text that begins so
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{flag} {given}: {why}; name a file with the text, or put a space before the @") from None


def _check(options: argparse.Namespace, config: Config) -> None:
    """Refuse what the flags cannot mean together. Raises `ConfigError`."""
    piping = config.output.path == _OUT
    if piping and streams.is_lacking(1):
        raise ConfigError("rowmill map: there is no stdout to write results to; name a file by -o")
    if piping and config.output.format == "parquet":
        raise ConfigError("rowmill map: Parquet cannot be written as rows come; name a file by -o")
    if piping and options.json:
        raise ConfigError("rowmill map: --json prints the report to stdout, where the results go; name a file by -o")
    if piping and config.checkpoint.dir is not None:
        raise ConfigError("rowmill map: checkpoint.dir is made for results that go to stdout; name a file by -o")
    if options.fresh and (piping or options.limit is not None or options.sample is not None):
        raise ConfigError("rowmill map: --fresh is of a whole job with -o: one of another question is new by itself")
    lines = options.input_format == piped.TEXT or piped.is_lines(config.input.path)
    if options.save is not None and (piping or _comes_through_a_pipe(config) or lines):
        what = "results that go to stdout" if piping else "lines of text" if lines else "rows from a pipe"
        raise ConfigError(f"rowmill map: --save: {what} are none that a configuration can name; name files")


def _save(path: Path, tree: dict[str, Any]) -> None:
    """Write the configuration as a file. Raises `ConfigError` where another one lies there, or it has no TOML."""
    import tomli_w

    try:
        text = tomli_w.dumps(tree, multiline_strings="\r" not in repr(tree))
    except TypeError:
        raise ConfigError("rowmill map: --save: null has no place in TOML; put the schema into a file") from None
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if not path.is_file() or path.read_bytes() != text.encode():
            raise ConfigError(f"rowmill map: --save: {path} exists and says something else; name another") from None
    except OSError as error:
        raise MachineError(f"--save: {path} cannot be written: {error.strerror}") from None


def _again(options: argparse.Namespace) -> Again:
    """Return the commands that go on."""
    words = shlex.join([word for word in options.words if word not in ("--retry", "--fresh")])
    before = "... | " if options.rows == _IN else ""
    command = f"{before}rowmill {words}"
    return Again(run=command, retry=f"{command} --retry", fresh=f"{command} --fresh")


def _replaced(config: Config, **sections: dict[str, Any]) -> Config:
    """Return the configuration with other keys."""
    changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()}
    return msgspec.structs.replace(config, **changed)


def _called(report: RunReport, named: dict[str, str]) -> RunReport:
    return msgspec.structs.replace(report, input=named.get(report.input, report.input))


@contextmanager
def _naming(named: dict[str, str]) -> Iterator[None]:
    """Let messages say stdin and stdout where the user has named no file."""
    try:
        yield
    except RowmillError as error:
        text = str(error)
        for name, instead in named.items():
            text = text.replace(name, instead)
        told = type(error)(text)
        told.exit_code = error.exit_code
        raise told from None


@contextmanager
def _in_words_of_flags() -> Iterator[None]:
    """Let messages that begin with a key name its flag."""
    try:
        yield
    except RowmillError as error:
        text = str(error).removeprefix("rowmill map: ")  # every complaint begins with the command's name
        if (found := re.match(r"([a-z_]+\.[a-z_]+)(?=[:\[ ])", text)) and found[1] in _FLAGS:
            text = f"{_FLAGS[found[1]]} ({found[1]}){text[found.end() :]}"
        for key, word in _WORDS.items():
            text = text.replace(key, word)
        told = type(error)(text)
        told.exit_code = error.exit_code
        raise told from None
