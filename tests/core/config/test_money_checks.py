"""What [prices], [budget], [batch] and task.mode may say: what cannot be is refused by its key."""

from math import inf, nan
from typing import Any

import pytest

from rowmill.core.config import Config, fingerprint, parse
from rowmill.core.config.sections import BudgetConfig
from rowmill.core.errors import ConfigError


def config(**sections: dict[str, Any]) -> Config:
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "Say {text}"},
        "output": {"path": "out.jsonl"},
        "provider": [{"name": "a", "base_url": "simulator"}, {"name": "b", "base_url": "simulator"}],
    }
    for name, keys in sections.items():
        tree[name] = {**tree.get(name, {}), **keys}
    return parse(tree, "c.toml")


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        *(({"budget": {key: value}}, f"budget.{key}") for key in ("max_usd", "max_tokens", "max_requests")
          for value in (0, -1, inf, nan)),
        *(({"prices": {"m": {key: value}}}, f"prices.m.{key}") for key in ("input", "cached_input", "output")
          for value in (-0.1, inf, nan)),
        *(({"prices": {"m": {"batch_discount": value}}}, "prices.m.batch_discount") for value in (-0.1, 1, nan)),
        *(({"batch": {"max_requests": value}}, "batch.max_requests") for value in (0, 50_001)),
        *(({"batch": {"max_mb": value}}, "batch.max_mb") for value in (0, 200.1, nan)),
        *(({"batch": {key: value}}, f"batch.{key}") for key in ("deadline_s", "enqueued_tokens", "stuck_s")
          for value in (0, inf, nan)),
        *(({"batch": keys}, "batch.poll_s") for keys in (
            {"poll_s": 0}, {"poll_s": 61}, {"poll_max_s": 4}, {"poll_max_s": inf}, {"poll_s": nan})),
        ({"task": {"mode": "auto"}}, "task.mode"),
        ({"task": {"mode": "batch"}, "batch": {"provider": "c"}}, "batch.provider"),
        ({"task": {"mode": "batch"}, "cache": {"use": "run"}}, "cache.use"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_key(sections: dict[str, dict[str, Any]], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**sections)
    assert str(caught.value).startswith(f"c.toml: {key}: "), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"budget": {"max_usd": 0.0001, "max_tokens": 1, "max_requests": 1}},
        {"prices": {"m": {"input": 0, "cached_input": 0, "output": 0, "batch_discount": 0}}},
        {"prices": {"a/m": {"batch_discount": 0.99}, "ft:m:org::id": {}}},
        {"batch": {"max_requests": 1, "max_mb": 0.001, "poll_s": 60, "poll_max_s": 60}},
        {"task": {"mode": "auto"}, "batch": {"deadline_s": 1, "provider": "b"}},
    ],
)
def test_what_can_be_is_taken(sections: dict[str, dict[str, Any]]) -> None:
    config(**sections)


def test_a_price_of_a_model_with_a_misspelt_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prices\.m"):
        config(prices={"m": {"inputs": 1.0}})


def test_nothing_is_limited_unless_something_is() -> None:
    assert not BudgetConfig().limited
    assert [BudgetConfig(**{key: 1.0}).limited for key in BudgetConfig.__struct_fields__] == [True] * 3
    assert config().prices == {}


def test_the_provider_of_batches_is_the_first_unless_another_is_named() -> None:
    assert config().batch_provider.name == "a"
    assert config(batch={"provider": "b"}).batch_provider.name == "b"


def test_no_answer_depends_on_money_or_mode() -> None:
    """So a run can be resumed with a higher cap, another price, and live instead of by batches."""
    other = config(
        task={"mode": "auto"},
        budget={"max_usd": 1.0},
        prices={"m": {"input": 1.0, "output": 1.0}},
        batch={"deadline_s": 60, "max_requests": 10},
    )
    assert fingerprint(other) == fingerprint(config())
