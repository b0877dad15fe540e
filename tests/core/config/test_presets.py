"""What a preset gives a provider, and that all else wins over it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.config import Config, ProviderConfig, fingerprint, override, parse
from rowmill.core.config.preset_defaults import given, misfits
from rowmill.core.config.presets import FEATURES, LOOKED_UP, PRESETS, Preset
from rowmill.core.errors import ConfigError

APIS = {"chat.completions", "responses", "completions", "embeddings", "moderations"}
AZURE_KEY = "the key in AZURE_OPENAI_API_KEY as api-key"
DATED = {"preset": "azure", "host": "h", "api_version": "2024-10-21"}
SECTIONS: dict[str, Any] = {"input": {"path": "rows.jsonl"}, "output": {"path": "out.jsonl"}}


def read(*tables: dict[str, Any], source: str = "c.toml", **task: Any) -> Config:
    asked = {"model": "m", "prompt": "{text}", **task}
    return parse({**SECTIONS, "task": asked, "provider": list(tables)}, source)


def refusal(*tables: dict[str, Any], **task: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        read(*tables, **task)
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix("c.toml: ")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_where_it_is_known_from(name: str) -> None:
    preset = PRESETS[name]
    assert re.fullmatch(r"[a-z0-9]+", name), "it is the provider's name, too"
    assert preset.sources
    assert all(page.startswith("https://") for page in preset.sources)
    assert preset.url.startswith("https://") == (preset.key is not None)
    assert preset.apis
    assert set(preset.apis) <= APIS
    assert set(preset.memory) <= set(preset.has)
    assert set(preset.has) | set(preset.lacks) | set(preset.instead) <= set(FEATURES)
    assert not set(preset.has) & set(preset.lacks)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", LOOKED_UP)


def test_a_provider_is_called_as_its_preset_where_it_has_no_name() -> None:
    config = read({"preset": "groq"}, {"preset": "mistral", "name": "mine", "fallback": ["groq"]})
    assert [provider.name for provider in config.provider] == ["groq", "mine"]
    tree: dict[str, Any] = {"provider": [{"preset": "groq"}, {"preset": "mistral"}]}
    override(tree, "provider.mistral.weight=2")
    assert tree["provider"][1] == {"preset": "mistral", "weight": 2}


def test_two_of_one_preset_need_names() -> None:
    assert refusal({"preset": "groq"}, {"preset": "groq"}) == (
        "provider.name: 'groq' is the name of two; give each its own"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("claude", 'did you mean "anthropic"?'), ("Groq", 'did you mean "groq"?'), ("grok", 'did you mean "xai"?'),
        ("azure-openai", 'did you mean "azure"?'), ("google", 'did you mean "gemini"?'),
        ("llama.cpp", 'did you mean "llamacpp"?'), ("hf", 'did you mean "huggingface"?'),
        ("mistrall", 'did you mean "mistral"?'), ("zzz", f"there are {', '.join(PRESETS)}"),
        ("", f"there are {', '.join(PRESETS)}"),
    ],
)  # fmt: skip
def test_an_unknown_preset_names_the_nearest(written: str, said: str) -> None:
    assert refusal({"preset": written}) == f"provider.preset: {written!r} is none; {said}"


@pytest.mark.parametrize(
    ("table", "task", "said"),
    [
        ({"preset": "azure"}, {}, 'provider.host: is missing: at Azure OpenAI everybody has his own, as host = "my-'),
        ({"preset": "groq", "host": "a b"}, {}, "provider.host: 'a b' is no host; write it as llm.example.com"),
        ({"preset": "groq", "host": "h/x"}, {}, "provider.host: 'h/x' is no host"),
        ({"preset": "groq", "host": "h?x=1"}, {}, "provider.host: 'h?x=1' is no host"),
        ({"preset": "groq", "host": "h:x"}, {}, "provider.base_url: 'https://h:x/openai/v1' has no usable host"),
        ({"preset": "groq", "host": "h", "base_url": "http://h/v1"}, {}, "provider.host: base_url says it, too"),
        ({"preset": "groq", "api_version": "2024-10-21"}, {}, "provider.api_version: Groq has none; leave it out"),
        ({"preset": "azure", "host": "h", "api_version": "latest"}, {}, "provider.api_version: 'latest' is no date"),
        (
            DATED, {"mode": "batch"},
            "provider.api_version: batches need the API without one",
        ),
        (
            DATED, {"per_row": {"model": "text"}},
            "provider.api_version: the path names one deployment for all rows; name it by provider.model",
        ),
        ({**DATED, "model": "a/b"}, {}, "provider.model: 'a/b' is no name of a deployment"),
        ({"host": "h"}, {}, "provider.host: goes with provider.preset; without one write the whole URL as base_url"),
        ({"api_version": "2024-10-21"}, {}, "provider.api_version: goes with provider.preset"),
        ({"preset": 5}, {}, "provider.preset: expected str | null, got int"),
    ],
)  # fmt: skip
def test_what_a_preset_cannot_be_used_with_is_refused_by_its_key(
    table: dict[str, Any], task: dict[str, Any], said: str
) -> None:
    assert refusal(table, **task).startswith(said)


def test_a_password_in_a_host_is_not_shown() -> None:
    assert "hunter22" not in refusal({"preset": "groq", "host": "me:hunter22@h"})


def test_one_of_several_is_named() -> None:
    other = {"name": "other", "base_url": "http://127.0.0.1:1/v1"}
    assert refusal(other, {"preset": "azure"}).startswith("provider.host of 'azure': is missing")


def test_the_batches_of_a_preset_are_found_by_its_name() -> None:
    tree = {
        **SECTIONS,
        "task": {"model": "m", "prompt": "{text}", "mode": "batch"},
        "batch": {"provider": "openai"},
        "provider": [DATED, {"preset": "openai"}],
    }
    assert parse(tree, "c.toml").batch_provider.preset == "openai"


def test_the_simulator_in_its_place_needs_no_key() -> None:
    config = read({"preset": "groq", "base_url": "simulator"}, api="embeddings")
    (provider,) = config.provider
    said = "provider 'groq': Groq is not asked, but the simulator, as base_url says; take that out"
    assert list(misfits(config)) == [said]
    assert (provider.base_url, provider.api_key_env, provider.headers_env) == ("simulator", None, {})


def test_what_a_preset_gave_is_told() -> None:
    tables = [
        {"preset": "groq"},
        DATED,
        {"preset": "mistral", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "MINE"},
        {"preset": "ollama", "host": "gpu:11434"},
        {"name": "plain", "base_url": "http://127.0.0.1:2/v1"},
    ]
    config = read(*tables)
    assert [given(config, provider) for provider in config.provider] == [
        "groq: base_url https://api.groq.com/openai/v1, the key in GROQ_API_KEY",
        f"azure: base_url https://h.openai.azure.com/openai/deployments/m?api-version=2024-10-21, {AZURE_KEY}",
        "mistral: all that it gives is written beside it",
        "ollama: base_url http://gpu:11434/v1",
        "",
    ]


def test_a_configuration_that_was_read_is_read_again_the_same() -> None:
    config = read(DATED, {"preset": "groq", "host": "g"})
    assert parse(msgspec.to_builtins(config), "again") == config


@pytest.mark.parametrize(
    ("preset", "task", "said"),
    [
        ("fireworks", {"api": "embeddings"}, [
            "Fireworks AI is documented with chat.completions and completions, not embeddings",
        ]),
        ("perplexity", {}, ["Perplexity is documented with responses, not chat.completions"]),
        ("groq", {"params": {"n": 2, "logprobs": True}}, [
            "Groq is documented without logprobs, which task.params.logprobs asks for",
            "Groq is documented without n, which task.params.n asks for",
        ]),
        ("groq", {"params": {"n": 1, "logprobs": False, "seed": 1, "max_completion_tokens": 5}}, []),
        ("mistral", {"params": {"seed": 1, "max_completion_tokens": 5}}, [
            "Mistral calls seed random_seed",
            "Mistral limits replies by max_tokens, not max_completion_tokens",
        ]),
        ("deepseek", {"schema": {"type": "object"}}, [
            "DeepSeek is documented without json_schema, which task.schema asks for",
        ]),
        ("anthropic", {"mode": "batch"}, ["Anthropic is documented without batch, which task.mode asks for"]),
        ("openai", {"mode": "batch", "schema": {"type": "object"}, "params": {"n": 2, "seed": 1}}, []),
    ],
)  # fmt: skip
def test_what_a_provider_is_documented_not_to_have_is_told(preset: str, task: dict[str, Any], said: list[str]) -> None:
    expected = [f"provider {preset!r}: {each} ({PRESETS[preset].sources[0]})" for each in said]
    assert list(misfits(read({"preset": preset}, **task))) == expected


def test_a_provider_without_a_preset_is_as_it_was() -> None:
    table: dict[str, Any] = {"name": "local", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "K"}
    config = read(table)
    assert config.provider == [ProviderConfig(**table)]
    assert list(misfits(config)) == []
    preset = read({"preset": "groq"})
    assert fingerprint(preset) == fingerprint(config), "where the rows are sent is no part of the question"


# docs/providers.md

PAGE = (Path(__file__).parents[3] / "docs" / "providers.md").read_text(encoding="utf-8")
HEADS = ("preset", "of", "base_url", "key in", "APIs", "also")
MORE_HEADS = ("preset", *FEATURES, "limits a reply", "limits' headers", "pages")


def cells(heads: tuple[str, ...]) -> list[list[str]]:
    """Return the lines of the page's table with these heads."""
    heading = f"| {' | '.join(heads)} |\n"
    assert PAGE.count(heading) == 1
    lines = PAGE.partition(heading)[2].splitlines()[1:]
    end = next(place for place, line in enumerate(lines) if not line.startswith("|"))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:end]]


