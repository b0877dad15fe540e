"""A configuration file and `--set` overrides -> a checked `Config`, or one line that names the key to change."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from rowmill.core.config import checks, hidden, suggestions, texts
from rowmill.core.config.sections import Config, PriceConfig, ProviderConfig, TaskConfig
from rowmill.core.config.steps import inherited
from rowmill.core.errors import ConfigError

_Task = TypeVar("_Task", bound=TaskConfig)

_SHOWN = 200  # characters of an override in a message
_OF_PRESETS = frozenset({"preset", "host", "api_version"})
_ADDRESSES = frozenset({"base_url", "preset"})  # either says where the provider is
PRICES = "prices"  # the one section whose keys are the user's own: a table for each model
_LISTS = frozenset({"provider", "step"})  # sections that there may be several of
SECTIONS: dict[str, type[msgspec.Struct]] = {
    # Of [[provider]] and [[step]] it is the type of one.
    field.name: next(iter(get_args(field.type)), field.type)
    for field in msgspec.structs.fields(Config)
    if field.name != PRICES
}


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration file; `overrides` are "section.key=value" texts that win over it.

    Raises `ConfigError` with one line that names the file and the key.
    """
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # editors of Windows begin a file with a mark
        tree = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a configuration: rowmill run CONFIG") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: not valid TOML: line {line} is not in UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        wrong = ConfigError(f"{path}: not valid TOML: {error}")
        wrong.excerpt = _excerpt(text, str(error))
        raise wrong from None
    except RecursionError:
        raise ConfigError(f"{path}: {texts.TOO_DEEP}") from None
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for change in overrides:
        override(tree, change)
    return parse(tree, str(path))


def _excerpt(text: str, problem: str) -> tuple[str, ...]:
    """Return the line that a problem is in, with what is before it, and where."""
    lines = text.split("\n")
    if (place := re.search(r"at line (\d+), column (\d+)", problem)) is not None:
        number, column = int(place[1]), int(place[2])
    elif "at end of document" in problem and text.strip():
        number = len(text.rstrip().split("\n"))
        column = len(lines[number - 1].rstrip()) + 1
    else:
        return ()
    if not 0 < number <= len(lines):
        return ()
    first = max(1, number - 1)
    width = len(str(number))
    # A line can be a whole prompt: what is around the place is enough.
    start = max(0, column - 1 - _SHOWN // 4)
    shown = [
        f"  {each:>{width}} | {lines[each - 1][start if each == number else 0 :][: _SHOWN // 2]}".rstrip()
        for each in range(first, number + 1)
    ]
    return *shown, f"  {'':{width}} | {' ' * (column - 1 - start)}^"


def parse(tree: Mapping[str, Any], source: str) -> Config:
    """Turn a decoded TOML document into a checked `Config`; `source` names it in error messages."""
    texts.refuse_unusable(tree, source)
    _refuse_unknown_keys(tree, source)
    tree = _with_steps(tree)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_readable(str(error), tree)}") from None
    config = _unwrapped(_preset(config, tree.get("provider", []), source))
    if (problem := next(checks.problems(config), None)) is not None:
        raise ConfigError(f"{source}: {problem}")
    if len(silent := [_name(each) for each in tree.get("provider", []) if each.keys().isdisjoint(_ADDRESSES)]) > 1:
        # One of several may well be OpenAI's; where two say nothing, an address was forgotten.
        raise ConfigError(
            f"{source}: provider.base_url of {silent[1]!r}: is missing, as of {silent[0]!r}; "
            "only one provider may leave it out for OpenAI's"
        )
    return config


