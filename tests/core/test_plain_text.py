"""Text of others is fit to be shown."""

import pytest

from rowmill.core.plain_text import MOST_BYTES, clipped, one_line, stripped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is: é 漢 🙂", "as it is: é 漢 🙂"),
        ("two\nlines\ttab", "two lines tab"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b31mC1\x85next", "31mC1 next"),
        ("a\u202eb\u2066c\u2069d\u200fe\u061cf", "abcdef"),
        ("sk-\u200bse\x1fcret", "sk-secret"),
        ("half \ud83d of a pair", "half  of a pair"),
        ("no\u00a0break\u2028line", "no break line"),
        ("\x00\x7f", ""),
    ],
)
def test_what_nobody_sees_is_taken_out(text: str, expected: str) -> None:
    assert stripped(text) == expected


def test_in_one_line_each_of_them_is_a_space() -> None:
    assert one_line("a\nb\x1b[2Jc\u202ed\ud83d") == "a b [2Jc d "


@pytest.mark.parametrize("character", ["a", "é", "漢", "🙂"])
def test_a_text_is_clipped_to_a_kib_between_characters(character: str) -> None:
    short = character * (MOST_BYTES // len(character.encode()))
    assert clipped(short) == short
    cut = clipped(short + character)
    assert MOST_BYTES - 4 <= len(cut.encode()) <= MOST_BYTES
    assert cut == character * (len(cut) - 1) + "…"
