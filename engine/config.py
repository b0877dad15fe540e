"""`config.toml` -> frozen values. Unknown keys, wrong types and bad combinations are refused by key.

Paths are relative to the current directory. No secret is ever part of a `Config`: it holds the name of the
environment variable that has the key, and `api_key` reads it when the run starts.
"""

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from engine.errors import ConfigError
from engine.records import SimulatorSettings

OPENAI_URL = "https://api.openai.com/v1"
SIMULATOR = "simulator"  # the base_url that starts the embedded endpoint for the run

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class InputConfig(_Section, frozen=True):
    """`[input]`."""

    path: str
    id: str | None = None  # the column copied to "id" of the output line


class TaskConfig(_Section, frozen=True):
    """`[task]`."""

    model: str
    prompt: str  # "{column}" stands for the row's column, "{{" and "}}" for braces
    api: Literal["chat.completions"] = "chat.completions"
    system: str | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)  # any further members of the request body


class ProviderConfig(_Section, frozen=True):
    """One `[[provider]]`."""

    name: str = "default"
    base_url: str = OPENAI_URL
    api_key_env: str | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout_s: float = 600.0  # whole request, from sending to the last byte of the reply


class ClientConfig(_Section, frozen=True):
    """`[client]`."""

    transport: Literal["direct", "sdk"] = "direct"


class WorkersConfig(_Section, frozen=True):
    """`[workers]`."""

    count: int | Literal["auto"] = "auto"  # processes; "auto" is one for each core
    concurrency: int = 64  # requests in flight, for each worker


class RetryConfig(_Section, frozen=True):
    """`[retry]`."""

    attempts: int = 6  # tries of a row, the first one included; a 429 spends none


class CheckpointConfig(_Section, frozen=True):
    """`[checkpoint]`."""

    dir: str | None = None  # the run directory; "<output.path>.run" where left out
    commit_ms: int = 100  # at most this long after its reply a row is safe on disk


class OutputConfig(_Section, frozen=True):
    """`[output]`."""

    path: str
    errors: str | None = None  # "<output>.errors.jsonl" where left out
    include: list[Literal["input", "meta"]] = []


class Config(_Section, frozen=True):
    """A whole configuration, checked."""

    input: InputConfig
    task: TaskConfig
    output: OutputConfig
    provider: list[ProviderConfig] = msgspec.field(default_factory=lambda: [ProviderConfig()])
    client: ClientConfig = ClientConfig()
    workers: WorkersConfig = WorkersConfig()
    retry: RetryConfig = RetryConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    simulator: SimulatorSettings = SimulatorSettings()

    @property
    def input_path(self) -> Path:
        """The input file."""
        return Path(self.input.path)

    @property
    def output_path(self) -> Path:
        """The output file."""
        return Path(self.output.path)

    @property
    def errors_path(self) -> Path:
        """The file that lists the failed rows."""
        if self.output.errors is not None:
            return Path(self.output.errors)
        return self.output_path.with_name(self.output_path.stem + ".errors.jsonl")

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.checkpoint.dir if self.checkpoint.dir is not None else self.output.path + ".run")


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
    for problem in _problems(config):
        raise ConfigError(f"{source}: {problem}")
    return config


def api_key(provider: ProviderConfig, environ: Mapping[str, str]) -> str | None:
    """Return the provider's API key, or None where none is to be sent.

    A key goes only to the server that it is meant for: OpenAI's own URL reads OPENAI_API_KEY, every other
    server gets a key only where `api_key_env` names it. Raises `ConfigError` where a named key is not set.
    """
    name = provider.api_key_env
    if name is None:
        if provider.base_url.rstrip("/") != OPENAI_URL:
            return None
        name = "OPENAI_API_KEY"
    key = environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"provider {provider.name!r}: no API key: set the environment variable {name}, "
            "or name another one by provider.api_key_env"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"provider {provider.name!r}: the key in {name} has characters that no HTTP header can carry")
    return key


def fingerprint(config: Config) -> dict[str, Any]:
    """Return everything of the configuration that the output bytes depend on, by key.

    A resume with another value is refused: its rows would be answers to another question.
    """
    return {
        "task.api": config.task.api,
        "task.model": config.task.model,
        "task.system": config.task.system,
        "task.prompt": config.task.prompt,
        "task.params": config.task.params,
        "input.id": config.input.id,
        "output.include": sorted(config.output.include),
    }


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