def _with_steps(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the document with what each step has of `[task]`."""
    if not tree.get("step"):
        return tree
    task = tree.get("task", {})
    return {**tree, "step": [inherited(task, step) for step in tree["step"]]}


def _preset(config: Config, tables: Sequence[Mapping[str, Any]], source: str) -> Config:
    """Return the configuration with what presets give to its providers. tables: as they are written."""
    if all(table.keys().isdisjoint(_OF_PRESETS) for table in tables):
        return config
    from rowmill.core.config import preset_defaults

    written = [{key for key, value in table.items() if value is not None} for table in tables]
    named = [
        msgspec.structs.replace(each, name=each.name if "name" in keys else each.preset or each.name)
        for each, keys in zip(config.provider, written, strict=True)
    ]
    config = msgspec.structs.replace(config, provider=named)  # first of all, for batch.provider names one
    found = []
    for provider, keys in zip(named, written, strict=True):
        try:
            found.append(preset_defaults.filled(config, provider, keys))
        except ConfigError as error:
            key, _, problem = str(error).partition(": ")
            of = f" of {provider.name!r:.80}" if len(named) > 1 else ""
            raise ConfigError(f"{source}: provider.{key}{of}: {problem}") from None
    return msgspec.structs.replace(config, provider=found)


def _unwrapped(config: Config) -> Config:
    """Put the members of `task.params.extra_body` on top of the others: so the openai package would send them."""
    return msgspec.structs.replace(
        config, task=_unwrapped_task(config.task), step=[_unwrapped_task(step) for step in config.step]
    )


def _unwrapped_task(task: _Task) -> _Task:
    extra = task.params.get("extra_body")
    if not isinstance(extra, dict):
        return task
    others = {name: value for name, value in task.params.items() if name != "extra_body"}
    return msgspec.structs.replace(task, params={**others, **extra})


def override(tree: dict[str, Any], change: str) -> None:
    """Change a decoded document by a "section.key=value" text."""
    key, equals, text = change.partition("=")
    change = hidden.typed(change)  # as it is shown
    change = change if len(change) <= _SHOWN else f"{change[:_SHOWN]}..."
    parts = _parts(key)
    if not equals or len(parts) < 2 or not all(parts):  # noqa: PLR2004 - a section and a key
        meant = suggestions.key_for(key, every_key()) if equals and len(parts) == 1 else None
        hint = f"did you mean --set {meant}={change.partition('=')[2]}?" if meant else "for example workers.count=4"
        raise ConfigError(f"--set {change}: write it as section.key=value, {hint}")
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        document = {}
    except RecursionError:
        raise ConfigError(f"--set {key}: {texts.TOO_DEEP}") from None
    except ValueError as error:
        raise ConfigError(f"--set {key}: not valid TOML: {error}") from None
    # A bare word is a text: shells eat quotes, and the key's type is checked all the same. So is a text of several
    # lines that happens to be a document of its own.
    value = document["value"] if len(document) == 1 else text
    node, rest = _table(tree, change, parts) if parts[0] in _LISTS else (tree, parts)
    for part in rest[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {change}: {part} is no section")
    node[rest[-1]] = value


def _parts(key: str) -> list[str]:
    """Split a dotted key; a part in quotes may hold dots itself, as names of models do."""
    if '"' not in key:
        return [part.strip() for part in key.split(".")]
    parts = []
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return []
    while isinstance(node, dict):
        ((part, node),) = node.items()
        parts.append(part)
    return parts


def _table(tree: dict[str, Any], override: str, parts: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Find the table that "provider.NAME.key", or of the only one "provider.key" means, and what is set in it."""
    section = parts[0]
    if section == "step" and not tree.get(section):  # a provider there always is
        raise ConfigError(f"--set {override}: there is no [[step]] to change; write one into the configuration")
    tables = tree.setdefault(section, [{}])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"--set {override}: {section} must be written as a [[{section}]] section")
    by_name = {_name(table): table for table in tables}
    if len(parts) > 2 and parts[1] in by_name:  # noqa: PLR2004 - provider, NAME, key
        return by_name[parts[1]], parts[2:]
    if len(tables) == 1:
        return tables[0], parts[1:]
    raise ConfigError(
        f"--set {override}: there is more than one [[{section}]]; write it as {section}.NAME.key=value, "
        f"with NAME one of {', '.join(by_name)}"
    )


