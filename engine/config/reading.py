"""A configuration file and `--set` overrides -> a checked `Config`, or one line that names the key to change."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.config import checks
from engine.config.sections import (
    CheckpointConfig,
    ClientConfig,
    Config,
    InputConfig,
    OutputConfig,
    ProviderConfig,
    RetryConfig,
    TaskConfig,
    WorkersConfig,
)
from engine.errors import ConfigError
from engine.records import SimulatorSettings

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "input": InputConfig,
    "task": TaskConfig,
    "output": OutputConfig,
    "provider": ProviderConfig,
    "client": ClientConfig,
    "workers": WorkersConfig,
    "retry": RetryConfig,
    "checkpoint": CheckpointConfig,
    "simulator": SimulatorSettings,
}


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration file; `overrides` are "section.key=value" texts that win over it.

    Raises `ConfigError` with one line that names the file and the key.
    """
    try:
        with path.open("rb") as file:
            tree = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a configuration: rowmill run CONFIG") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _override(tree, override)
    return parse(tree, str(path))


def parse(tree: Mapping[str, Any], source: str) -> Config:
    """Turn a decoded TOML document into a checked `Config`; `source` names it in error messages."""
    _refuse_unknown_keys(tree, source)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_readable(str(error))}") from None
    if (problem := next(checks.problems(config), None)) is not None:
        raise ConfigError(f"{source}: {problem}")
    return config


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or len(parts) < 2 or not all(parts):  # noqa: PLR2004 - a section and a key
        raise ConfigError(f"--set {override}: write it as section.key=value, for example workers.count=4")
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        document = {}
    # A bare word is a text: shells eat quotes, and the key's type is checked all the same. So is a text of several
    # lines that happens to be a document of its own.
    value = document["value"] if len(document) == 1 else text
    node: Any = tree
    for part in parts[:-1]:
        if node is tree and part == "provider":
            tables = tree.setdefault("provider", [{}])
            if not isinstance(tables, list) or len(tables) != 1:
                raise ConfigError(f"--set {override}: there is more than one [[provider]]; edit the file instead")
            node = tables[0]
        else:
            node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {part} is no section")
    node[parts[-1]] = value


def _refuse_unknown_keys(tree: Mapping[str, Any], source: str) -> None:
    every_key = [f"{name}.{field}" for name, kind in SECTIONS.items() for field in kind.__struct_fields__]
    for section, content in tree.items():
        if section not in SECTIONS:
            nearest = difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.5)
            hint = f"did you mean [{nearest[0]}]?" if nearest else f"sections are {', '.join(SECTIONS)}"
            raise ConfigError(f"{source}: unknown section [{section}]; {hint}")
        tables = content if isinstance(content, list) else [content]
        for table in tables:
            if not isinstance(table, dict) or isinstance(content, list) != (section == "provider"):
                brackets = "[[provider]]" if section == "provider" else f"[{section}]"
                raise ConfigError(f"{source}: {section} must be written as a {brackets} section")
            for key in table:
                if key in SECTIONS[section].__struct_fields__:
                    continue
                own = SECTIONS[section].__struct_fields__
                nearest = difflib.get_close_matches(key, own, n=1, cutoff=0.5)
                match = f"{section}.{nearest[0]}" if nearest else _nearest_key(f"{section}.{key}", every_key)
                raise ConfigError(f"{source}: unknown key {section}.{key}; did you mean {match}?")


def _nearest_key(key: str, every_key: list[str]) -> str:
    # The right name in the wrong section is the commoner slip; only then is the whole key compared.
    name = key.rpartition(".")[2]
    for other in every_key:
        if other.rpartition(".")[2] == name:
            return other
    return difflib.get_close_matches(key, every_key, n=1, cutoff=0.0)[0]


def _readable(message: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.workers.count`" around: the key first."""
    text, _, path = message.partition(" - at `$.")
    text = text.replace("`", "")
    if missing := re.fullmatch(r"Object missing required field (\w+)", text):
        section = message.partition(" - at `$.")[2].rstrip("`")
        key = f"{section}.{missing[1]}" if section else f"[{missing[1]}]"
        return f"{key} is missing"
    return f"{path.rstrip('`')}: {text[0].lower()}{text[1:]}" if path else text
