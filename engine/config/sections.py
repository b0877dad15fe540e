"""The sections of a configuration, as frozen values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.errors import ConfigError
from engine.records import SimulatorSettings

OPENAI_URL = "https://api.openai.com/v1"
SIMULATOR = "simulator"  # the base_url that starts the embedded endpoint for the run


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
