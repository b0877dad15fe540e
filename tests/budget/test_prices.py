"""Prices: what the configuration says, what is published, and what nobody knows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rowmill
from rowmill.budget import prices
from rowmill.core import config as configuration
from rowmill.core.amounts import Price
from rowmill.core.config import Config
from rowmill.core.errors import ConfigError

OPENAI = "https://api.openai.com/v1"
LOCAL = "http://127.0.0.1:8000/v1"


def config(*providers: dict[str, Any], priced: dict[str, Any] | None = None, **sections: Any) -> Config:
    task = {"model": "m", "prompt": "{text}", **sections.pop("task", {})}
    tree = {
        "input": {"path": "in.jsonl"},
        "output": {"path": "out.jsonl"},
        "task": task,
        "provider": list(providers) or [{"name": "p", "base_url": LOCAL}],
        "prices": priced or {},
        **sections,
    }
    return configuration.parse(tree, "test")


def test_the_entry_of_a_provider_wins_over_that_of_the_model() -> None:
    two = [{"name": "a", "base_url": LOCAL}, {"name": "b", "base_url": LOCAL, "model": "other"}]
    priced = {"m": {"input": 1, "output": 2}, "other": {"input": 3, "output": 4}, "b/other": {"input": 5, "output": 6}}
    first, second = prices.find(config(*two, priced=priced))
    assert first == Price(1.0, 2.0, cached_input=1.0, batch_discount=0.5)
    assert second == Price(5.0, 6.0, cached_input=5.0, batch_discount=0.5)


def test_what_is_configured_is_taken_as_it_stands() -> None:
    entry = {"input": 1, "output": 2, "cached_input": 0.1, "batch_discount": 0.25}
    assert prices.find(config(priced={"m": entry})) == [Price(1.0, 2.0, 0.1, 0.25)]
    assert prices.find(config(priced={"m": {**entry, "input": 0, "batch_discount": 0}})) == [Price(0.0, 2.0, 0.1, 0.0)]


def test_published_prices_fill_what_is_left_out_and_unknown_models_have_none() -> None:
    """One child answers for all of them. The published figures are old ones, that are not going to change."""
    names = ["gpt-4o-mini", "gpt-4o", "text-embedding-3-small", "no-such-model"]
    providers = [{"name": name, "base_url": OPENAI, "model": name} for name in names]
    found = prices.find(config(*providers, priced={"gpt-4o": {"input": 1.0}}))
    assert found[0] == Price(0.15, 0.6, cached_input=0.075, batch_discount=0.5)
    assert found[1] == Price(1.0, 10.0, cached_input=1.0, batch_discount=0.5)  # published: 1.25 of 2.50
    assert found[2] == Price(0.02, 0.0, cached_input=0.02, batch_discount=0.5)
    assert found[3] is None


@pytest.mark.parametrize(
    "url",
    [
        "simulator",
        LOCAL,
        "http://localhost:8000/v1",
        "http://[::1]/v1",
        "http://10.0.0.7/v1",
        "http://gpu-box:8000/v1",
        "https://llm.corp.internal/v1",
    ],
)
def test_nobody_is_asked_for_the_price_of_a_server_of_ones_own(url: str) -> None:
    with prices.of_providers(config({"name": "p", "base_url": url, "model": "gpt-4o"})) as lookup:
        assert lookup._child is None
        assert lookup.wait() == [None]


def test_nobody_is_asked_where_all_is_configured() -> None:
    whole = {"gpt-4o": {"input": 1, "output": 2, "cached_input": 1}}
    with prices.of_providers(config({"name": "p", "model": "gpt-4o"}, priced=whole)) as lookup:
        assert lookup._child is None
        assert lookup.wait() == [Price(1.0, 2.0, 1.0)]


def test_the_package_of_prices_is_not_loaded_here() -> None:
    program = "import sys, rowmill.budget.prices; print('genai_prices' in sys.modules, 'pydantic' in sys.modules)"
    root = Path(rowmill.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("entry", "missing"),
    [
        ({"input": 1}, "output is missing"),
        ({"output": 1}, "input is missing"),
        ({"cached_input": 1}, "input and output are missing"),
        ({}, "input and output are missing"),
    ],
)
def test_an_entry_that_is_no_price_is_refused_by_its_key(entry: dict[str, float], missing: str) -> None:
    with pytest.raises(ConfigError, match=rf'^prices\."m": {missing}, .* model "m" at provider "p"; add ') as refused:
        prices.find(config(priced={"m": entry}))
    assert "\n" not in str(refused.value)


def test_embeddings_need_no_price_of_replies() -> None:
    task = {"api": "embeddings"}
    assert prices.find(config(priced={"m": {"input": 1}}, task=task)) == [Price(1.0, 0.0, 1.0)]


def test_rows_that_name_their_models_have_a_price_by_the_name_only() -> None:
    own = config(priced={"a": {"input": 1, "output": 2}}, task={"per_row": {"model": "model"}})
    assert prices.find(own) == [None]
    assert prices.find_models(own, [("p", "a"), ("p", "b"), ("gone", "a")]) == [Price(1.0, 2.0, 1.0), None, None]


@pytest.mark.parametrize("name", ["m", "m-2024-07-18", "m-20240718", "llama.gguf"])
def test_what_replies_call_the_model_has_the_price_of_the_one_that_was_asked(name: str) -> None:
    assert prices.find_models(config(priced={"m": {"input": 1, "output": 2}}), [("p", name)]) == [Price(1.0, 2.0, 1.0)]


def test_a_dated_model_has_the_price_that_is_configured_for_its_name() -> None:
    own = config(
        priced={"a": {"input": 1, "output": 2}, "a-2024-07-18": {"input": 3, "output": 4}},
        task={"per_row": {"model": "model"}},
    )
    names = ["a-2025-01-01", "a-2024-07-18", "ab", "a-mini"]
    found = prices.find_models(own, [("p", name) for name in names])
    assert found == [Price(1.0, 2.0, 1.0), Price(3.0, 4.0, 3.0), None, None]


def test_a_report_is_not_stopped_by_an_entry_that_is_no_price() -> None:
    own = config(priced={"a": {"input": 1}}, task={"per_row": {"model": "model"}})
    assert prices.find_models(own, [("p", "a")]) == [None]


def test_a_cap_in_dollars_needs_every_price() -> None:
    two = [{"name": "a", "base_url": LOCAL}, {"name": "b", "base_url": LOCAL, "model": "other"}]
    capped = config(*two, priced={"m": {"input": 1, "output": 2}}, budget={"max_usd": 5.0})
    with pytest.raises(ConfigError) as refused:
        prices.require(capped, prices.find(capped))
    assert str(refused.value) == (
        'budget.max_usd: the price of model "other" at provider "b" is not known; add [prices] "other" = '
        "{ input = ..., output = ... } (dollars a million tokens), or set budget.max_tokens instead"
    )
    by_tokens = config(*two, budget={"max_tokens": 1e6})
    prices.require(by_tokens, prices.find(by_tokens))


def test_by_batches_only_their_provider_needs_a_price() -> None:
    two = [{"name": "a", "base_url": LOCAL, "model": "other"}, {"name": "b", "base_url": LOCAL}]
    sections = {"budget": {"max_usd": 5.0}, "batch": {"provider": "b"}}
    capped = config(*two, priced={"m": {"input": 1, "output": 2}}, task={"mode": "batch"}, **sections)
    prices.require(capped, prices.find(capped))


def test_a_cap_in_dollars_needs_to_know_the_models() -> None:
    capped = config(task={"per_row": {"model": "model"}}, budget={"max_usd": 5.0})
    with pytest.raises(ConfigError, match=r"^budget\.max_usd: the rows name their own models, .*budget\.max_tokens"):
        prices.require(capped, prices.find(capped))


def test_entries_that_price_nothing_are_found() -> None:
    entry = {"input": 1, "output": 2}
    assert prices.unused(config(priced={"m": entry, "p/m": entry, "M": entry, "q/m": entry})) == ["M", "q/m"]
    assert prices.unused(config(priced={"M": entry}, task={"per_row": {"model": "model"}})) == []
