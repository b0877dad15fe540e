"""Configurations that nobody would write: each is refused in one line that a person understands, or accepted.

In this process and its copies: read, checked, and brought as far as a run is before anything is written.
"""

import concurrent.futures
import contextlib
import copy
import io
import json
import math
import multiprocessing
import os
import random
import signal
import traceback
from collections.abc import Mapping
from datetime import UTC, date, datetime
from datetime import time as day_time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config.sections import Config
from rowmill.core.errors import RowmillError
from rowmill.files.input import inputs
from rowmill.runs.preparation import settled, shard_bytes, shard_rows
from rowmill.runs.session import embedded
from rowmill.runs.steps import checked_tasks
from scripts.proving.runs import ItemError, check

CASES = 15_000
SEED = 12
LONGEST_S = 10  # of one configuration
_MOST_CHARACTERS = 20_000  # of what is told: keys and values of the configuration are in it
_STEPS = 250  # configurations that one process does in a row

_ENVIRON = {"KEY": "secret-key", "OPENAI_API_KEY": "secret-key"}
_USUAL: Mapping[str, Any] = {
    "input": {"path": "in.jsonl", "id": "id", "format": "auto", "encoding": "utf-8"},
    "task": {
        "model": "gpt-x",
        "prompt": "Say {text}",
        "system": "be brief",
        "params": {"temperature": 0.5, "stop": ["a"], "extra": {"a": {"b": [1, 2]}}},
        "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        "rows_per_request": 4,
        "mode": "live",
        "api": "chat.completions",
        "template": "format",
    },
    "provider": [
        {
            "name": "one",
            "base_url": "simulator",
            "weight": 1.0,
            "requests_per_minute": 100,
            "timeout_s": 5,
            "headers": {"x-a": "b"},
            "fallback": ["two"],
        },
        {"name": "two", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "KEY", "model": "gpt-y"},
    ],
    "client": {"transport": "direct"},
    "workers": {"count": 2, "concurrency": 8},
    "retry": {"attempts": 3, "deadline_s": 60.0, "share": 0.1, "floor_per_s": 1.0, "invalid_output": 2},
    "machine": {"memory": 0.9, "min_free_mb": 10},
    "checkpoint": {"commit_ms": 50, "dir": "run"},
    "cache": {"use": "off", "dir": "cache", "max_mb": 10},
    "budget": {"max_usd": 1.5, "max_tokens": 1000, "max_requests": 10},
    "batch": {"provider": "one", "max_requests": 10, "max_mb": 1.0, "poll_s": 1.0},
    "simulator": {"latency_ms": 1, "faults": {"429": 0.1}, "script": ["ok"], "providers": {"one": {"latency_ms": 2}}},
    "output": {"path": "out.jsonl", "format": "auto", "errors": "bad.jsonl", "include": ["input", "meta"]},
    "prices": {"gpt-x": {"input": 1.0, "output": 2.0}},
}


def config_fuzz(folder: Path) -> bool:
    """Try all of them."""
    home = folder / "config-fuzz"
    home.mkdir()
    return proved(home, CASES, SEED, workers=os.cpu_count() or 1)


def proved(home: Path, cases: int, seed: int, *, workers: int) -> bool:
    """Try so many, print what came of them, and return whether none was met by a traceback."""
    (home / "in.jsonl").write_text('{"id":"a","text":"one"}\n{"id":"b","text":"two"}\n')
    starts = range(0, cases, _STEPS)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(_several, str(home), seed, start, min(start + _STEPS, cases)) for start in starts]
        try:
            results = [job.result() for job in jobs]
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ItemError(f"a configuration has ended the process that read it: {error}") from None
    wrong = [line for _, lines in results for line in lines]
    for line in wrong[:20]:
        print(f"       {line}")
    taken = sum(accepted for accepted, _ in results)
    figures = f"{taken} accepted, {cases - taken - len(wrong)} refused in one line, {len(wrong)} wrong"
    return check(f"{cases} configurations", not wrong, figures)


