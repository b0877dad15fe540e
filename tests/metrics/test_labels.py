"""Labels have few values, short ones, and no secret; what requests are about has the conventions' words."""

import pytest

from rowmill.metrics.labels import Labels, operation, provider


def hidden(text: str) -> str:
    return text.replace("secret", "[redacted]")


def test_the_first_values_keep_their_words_and_all_others_are_one() -> None:
    models = Labels(2, hidden, ["asked"])
    assert [models(name) for name in ("a", "b", "c", "asked", "a", "d")] == ["a", "b", "other", "asked", "a", "other"]
    for number in range(1000):
        assert models(f"made-up-{number}") == "other"
    assert len(models._words) == 3


def test_a_value_is_one_short_line_without_secrets() -> None:
    models = Labels(9, hidden, ["the secret one"])
    assert models("the secret one") == "the [redacted] one"
    assert models("a\nsecret\x1b[2J\u202e") == "a [redacted][2J"
    assert models("x" * 100) == "x" * 80 + "…"
    assert models(f"{'x' * 77}secret") == f"{'x' * 77}[re…"
    assert models("\ud800") == "?"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://team.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("http://user:password@10.0.0.1:8000/v1?key=secret", "mine"),
        ("simulator", "mine"),
        ("http://[", "mine"),
    ],
)
def test_a_provider_is_called_as_the_conventions_call_it(url: str, word: str) -> None:
    assert provider("mine", url) == word


def test_what_is_asked_is_called_so_too() -> None:
    assert [operation(api) for api in ("chat.completions", "responses", "completions", "moderations")] == [
        "chat",
        "chat",
        "text_completion",
        "moderations",
    ]
