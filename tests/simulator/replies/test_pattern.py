"""Texts that are made for a pattern or a format fit it."""

import re
from random import Random

import jsonschema_rs
import pytest

from rowmill.simulator.replies.pattern import fitting, formatted

RANDOM = Random(4)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}-\d{2}$", r"^[A-Z]{2,3}$", r"^(yes|no)$", r"^#[0-9a-fA-F]{6}$", r"^\+?[1-9]\d{1,14}$",
        r"^[^@\s]+@[^@\s]+\.[a-z]+$", r"a*b?c+", r"^(?:[a-z]+-)*x$", r"^[a-z0-9]+(?:-[a-z0-9]+)*$", r"^\w{3,}$",
        r"^[\w.-]+$", r"^(ab){2}$", r"^(?P<year>\d+)$", r"^[\d-]\D$", r"", r"^\S+\s\W\t$", r"^[]x]$", r".{5}?",
    ],
)  # fmt: skip
def test_a_text_fits_its_pattern(pattern: str) -> None:
    for _ in range(20):
        text = fitting(pattern, RANDOM.randrange, 0, None)
        assert text is not None
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", r"(a)\1", "(", "a)", "[", "*", "[^a-z0-9]", r"\bfoo", "(?!x)", "a{2", "\\"]
)
def test_what_is_beyond_is_given_up(pattern: str) -> None:
    text = fitting(pattern, RANDOM.randrange, 0, None)
    assert text is None or re.search(pattern, text)


def test_lengths_are_kept_where_the_pattern_allows() -> None:
    assert len(fitting("^[a-z]+$", RANDOM.randrange, 40, 41) or "") in {40, 41}
    assert fitting("^[a-z]+$", RANDOM.randrange, 0, 1) is not None
    assert fitting("^[a-z]{3}$", RANDOM.randrange, 4, None) is None


@pytest.mark.parametrize(
    "name",
    ["date", "time", "date-time", "duration", "email", "hostname", "uri", "uri-reference", "ipv4", "ipv6", "uuid"],
)
def test_a_text_has_its_format(name: str) -> None:
    validator = jsonschema_rs.validator_for({"type": "string", "format": name}, validate_formats=True)
    for number in (0, 1, 2**64 - 1, *(RANDOM.getrandbits(64) for _ in range(50))):
        assert validator.is_valid(formatted(name, number)), formatted(name, number)
    assert formatted("colour", 1) is None
