"""What a configuration of the right keys and types can still get wrong: figures, names, URLs, paths, combinations."""

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from engine.config.sections import SIMULATOR, Config, ProviderConfig
from engine.records import SimulatorSettings

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
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


def _provider_problems(provider: ProviderConfig) -> Iterator[str]:
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


def _path_problems(config: Config) -> Iterator[str]:
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


def _simulator_problems(simulator: SimulatorSettings) -> Iterator[str]:
    for key in ("latency_ms", "latency_sigma", "hang_s"):
        if not 0 <= getattr(simulator, key) < math.inf:
            yield f"simulator.{key}: must be a number of 0 or more"
    for key in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(simulator, key)
        if value is not None and not value > 0:
            yield f"simulator.{key}: must be above 0; leave it out for no limit"
    if not all(share >= 0 for share in simulator.faults.values()) or sum(simulator.faults.values()) > 1:
        yield "simulator.faults: shares must be 0 to 1, and at most 1 together"
