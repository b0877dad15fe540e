"""`.env` beside a configuration: keys that are in no environment yet.

Only what the configuration names is taken out of it, and only what the environment has not: whatever else it holds is
other programs'. It is read where one is missing, and not looked at before. A value is taken as it stands, without
`$NAME` in it being looked up. No message shows anything of a line but its number and a variable's name.
"""

import io
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from rowmill.core.errors import ConfigError

NAME = ".env"
_MOST = 64 << 10  # bytes: a file of variables has some hundreds
_LINE_BREAK = re.compile(r"\r\n|\n|\r")


class Environment(dict[str, str]):
    """The environment as it is now, with what a file has of the variables that are missing in it."""

    def __init__(self, environ: Mapping[str, str], file: Path, found: Mapping[str, str]) -> None:
        super().__init__({**environ, **found})
        self.file = file
        self.found = frozenset(found)

    def __repr__(self) -> str:  # the default would show the secrets
        """Name the file."""
        return f"Environment({str(self.file)!r})"


def completed(environ: Mapping[str, str], names: Iterable[str], folder: Path) -> Environment:
    """Return the environment with what `.env` of a folder has of these variables, where they are not set, or blank.

    Raises `ConfigError` in one line for a file that cannot be used, where one of them is missing.
    """
    file = folder / NAME
    missing = [name for name in dict.fromkeys(names) if not environ.get(name, "").strip()]
    return Environment(environ, file, _read(file, missing) if missing else {})


def source(environ: Mapping[str, str], name: str) -> str:
    """Name a variable, and the file where it is from one."""
    return f"{name} in {environ.file}" if isinstance(environ, Environment) and name in environ.found else name


def advice(environ: Mapping[str, str], name: str) -> str:
    """Say where a variable may be set that is missing."""
    file = f", or write {name}=... into {environ.file}" if isinstance(environ, Environment) else ""
    return f"set the environment variable {name}{file}"


def _read(file: Path, wanted: Collection[str]) -> dict[str, str]:
    """Return the wanted variables that a file has; nothing where there is none."""
    text = _text(file, f"set {next(iter(wanted))} in the environment")
    if not text:
        return {}
    from dotenv.parser import parse_stream  # where there is such a file

    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        before = binding.original.string
        blank = before[: len(before) - len(before.lstrip())]
        line = binding.original.line + len(_LINE_BREAK.findall(blank))
        if binding.error:
            raise ConfigError(f"{file}: line {line} is not written as NAME=value, or a quote in it is not closed")
        name, value = binding.key, (binding.value or "").strip()
        if name not in wanted or name is None or not value:
            continue
        if found.get(name, value) != value:
            raise ConfigError(f"{file}: line {line}: {name} has another value than in line {lines[name]}; remove one")
        found[name], lines[name] = value, lines.get(name, line)
    return found


def _text(file: Path, instead: str) -> str:
    """Return the file's text; empty where there is no file. instead: what else could be done, for messages."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise ConfigError(f"{file}: is {what}, and no variables can be read from it; {instead}")
        with file.open("rb") as opened:
            data = opened.read(_MOST + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {os.strerror(error.errno or 0)}; {instead}") from None
    if len(data) > _MOST:
        raise ConfigError(f"{file}: is larger than {_MOST >> 10} KiB, and no file of variables; {instead}")
    try:
        text = data.decode("utf-8-sig")  # editors of Windows begin a file with a mark
        at = text.find("\0")
    except UnicodeDecodeError as error:
        text, at = data[: error.start].decode("utf-8-sig", "replace"), error.start
    if at >= 0:
        line = len(_LINE_BREAK.findall(text[:at])) + 1
        raise ConfigError(f"{file}: line {line} is not in UTF-8; save the file as UTF-8")
    return text