def every_key() -> list[str]:
    """Return all keys, as "section.key"; of a step those that `[task]` has not."""
    return [f"{name}.{field}" for name, kind in SECTIONS.items() for field in own_keys(kind)]


def own_keys(kind: type[msgspec.Struct]) -> list[str]:
    """Return the keys of a section that it has not of another one."""
    taken = TaskConfig.__struct_fields__ if kind is not TaskConfig and issubclass(kind, TaskConfig) else ()
    return [field for field in kind.__struct_fields__ if field not in taken]


def _refuse_unknown_keys(tree: Mapping[str, Any], source: str) -> None:
    for section, content in tree.items():
        if section == PRICES:
            _refuse_unknown_prices(content, source)
            continue
        if section not in SECTIONS:
            if not isinstance(content, dict | list) and (meant := suggestions.key_for(section, every_key())):
                raise ConfigError(f"{source}: {section} stands in no section; did you mean {meant}?")
            instead = suggestions.section_instead(section, Config.__struct_fields__)
            brackets = f"[[{instead}]]" if instead in _LISTS else f"[{instead}]"
            hint = f"did you mean {brackets}?" if instead else f"sections are {', '.join(Config.__struct_fields__)}"
            raise ConfigError(f"{source}: unknown section [{section}]; {hint}")
        tables = content if isinstance(content, list) else [content]
        for table in tables:
            if not isinstance(table, dict) or isinstance(content, list) != (section in _LISTS):
                brackets = f"[[{section}]]" if section in _LISTS else f"[{section}]"
                raise ConfigError(f"{source}: {section} must be written as a {brackets} section")
            for key in table:
                if key in SECTIONS[section].__struct_fields__:
                    continue
                match = suggestions.key_instead(section, key, SECTIONS[section].__struct_fields__, every_key())
                of = f" of {_name(table)!r}" if len(tables) > 1 else ""
                raise ConfigError(f"{source}: unknown key {section}.{key}{of}; did you mean {match}?")


def _refuse_unknown_prices(content: Any, source: str) -> None:
    fields = PriceConfig.__struct_fields__
    example = '[prices] "gpt-x" = { input = 0.15, output = 0.6 }'
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: prices must be written as a [prices] section, as in {example}")
    for model, price in content.items():
        if not isinstance(price, dict):
            raise ConfigError(f"{source}: prices.{model}: is no table of a model's prices; write it as {example}")
        for key in price:
            if key not in fields:
                nearest = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)[0]
                raise ConfigError(f"{source}: unknown key {key} of prices.{model}; did you mean {nearest}?")


def _readable(message: str, tree: Mapping[str, Any]) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.workers.count`" around: the key first."""
    text, _, path = message.replace("`", "").partition(" - at $.")
    of = ""
    if place := re.match(r"(provider|step)\[(\d+)\]", path):
        tables = tree[place[1]]
        of = f" of {_name(tables[int(place[2])])!r}" if len(tables) > 1 else ""
        path = place[1] + path[place.end() :]
    if missing := re.fullmatch(r"Object missing required field (\w+)", text):
        return f"{path}.{missing[1]} is missing" if path else f"[{missing[1]}] is missing"
    if choice := re.fullmatch(r"Invalid enum value (.+)", text):
        section, _, key = path.partition("[")[0].partition(".")
        if section in SECTIONS and (annotation := get_type_hints(SECTIONS[section]).get(key)) is not None:
            text = f"{choice[1]} is none of {', '.join(_choices(annotation))}"
    return f"{path}{of}: {text[0].lower()}{text[1:]}" if path else text


def _choices(annotation: Any) -> list[str]:
    """Return what a key may be, as words: `int | Literal["auto"]` is int, 'auto'."""
    if get_origin(annotation) is Literal:
        return [repr(value) for value in get_args(annotation)]
    if parts := get_args(annotation):
        return [choice for part in parts for choice in _choices(part)]
    return [annotation.__name__]


def _name(table: Mapping[str, Any]) -> str:
    return str(table.get("name", table.get("preset", ProviderConfig().name)))
