"""The flags of `rowmill map`: the configuration that they are, what they cannot mean together, their names."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import ConfigError, MachineError, RowmillError
from rowmill.interface.cli import streams
from rowmill.runs import piped_rows

_FLAGS = {  # keys -> what they are called here
    "input.path": "ROWS",
    "input.id": "--id",
    "task.model": "-m",
    "task.prompt": "-p",
    "task.system": "--system",
    "task.schema": "--schema",
    "output.path": "-o",
    "output.include": "--include",
    "provider.preset": "--preset",
    "provider.base_url": "--base-url",
    "budget.max_usd": "--max-usd",
}
_WORDS = {  # what advice calls them
    "set output.format": "set --to",
    "set input.path": "set ROWS",
    "set input.format": "set --from",
    "start it by rowmill run": "leave out --retry",
}


def tree_of(options: argparse.Namespace) -> dict[str, Any]:
    """Make the configuration, as its file would have it."""
    schema: Any = options.schema
    if schema is not None and schema.lstrip().startswith("{"):
        try:
            schema = msgspec.json.decode(schema)
        except msgspec.DecodeError as error:
            raise ConfigError(f"rowmill map: --schema: no JSON: {error}") from None
    include = [word for text in options.include for word in text.split(",") if word]
    format_ = "jsonl" if options.input_format == piped_rows.TEXT else options.input_format
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
    provider = {"preset": options.preset, "base_url": options.base_url, "api_key_env": options.api_key_env}
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


def check(options: argparse.Namespace, config: Config, *, piping: bool, once: bool) -> None:
    """Refuse what the flags cannot mean together. Raises `ConfigError`.

    piping: the results go to stdout. once: the rows can be read once only, as those of a pipe.
    """
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
    lines = options.input_format == piped_rows.TEXT or piped_rows.is_lines(config.input.path)
    if options.save is not None and (piping or once or lines):
        what = "results that go to stdout" if piping else "lines of text" if lines else "rows from a pipe"
        raise ConfigError(f"rowmill map: --save: {what} are none that a configuration can name; name files")


def save(path: Path, tree: dict[str, Any]) -> None:
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


@contextmanager
def in_their_words() -> Iterator[None]:
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
