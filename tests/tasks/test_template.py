"""Prompts with `{column}` in them: what is put in for a column, and what is no template."""

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.errors import ConfigError
from rowmill.tasks.template import Template

# As columns are named; the prompt's own syntax is left out.
names = st.text(string.ascii_letters + string.digits + "_- .é日", min_size=1, max_size=8).filter(
    lambda name: name.strip() == name
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def rendered(text: str, **row: Any) -> str:
    return Template(text, "task.prompt").render(row)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n\t\"'{} %s %d %", "as it is\n\t\"'{} %s %d %"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-12, "-12"),
        (1.5, "1.5"),
        (10**25, "1" + "0" * 25),
        ([1, "two", None], '[1,"two",null]'),
        ({"a": {"b": "é"}}, '{"a":{"b":"é"}}'),
    ],
)
def test_text_is_put_in_as_it_is_and_everything_else_as_json(value: Any, text: str) -> None:
    assert rendered("<{column}>", column=value) == f"<{text}>"


def test_doubled_braces_are_braces_and_a_column_may_stand_several_times() -> None:
    assert rendered('{{"{a}": {b}}} {a}{a}', a="x", b=2) == '{"x": 2} xx'
    assert Template("{b} {a} {b}", "k").columns == ["b", "a"]


def test_percent_signs_are_nothing_special() -> None:
    assert rendered("100% %s %(a)s {a}%", a="5%") == "100% %s %(a)s 5%%"
    assert rendered("100% sure") == "100% sure"


def test_a_text_without_columns_is_a_prompt_too() -> None:
    assert rendered("Hello") == "Hello"
    assert rendered("") == ""


def test_what_a_value_holds_is_never_read_as_a_template() -> None:
    assert rendered("{a}", a="{b} {a!r} {{") == "{b} {a!r} {{"


@given(st.lists(texts | st.tuples(names)), st.data())
def test_a_template_is_its_pieces_in_order(pieces: list[str | tuple[str]], data: st.DataObject) -> None:
    text = "".join(
        piece.replace("{", "{{").replace("}", "}}") if isinstance(piece, str) else f"{{{piece[0]}}}" for piece in pieces
    )
    template = Template(text, "k")
    row = {name: data.draw(texts) for name in template.columns}
    expected = "".join(piece if isinstance(piece, str) else row[piece[0]] for piece in pieces)
    assert template.render(row) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    )
)
def test_a_value_of_any_shape_can_be_read_back(value: Any) -> None:
    text = rendered("{a}", a=value)
    if value is None or isinstance(value, str):
        assert text == (value or "")
    else:
        assert json.loads(text) == value


@pytest.mark.parametrize("text", ["{", "}", "{}", "{ a", "a}", "{a:>10}", "{a!r}", "{a:{b}}", "{a", "{a}}", "{!r}"])
def test_what_is_no_template_is_refused_by_its_key_with_the_way_to_write_braces(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.prompt: .*" + re.escape("{{ and }}")) as error:
        Template(text, "task.prompt")
    assert "\n" not in str(error.value)
