"""Conditions on rows: what they find, and what they cannot mean."""

import re
from typing import Any

import pytest

from rowmill.core.conditions import condition
from rowmill.core.errors import ConfigError

LINE: dict[str, Any] = {
    "index": 7,
    "id": "r7",
    "output": {"topic": "sport", "score": 3, "ok": True, "of": {"city": "Ulm", "all": ["a", "b"]}, "a.b": 1, "n": None},
    "error": None,
    "finish_reason": "stop",
    "model": "m",
}
FAILED: dict[str, Any] = {
    "index": 8,
    "id": 8,
    "output": None,
    "error": {"class": "timeout", "status": None},
    "finish_reason": None,
}
TEXT: dict[str, Any] = {"index": 9, "id": 9, "output": "The Quick fox", "error": None, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('topic = "sport"', [7]),
        ("topic = sport", [7]),
        ("topic='sport'", [7]),
        ("topic != sport", [8, 9]),
        ("score >= 3", [7]),
        ("score > 3", []),
        ("score = 3.0", [7]),
        ("score < 10 and topic = sport", [7]),
        ("score < 10 AND topic = art", []),
        ("ok = true", [7]),
        ("ok = 1", []),
        ("score = true", []),
        ("of.city = Ulm", [7]),
        ("of.all.1 = b", [7]),
        ("a.b = 1", [7]),
        ("n = null", [7]),
        ("class = timeout", [8]),
        ("error.class = timeout", [8]),
        ("output ~ quick", [9]),
        ("output = 'The Quick fox'", [9]),
        ("finish_reason=length", [9]),
        ("index >= 8", [8, 9]),
        ("id = r7", [7]),
        ("nothing = null", []),
        ("topic > 3", []),
        ('topic = "sport and index = 9"', []),
        ("of.city.more = x", []),
        ('topic != "a and score = 9"', [7, 8, 9]),
        ('topic != "a \\" and score = 9" and index > 7', [8, 9]),
        ("topic != 'a and score = 9' and score = 3", [7]),
        ("topic != it's and it's and score = 3", [7]),
        ("topic != 'a or score = 9'", [7, 8, 9]),
        ("output ~ the or that", []),
        ("output ~ '", []),
        ("output = ''", []),
        ("output = '", []),
        ("of.all.\u0661 = b", []),
        (f"of.all.{'0' * 5000} = a", []),
        ("output ~ \ud800", []),
        (f"score > 1{'0' * 400}", []),
        (f"score < {'9' * 40}", [7]),
        (f"n = {'[' * 5000}", []),
        (f"{'of.' * 5000}city = Ulm", []),
    ],
)
def test_what_a_condition_finds(text: str, found: list[int]) -> None:
    holds = condition(text)
    assert [line["index"] for line in (LINE, FAILED, TEXT) if holds(line)] == found


@pytest.mark.parametrize("text", ["", "topic", "= x", "topic =", "topic = x or score = 3 and", "a b = c", "score => "])
def test_what_is_no_condition_is_told(text: str) -> None:
    try:
        holds = condition(text)
    except ConfigError as error:
        assert "--where" in str(error)  # noqa: PT017 - either is right, a wrong meaning is not
    else:
        assert not any(holds(line) for line in (LINE, FAILED, TEXT))


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("topic = sport or topic = art", "or"),
        ("score > 1 and topic = 'sport' OR topic = 'art'", "OR"),
        ("score > 1 && topic = sport", "&&"),
        ('topic = "sport" || output ~ art', "||"),
    ],
)
def test_what_is_joined_otherwise_than_by_and_is_no_value(text: str, joined: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"joined by `and`, and by no `{joined}`")):
        condition(text)