def feature(preset: Preset, name: str) -> str:
    if name in preset.instead:
        return f"as `{preset.instead[name]}`"
    if name in preset.has:
        return "yes, from memory" if name in preset.memory else "yes"
    return "no" if name in preset.lacks else "?"


def coded(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_the_page_shows_where_each_is_and_which_key_it_takes() -> None:
    assert cells(HEADS) == [
        [
            f"`{name}`",
            preset.title,
            f"`{preset.url.replace('{host}', f'HOST{preset.domain}')}`",
            "none" if preset.key is None else f"`{preset.key}`{of_header(preset)}",
            coded(preset.apis),
            preset.note,
        ]
        for name, preset in PRESETS.items()
    ]


def of_header(preset: Preset) -> str:
    return "" if preset.key_header == "authorization" else f", header `{preset.key_header}`"


def test_the_page_shows_what_each_has_and_says_where_that_is_from() -> None:
    assert cells(MORE_HEADS) == [
        [
            f"`{name}`",
            *(feature(preset, each) for each in FEATURES),
            coded(preset.tokens) or "?",
            preset.limits if preset.limits == "?" else f"`{preset.limits}`",
            ", ".join(f"[{number}]({page})" for number, page in enumerate(preset.sources, 1)),
        ]
        for name, preset in PRESETS.items()
    ]
    assert f"on {LOOKED_UP}" in PAGE


def test_a_path_that_names_a_deployment_is_of_one_model_in_every_step_that_is_asked_there() -> None:
    one, other = {"name": "a", "prompt": "{text}"}, {"name": "b", "prompt": "{a}", "model": "large"}
    tree = {**SECTIONS, "task": {"model": "m"}, "provider": [DATED, {"name": "main", "base_url": "http://h/v1"}]}
    said = "provider.api_version of 'azure': the path names one deployment, and step 'b' asks for another"
    with pytest.raises(ConfigError, match=said):
        parse({**tree, "step": [one, other]}, "c.toml")
    with pytest.raises(ConfigError, match=said):
        parse({**tree, "step": [one, {**other, "model": "m", "api": "responses"}]}, "c.toml")
    for right in ({**other, "model": "m"}, {**other, "provider": "main"}):
        config = parse({**tree, "step": [one, right]}, "c.toml")
        assert "/deployments/m?" in config.provider[0].base_url
