"""Recipes: a configuration, sample rows and, where one fits, a schema for each task of bulk work, to start from.

Each is a folder beside this file. The first line of its config.toml says what it is.
"""

import difflib
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from rowmill.core.errors import ConfigError, InputError, MachineError

_CONFIG = "config.toml"


def names() -> list[str]:
    """Return the names of the recipes."""
    return sorted(each.name for each in files(__name__).iterdir() if each.joinpath(_CONFIG).is_file())


def about(name: str) -> str:
    """Return what a recipe is for, in a line."""
    first, _, _ = _folder(name).joinpath(_CONFIG).read_text(encoding="utf-8").partition("\n")
    return first.removeprefix("# ")


def write(name: str, directory: Path, edit: Callable[[str], str] = str) -> list[Path]:
    """Write a recipe's files into a directory, which is made where it is absent; return their paths.

    edit: what becomes of the configuration's text.
    Raises `ConfigError` where there is no such recipe, `InputError` where one of the files is there already: then
    nothing is written.
    """
    sources = sorted(_folder(name).iterdir(), key=lambda each: each.name)
    targets = [directory / each.name for each in sources]
    for target in targets:
        if target.exists() or target.is_symlink():
            raise InputError(f"{target} exists, and nothing was written; move it away, or name another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source, target in zip(sources, targets, strict=True):
            with target.open("xb") as file:  # "x": not over a file that has come to be since
                text = source.read_bytes()
                file.write(edit(text.decode()).encode() if source.name == _CONFIG else text)
    except OSError as error:
        raise MachineError(f"cannot write the recipe into {directory}: {error.strerror}") from None
    return targets


def _folder(name: str) -> Traversable:
    if name not in (known := names()):
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
        raise ConfigError(f"no recipe is named {name!r}; {hint}")
    return files(__name__).joinpath(name)