_SECTIONS: dict[str, type[msgspec.Struct]] = {
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


def _refuse_unknown_keys(tree: Mapping[str, Any], source: str) -> None:
    every_key = [f"{name}.{field}" for name, kind in _SECTIONS.items() for field in kind.__struct_fields__]
    for section, content in tree.items():
        if section not in _SECTIONS:
            nearest = difflib.get_close_matches(section, _SECTIONS, n=1, cutoff=0.5)
            hint = f"did you mean [{nearest[0]}]?" if nearest else f"sections are {', '.join(_SECTIONS)}"
            raise ConfigError(f"{source}: unknown section [{section}]; {hint}")
        tables = content if isinstance(content, list) else [content]
        for table in tables:
            if not isinstance(table, dict) or isinstance(content, list) != (section == "provider"):
                brackets = "[[provider]]" if section == "provider" else f"[{section}]"
                raise ConfigError(f"{source}: {section} must be written as a {brackets} section")
            for key in table:
                if key in _SECTIONS[section].__struct_fields__:
                    continue
                own = _SECTIONS[section].__struct_fields__
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


def _problems(config: Config) -> Iterable[str]:
    if len(config.provider) != 1:
        yield "this version runs with exactly one [[provider]]"
    for provider in config.provider:
        yield from _provider_problems(provider)
    if isinstance(config.workers.count, int) and not 1 <= config.workers.count <= 256:  # noqa: PLR2004
        yield 'workers.count: must be 1 to 256, or "auto"'
    if not 1 <= config.workers.concurrency <= 16384:  # noqa: PLR2004 - beyond it one loop is the limit, not the slots
        yield "workers.concurrency: must be 1 to 16384"
    if not 1 <= config.retry.attempts <= 100:  # noqa: PLR2004
        yield "retry.attempts: must be 1 to 100"
    if not 1 <= config.checkpoint.commit_ms <= 60_000:  # noqa: PLR2004
        yield "checkpoint.commit_ms: must be 1 to 60000 milliseconds"
    for key in ("model", "prompt"):
        if not getattr(config.task, key).strip():
            yield f"task.{key}: must not be empty"
    for key in ("messages", "model"):
        if key in config.task.params:
            yield f"task.params.{key}: is made from task.{'prompt' if key == 'messages' else key}; remove it here"
    if config.task.params.get("stream"):
        yield "task.params.stream: a bulk run reads whole replies; remove it"
    if config.task.params.get("n", 1) != 1:
        yield "task.params.n: one reply for each row; remove it, or repeat the rows"
    try:
        json.dumps(config.task.params, allow_nan=False)  # msgspec would write nan as null without a word
    except (TypeError, ValueError) as error:
        yield f"task.params: cannot be written as JSON: {error}"
    yield from _path_problems(config)
    yield from _simulator_problems(config.simulator)


def _provider_problems(provider: ProviderConfig) -> Iterable[str]:
    if not _NAME.fullmatch(provider.name):
        yield f"provider.name: {provider.name!r} must be 1 to 64 letters, digits, '-' or '_'"
    url = provider.base_url
    if url != SIMULATOR and not re.fullmatch(r"https?://[^/?#\s][^#\s]*", url):
        yield f'provider.base_url: {url!r} must start with http:// or https://, or be "{SIMULATOR}"'
    if not _has_host_and_port(url):
        yield f"provider.base_url: {url!r} has no usable host and port"
    if re.match(r"https?://[^/?\s]*@", url):
        yield "provider.base_url: must not hold a password; name the key's variable by provider.api_key_env"
    for key in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(provider, key)
        if value is not None and not 0 < value < float("inf"):
            yield f"provider.{key}: must be above 0; leave it out for no limit"
    if not 0 < provider.timeout_s <= 86_400:  # noqa: PLR2004 - a day
        yield "provider.timeout_s: must be above 0 and at most 86400 seconds"


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url == SIMULATOR or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def _path_problems(config: Config) -> Iterable[str]:
    for key, text in (
        ("input.path", config.input.path),
        ("output.path", config.output.path),
        ("output.errors", config.output.errors),
        ("checkpoint.dir", config.checkpoint.dir),
    ):
        if text is not None and not Path(text).name:
            yield f"{key}: must not be empty, and name more than a root"
        if text is not None and "\0" in text:
            yield f"{key}: must not hold a NUL character"
    named = {
        "input.path": config.input_path,
        "output.path": config.output_path,
        "output.errors": config.errors_path,
        "checkpoint.dir": config.run_dir,
    }
    seen: dict[str, str] = {}
    for key, path in named.items():
        real = os.path.realpath(path)
        if real in seen:
            yield f"{key}: is the same file as {seen[real]} ({path}); choose another"
        seen[real] = key


def _simulator_problems(simulator: SimulatorSettings) -> Iterable[str]:
    for key in ("latency_ms", "latency_sigma", "hang_s"):
        if not 0 <= getattr(simulator, key) < math.inf:
            yield f"simulator.{key}: must be a number of 0 or more"
    for key in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(simulator, key)
        if value is not None and not value > 0:
            yield f"simulator.{key}: must be above 0; leave it out for no limit"
    if not all(share >= 0 for share in simulator.faults.values()) or sum(simulator.faults.values()) > 1:
        yield "simulator.faults: shares must be 0 to 1, and at most 1 together"
