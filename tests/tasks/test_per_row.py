"""Members of the request by column: what a row sets, what it leaves, and text that stands for a number."""

from typing import Any

import pytest

from rowmill.core.errors import InvalidRow
from rowmill.tasks.per_row import PerRow


def members(columns: dict[str, str], **row: Any) -> dict[str, Any]:
    return PerRow(columns).members(row)


@pytest.mark.parametrize("value", [None, "", ...])
def test_null_empty_and_missing_leave_the_default(value: Any) -> None:
    row = {} if value is ... else {"column": value}
    assert members({"model": "column", "seed": "column"}, **row) == {}


def test_a_value_is_taken_as_it_is() -> None:
    for value in (0, False, 0.5, "text", [1], {"a": None}):
        assert members({"stop": "s"}, s=value) == {"stop": value}


@pytest.mark.parametrize(
    ("member", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("max_tokens", "12", 12),
        ("store", "true", True),
        ("logit_bias", '{"5": -1}', {"5": -1}),
        ("user", "123", "123"),
        ("stop", "1", "1"),
        ("guided_regex", "[0-9]", "[0-9]"),
    ],
)
def test_a_table_of_text_can_hold_numbers_for_what_is_never_text(member: str, text: str, value: Any) -> None:
    assert members({member: "column"}, column=text) == {member: value}


@pytest.mark.parametrize(
    ("member", "value"), [("temperature", "warm"), ("model", 5), ("model", " "), ("seed", "[" * 5000)]
)
def test_a_value_that_cannot_be_one_names_the_key_and_the_column(member: str, value: Any) -> None:
    with pytest.raises(InvalidRow, match=rf"^task\.per_row\.{member}: column 'column' holds "):
        members({member: "column"}, column=value)


def test_the_members_of_extra_body_are_put_on_top_of_the_others() -> None:
    columns = {"seed": "s", "extra_body": "e"}
    assert members(columns, s=1, e={"top_k": 5, "seed": 2}) == {"seed": 2, "top_k": 5}
    assert members(columns, s=1, e='{"top_k": 5}') == {"seed": 1, "top_k": 5}, "of a table of text"
    assert members(columns, s=1, e=None) == {"seed": 1}
    for bad in ([1], {"stream": True}):
        with pytest.raises(InvalidRow, match=r"task\.per_row\.extra_body"):
            members(columns, e=bad)