def _several(home: str, seed: int, first: int, end: int) -> tuple[int, list[str]]:
    """Try some, and return how many were accepted, and what was wrong."""
    os.chdir(home)
    signal.signal(signal.SIGALRM, _too_long)
    accepted, wrong = 0, []
    for number in range(first, end):
        signal.alarm(LONGEST_S)
        try:
            accepted += tried(number, seed)
        except RowmillError as error:
            text = str(error)
            if "\n" in text or not text.strip() or len(text) > _MOST_CHARACTERS:
                wrong.append(f"configuration {number}: told in no single line: {text[:300]!r}")
        except Exception:  # noqa: BLE001 - that is what is looked for
            wrong.append(f"configuration {number}: {traceback.format_exc(limit=-4)[-1500:]}")
        finally:
            signal.alarm(0)
    return accepted, wrong


def tried(number: int, seed: int) -> bool:
    """Read one configuration as a run does before it writes anything. Raises what that raises."""
    dice = random.Random(f"{seed}-{number}")  # noqa: S311 - no secret
    path = Path(f"config-{os.getpid()}.toml")
    path.write_bytes(_document(dice))
    config = configuration.load(path, _overrides(dice))
    _prepared(config)
    return True


def _prepared(config: Config) -> None:
    """Go as far as a run goes before it writes anything."""
    embedded(config)
    with contextlib.redirect_stderr(io.StringIO()):
        found = inputs.find(config.input)
        config = settled(config, found)
        tasks = checked_tasks(config, found)
        configuration.endpoints(config.provider, _ENVIRON, config.client.ca_file)
        msgspec.json.encode(configuration.fingerprint(config))
        msgspec.msgpack.encode(config)
        shard_bytes(config, found)
        shard_rows(config)
        assert tasks


def _too_long(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"not read within {LONGEST_S} s")


# Making them


def _document(dice: random.Random) -> bytes:
    tree = copy.deepcopy(dict(_USUAL))
    for name in list(tree):  # most have few sections, or the first thing that is wrong would hide all others
        if name not in {"input", "output", "task"} and dice.random() < 0.6:  # noqa: PLR2004
            del tree[name]
    for key in ("schema", "rows_per_request", "params"):
        if dice.random() < 0.6:  # noqa: PLR2004
            tree["task"].pop(key)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 6])):
        _mutate(tree, dice)
    data = _toml(tree).encode("utf-8", "surrogatepass")
    if dice.random() < 0.2:  # noqa: PLR2004
        data = _torn(data, dice)
    return data


def _mutate(tree: dict[str, Any], dice: random.Random) -> None:
    """Change one thing somewhere."""
    node: Any = tree
    while True:
        inner = [
            value for value in (node.values() if isinstance(node, dict) else node) if isinstance(value, dict | list)
        ]
        if not inner or dice.random() < 0.35:  # noqa: PLR2004
            break
        node = dice.choice(inner)
    keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
    way = dice.randrange(4)
    if way == 0 and keys:
        del node[dice.choice(keys)]
    elif way == 1 and isinstance(node, dict):
        node[dice.choice([*_ODD_TEXTS, "path", "model", "count", "$ref", "type"])] = _odd(dice)
    elif keys:
        node[dice.choice(keys)] = _odd(dice)
    elif isinstance(node, list):
        node.append(_odd(dice))


_ODD_TEXTS = (
    "", " ", "a", "auto", "none", "µ→漢字🎉", "é" * 300, "x" * 5000, "{text}", "{nope}", "{", "}", "{{text}}",
    "{text!r}", "{text:>{x}}", "{0}", "{}", "{text.__class__}", "{% for x in y %}", "{{ text", "line\nbreak", "\t",
    "\x1b[31m",
    "\x00", "\u202e", "../../..", "/", ".", "..", "~", "//", "*", "[", "**", "in.jsonl", "in.jsonl/x", "nope://x/y",
    "http://", "http://[::1", "https://user:pass@h:99999/x", "://", "http://ex ample/v1", "ftp://h/x", "utf-16", "idna",
    "base64", "zlib", "rot13", "1e999", "-1", "NaN", "two", "one", "$x", "(?", "a" * 70, "simulator", "batch", "disk",
)  # fmt: skip
_ODD_NUMBERS = (
    0, -1, 1, 2, 255, 65536, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30, -(10**30), 10**400, 0.0, -0.0,
    1e-320, 1e308, -1.5, 0.1, 1.0000000001, math.inf, -math.inf, math.nan,
)  # fmt: skip


