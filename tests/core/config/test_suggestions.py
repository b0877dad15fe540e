"""What somebody meant who wrote a key that is none."""

from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import suggestions
from rowmill.core.config.reading import SECTIONS, every_key, override
from rowmill.core.errors import ConfigError


def told(tree: dict[str, Any]) -> str:
    """Return what is said of a configuration that is none."""
    with pytest.raises(ConfigError) as caught:
        configuration.parse(tree, "c.toml")
    return str(caught.value)


def meant(written: str) -> str:
    """Return what is suggested for a key of a configuration."""
    section, _, key = written.partition(".")
    base = {"input": {"path": "i"}, "task": {"model": "m", "prompt": "p"}, "output": {"path": "o.jsonl"}}
    table = {**base.get(section, {}), key: 1}
    tree = {**base, section: [table] if section == "provider" else table}
    return told(tree).partition("did you mean ")[2].rstrip("?")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("task.temperature", "task.params.temperature"),
        ("task.temprature", "task.params.temperature"),
        ("task.max_tokens", "task.params.max_tokens"),
        ("task.reasoning_effort", "task.params.reasoning_effort"),
        ("provider.rpm", "provider.requests_per_minute"),
        ("workers.rpm", "provider.requests_per_minute"),
        ("provider.TPM", "provider.tokens_per_minute"),
        ("provider.requests-per-minute", "provider.requests_per_minute"),
        ("provider.api_key", "provider.api_key_env"),
        ("provider.url", "provider.base_url"),
        ("provider.timeout", "provider.timeout_s"),
        ("provider.max_retries", "retry.attempts"),
        ("workers.max_concurrency", "workers.concurrency"),
        ("workers.cuont", "workers.count"),
        ("task.system_prompt", "task.system"),
        ("task.response_format", "task.schema"),
        ("task.batch_size", "task.rows_per_request"),
        ("input.file", "input.path"),
        ("budget.max_cost", "budget.max_usd"),
        ("task.retries", "retry.attempts"),
        ("output.commit_ms", "checkpoint.commit_ms"),
    ],
)
def test_keys_are_known_by_their_other_names(written: str, key: str) -> None:
    assert meant(written) == key


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model", "model stands in no section; did you mean task.model?"),
        ("temperature", "temperature stands in no section; did you mean task.params.temperature?"),
        ("rpm", "rpm stands in no section; did you mean provider.requests_per_minute?"),
    ],
)
def test_a_key_above_all_sections_is_told_its_own(name: str, hint: str) -> None:
    assert told({name: "x", "input": {"path": "i"}}) == f"c.toml: {hint}"


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("openai", "[[provider]]"),
        ("prompt", "[task]"),
        ("pricing", "[prices]"),
        ("ray", "[cluster]"),
        ("bugdet", "[budget]"),
    ],
)
def test_sections_are_known_by_their_other_names(section: str, hint: str) -> None:
    assert told({section: {}}) == f"c.toml: unknown section [{section}]; did you mean {hint}?"


def test_every_key_that_is_suggested_is_one() -> None:
    for name, key in suggestions._KEYS.items():
        section, field = key.split(".")[:2]
        assert field in SECTIONS[section].__struct_fields__, f"{name} -> {key}"
    assert suggestions.key_for("commit_ms", every_key()) == "checkpoint.commit_ms"
    assert suggestions.key_for("xyzzy", every_key()) is None


def test_a_long_value_of_a_key_that_is_none_is_shown_by_its_beginning() -> None:
    with pytest.raises(ConfigError, match=r"did you mean --set task\.prompt=x+\.\.\.\?$") as caught:
        override({}, f"prompt={'x' * 5000}")
    assert len(str(caught.value)) < 600
