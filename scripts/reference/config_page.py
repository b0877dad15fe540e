"""Every key of a configuration: its type, default, meaning and limits, as the code has them."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, fields

from rowmill.core import config
from rowmill.core.config import reading
from rowmill.core.config.sections import Config, ModelSchema, PriceConfig
from rowmill.core.errors import ConfigError
from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator import settings as simulator_settings
from scripts.reference import comments

ROOT = Path(__file__).resolve().parents[2]
_WORDS = {
    str: ("text", "texts"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    bool: ("`true` or `false`", "`true` or `false`"),
    Any: ("anything", "anything"),
}
_EXAMPLE_MODEL = "gpt-5-mini"
# A configuration around the key that is tried.
_AROUND: dict[str, Any] = {
    "input": {"path": "rows.jsonl"},
    "task": {"model": _EXAMPLE_MODEL, "prompt": "{text}"},
    "output": {"path": "replies.jsonl"},
    "notify": {"webhook": "https://example.com/"},  # whose other keys are looked at where somebody is told
}
# What is set to find out what a key may not be: too little, too much, nothing at all.
_TRIED = (0, -1, 1e12, float("inf"), "", " ", "?", [""], {"": 0.0}, {"a": -1.0})


def sections() -> dict[str, type[msgspec.Struct]]:
    """Return the sections, in the order in which they are explained; of [[provider]] and [prices] the type of one."""
    return {name: reading.SECTIONS.get(name, PriceConfig) for name in Config.__struct_fields__}


def all_keys() -> list[str]:
    """Return all keys, as "section.key"."""
    return [f"{section}.{name}" for section, kind in sections().items() for name in reading.own_keys(kind)]


def text() -> str:
    """Return the page's Markdown."""
    said = {
        section: comments.of_fields(Path(inspect.getfile(kind)))[kind.__name__] for section, kind in sections().items()
    }
    shown = _shown()
    lines: list[str] = []
    for section, kind in sections().items():
        about = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
        lines += [f"## {_brackets(section)}", "", _sentence(re.sub(r"^`\[.*?\]`:? ?", "", about)), ""]
        for field in [each for each in fields(kind) if each.name in reading.own_keys(kind)]:
            lines += _entry(section, field, get_type_hints(kind)[field.name], said[section][field.name], shown)
    return "\n".join(lines)


def _brackets(section: str) -> str:
    return f"`[[{section}]]`" if section in {"provider", "step"} else f"`[{section}]`"


def _entry(section: str, field: FieldInfo, kind: Any, comment: str, shown: Mapping[str, str]) -> Iterator[str]:
    key = f"{section}.{field.name}"
    yield f"({_anchor(key)})="
    yield f"### `{key}`"
    yield ""
    yield f"Type: {type_words(kind)}. {_default(field)}."
    yield ""
    yield _sentence(comment)
    yield ""
    if limits := _limits(section, field.name):
        subject = "Of what is in it " if limits[0].startswith(("each", "shares")) else "It "
        yield f"{subject}{'; '.join(_quoted(limit) for limit in limits)}."
        yield ""
    if key in shown and tomllib.loads(shown[key]) != {field.name: field.default}:
        yield f"```toml\n{_brackets(section).strip('`')}\n{shown[key]}\n```"
        yield ""


def type_words(kind: Any, *, several: bool = False) -> str:
    """Return what a key's values are, in words."""
    if kind in _WORDS:
        return _WORDS[kind][several]
    if kind is SimulatorSettings:
        return "tables of these keys"
    origin, parts = get_origin(kind), [each for each in get_args(kind) if each not in (type(None), ModelSchema)]
    if origin is Literal:
        return _either([f"`{_toml(each)}`" for each in parts])
    if origin in (UnionType, Union):
        return _either([type_words(each, several=several) for each in parts])
    if origin in (list, tuple):
        return f"list of {type_words(parts[0], several=True).replace(' or ', ' and ')}"
    if origin is dict:
        inside = "" if parts[1] is Any else f" of {type_words(parts[1], several=True)}"
        return f"table{inside}" if not several else f"tables{inside}"
    raise TypeError(kind)