def _odd(dice: random.Random, level: int = 0) -> Any:
    kind = dice.randrange(9 if level < 3 else 5)  # noqa: PLR2004
    if kind <= 1:
        return dice.choice(_ODD_TEXTS)
    if kind == 2:  # noqa: PLR2004
        return dice.choice(_ODD_NUMBERS)
    if kind == 3:  # noqa: PLR2004
        return dice.choice([True, False])
    if kind == 4:  # noqa: PLR2004
        return dice.choice(
            [date(1, 1, 1), datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC), day_time(1, 2), date(9999, 12, 31)]
        )
    if kind == 5:  # noqa: PLR2004
        return [_odd(dice, level + 1) for _ in range(dice.randrange(4))]
    if kind == 6:  # noqa: PLR2004
        keys = [*_ODD_TEXTS, "type", "items", "properties", "$ref", "role", "content", "anyOf", "pattern"]
        return {dice.choice(keys): _odd(dice, level + 1) for _ in range(dice.randrange(4))}
    if kind == 7:  # noqa: PLR2004
        return _nested(dice.choice([50, 99, 101, 300, 2000]), tables=dice.random() < 0.5)  # noqa: PLR2004
    return [dice.choice(_ODD_TEXTS)] * dice.choice([1, 3, 300])


class _Nested:
    """Brackets in brackets; as text, for no recursive function could write them."""

    def __init__(self, levels: int, *, tables: bool) -> None:
        self.text = "{a=" * levels + "1" + "}" * levels if tables else "[" * levels + "]" * levels

    def __deepcopy__(self, _: Any) -> "_Nested":
        return self


def _nested(levels: int, *, tables: bool) -> _Nested:
    return _Nested(levels, tables=tables)


def _toml(tree: dict[str, Any]) -> str:
    """Write it as TOML has it, sections and what is no section alike."""
    lines = [f"{_key(name)} = {_value(value)}" for name, value in tree.items() if not _is_section(value)]
    for name, value in tree.items():
        if isinstance(value, dict):
            lines += [f"[{_key(name)}]", *(f"{_key(key)} = {_value(each)}" for key, each in value.items())]
        elif _is_section(value):
            for table in value:
                lines += [f"[[{_key(name)}]]", *(f"{_key(key)} = {_value(each)}" for key, each in table.items())]
    return "\n".join(lines) + "\n"


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
    )


def _key(name: str) -> str:
    return json.dumps(name).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case _Nested():
            return value.text
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case date() | datetime() | day_time():
            return value.isoformat()
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + "}"
        case _:
            return "[" + ", ".join(map(_value, value)) + "]"


def _torn(data: bytes, dice: random.Random) -> bytes:
    """Damage the document itself: bytes, lines said twice, an end in the middle."""
    way = dice.randrange(4)
    at = dice.randrange(len(data) + 1)
    if way == 0:
        return data[:at]
    if way == 1:
        return data[:at] + dice.choice([b"\xff", b"\0", b"\r", b'"', b"'''", b"]", b"[a.b]\n", b"#", b"="]) + data[at:]
    lines = data.splitlines(keepends=True)
    lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
    return b"".join(lines)


def _overrides(dice: random.Random) -> list[str]:
    if dice.random() < 0.8:  # noqa: PLR2004
        return []
    sections = [*_USUAL, *_ODD_TEXTS[:8], "provider.one", "provider.nope", 'prices."a.b"', "task.params.x.y"]
    keys = ["path", "model", "count", "dir", "x", "", "params", "format", "weight", "max_usd", '"a"', '"']
    return [
        f"{dice.choice(sections)}.{dice.choice(keys)}{dice.choice(['=', '=', '=', ''])}{_value(_odd(dice))}"
        for _ in range(dice.randrange(1, 3))
    ]
