"""Two runs side by side in a terminal: readable whatever their answers are."""

from typing import Any

from rowmill.interface.ui.compared_text import compared_text
from rowmill.runs.comparing import Agreement, Compared, Side


def text_of(one: Any, other: Any, fields: int = 0) -> list[str]:
    side = Side(run_dir="a.run", rows=1, failed=0)
    compared = Compared(
        sides=(side, side),
        whole=Agreement(both=1, same=0),
        fields={f"f{number:05}": Agreement(both=1, same=1) for number in range(fields)},
        differing=[({"index": 0, "id": None, "output": one}, {"index": 0, "id": None, "output": other})],
    )
    return compared_text(compared).splitlines()


def test_what_differs_is_shown_also_far_behind() -> None:
    words = ["word"] * 100_000
    assert text_of(" ".join([*words, "cat"]), " ".join([*words, "dog"]))[-2:] == [
        "  A  ... word word word word word word [cat]",
        "  B  ... word word word word word word [dog]",
    ]
    assert text_of(" ".join(words), " ".join([*words, "dog"]))[-2:] == [
        "  A  ... word word word word word word",
        "  B  ... word word word word word word [dog]",
    ]


def test_long_texts_of_few_words_take_no_time_and_are_cut() -> None:
    a, b = text_of("cat dog " * 50_000, "dog cat cow " * 50_000)[-2:]
    assert a.endswith(" ... and 99,600 more words")
    assert b.endswith(" ... and 149,600 more words")
    assert max(map(len, text_of("x" * 1_000_000, "y" * 1_000_000))) < 1_100


def test_of_very_many_fields_the_first_are_told() -> None:
    lines = text_of("a", "b", fields=5_000)
    assert len(lines) < 60
    assert "           and 4,960 more fields: --json has them all" in lines