def _either(words: list[str]) -> str:
    flat = [part for word in words for part in word.replace(" or ", ", ").split(", ")]
    return flat[0] if len(flat) == 1 else f"{', '.join(flat[:-1])} or {flat[-1]}"


def _default(field: FieldInfo) -> str:
    if field.required:
        return "Required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    return "May be left out" if value is None else f"Default: `{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)  # of texts, numbers and lists the same as TOML


def _shown() -> dict[str, str]:
    """Return how `config.toml` shows each key, without its comment."""
    found, section = {}, ""
    for line in (ROOT / "config.toml").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"(?:# \[)?\[+(\w+)\]+", line):
            section = heading[1]
        elif entry := re.match(r"(?:# )?(([a-z_]+) = .+)$", line):
            found[f"{section}.{entry[2]}"] = _without_comment(entry[1])
    return found


def _without_comment(line: str) -> str:
    value = tomllib.loads(line)
    for place in [found.start() for found in re.finditer("#", line)]:
        try:
            if tomllib.loads(line[:place]) == value:
                return line[:place].rstrip()
        except tomllib.TOMLDecodeError:
            continue
    return line


def _limits(section: str, key: str) -> list[str]:
    """Return what a check says of values that a key may not have: "must be 1 to 100"."""
    found: dict[str, None] = {}
    for value in _TRIED:
        tree = {name: dict(table) for name, table in _AROUND.items()}
        if section == "prices":
            tree["prices"] = {_EXAMPLE_MODEL: {key: value}}
        elif section == "provider":
            tree["provider"] = [{key: value}]  # type: ignore[assignment]  # a section that is a list
        elif section == "step":
            tree["step"] = [{"name": "one", key: value}]  # type: ignore[assignment]  # likewise
        else:
            tree.setdefault(section, {})[key] = value
        try:
            config.parse(tree, "")
        except ConfigError as error:
            if said := re.match(rf": [\w.-]*\b{key}: (?:'.*' )?((?:each |shares )?must .*)", str(error)):
                found[said[1]] = None
    return list(found or dict.fromkeys(_simulator_limits(key) if section == "simulator" else ()))


def _simulator_limits(key: str) -> Iterator[str]:
    """Yield the same of what only the simulator itself looks at."""
    if isinstance(getattr(SimulatorSettings(), key), int | float | None):
        for value in (0, -1):
            try:
                simulator_settings.check(msgspec.structs.replace(SimulatorSettings(), **{key: value}))
            except ValueError as error:
                if said := re.match(rf"{key} (must .*), not ", str(error)):
                    yield said[1]


def _sentence(comment: str) -> str:
    """Return a comment as a sentence, with what is code as such."""
    for written, said in (("None: ", "left out: "), ("None is ", "left out is "), ("->", "→")):
        comment = comment.replace(written, said)
    comment = _quoted(comment[:1].upper() + comment[1:])
    return comment if comment.endswith((".", ":", "?")) or not comment else f"{comment}."


def _quoted(words: str) -> str:
    """Return a text with quoted words as code, and with keys as links to what stands of them."""
    words = re.sub(r'(?<!`)("[^"`]*")(?!`)', r"`\1`", words)
    parts = re.split(r"(`[^`]*`)", words)  # what is code has no links in it
    return "".join(part if part.startswith("`") else _linked(part) for part in parts)


def _linked(words: str) -> str:
    known = set(all_keys())
    return re.sub(
        r"(?<![\w./])[a-z]+\.[a-z_]+(?![\w.])",
        lambda found: f"[`{found[0]}`](#{_anchor(found[0])})" if found[0] in known else found[0],
        words,
    )


def _anchor(key: str) -> str:
    return key.replace(".", "-").replace("_", "-")
