"""Numbers reach prompts, ids and kept input as their file wrote them; NaN and the infinities are null."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rowmill.core.config import parse
from rowmill.core.errors import InvalidRow
from rowmill.tasks import Task, numbers
from rowmill.tasks.factory import open_task

WRITTEN = [
    "1.10", "0.1000", "1e400", "-1E400", "1E5", "1e-7", "-0", "-0.0", "12345678901234567890123", "18446744073709551616",
    "-9223372036854775809", "0.1", "1e16", "3." + "0" * 400, "9" * 4000, "7",
]  # fmt: skip
NUMBERS = st.from_regex(r"\A-?(?:0|[1-9][0-9]{0,40})(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,5})?\Z")


def task(**keys: Any) -> Task:
    config = parse(
        {
            "input": {"path": "in.jsonl", "id": "id"},
            "task": {"model": "m", **keys},
            "output": {"path": "out.jsonl"},
            "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
        },
        "test",
    )
    return open_task(config.task, config.input)


FORMAT = task(prompt="<{x}>")
JINJA = task(prompt="{{ x }}|{{ x ~ '' }}|{{ '%s' % x }}|{{ [x] | join }}|{{ x | tojson }}", template="jinja")
WHOLE = task(prompt="{{ row | tojson }}", template="jinja")


def prompt(task_: Task, line: str) -> str:
    content: str = json.loads(task_.build(line.encode()).body, parse_float=str, parse_int=str)["messages"][0]["content"]
    return content


@pytest.mark.parametrize("text", WRITTEN)
def test_a_number_is_asked_as_it_was_written(text: str) -> None:
    line = f'{{"id": {text}, "x": {text} , "more": [{text},{{"a":{text}}}]}}'
    assert prompt(FORMAT, line) == f"<{text}>"
    assert prompt(JINJA, line) == "|".join([text] * 5)
    assert prompt(WHOLE, line) == f'{{"id": {text}, "x": {text}, "more": [{text}, {{"a": {text}}}]}}'
    assert prompt(task(prompt="{more}"), line) == f'[{text},{{"a":{text}}}]'
    assert FORMAT.build(line.encode()).id == FORMAT.id_of(line.encode()) == text.encode()
    assert FORMAT.input_of(line.encode()) == line.encode()


@given(NUMBERS)
@example("0E-0")
@example("1e-0")
def test_any_number_is_asked_as_it_was_written(text: str) -> None:
    assert prompt(FORMAT, f'{{"id":1,"x":{text}}}') == f"<{text}>"
    assert prompt(FORMAT, f'{{"id":1,"x":[{text},"-0 NaN"]}}') == f'<[{text},"-0 NaN"]>'


def test_a_number_is_one_to_a_template() -> None:
    counted = task(prompt="{{ x * 2 }} {{ x > 1 }} {{ x | round(1) }} {{ n + 1 }} {{ '%.3f' % x }}", template="jinja")
    asked = prompt(counted, '{"id":1,"x":1.250,"n":12345678901234567890123}')
    assert asked == "2.5 true 1.2 12345678901234567890124 1.250"


def test_members_of_a_request_by_column_keep_their_digits_from_numbers_and_from_text() -> None:
    task_ = task(prompt="p", per_row={"temperature": "t", "top_p": "p"})
    body = task_.build(b'{"id":1,"t":0.10,"p":"0.900"}').body
    assert b'"temperature":0.10,' in body
    assert b'"top_p":0.900,' in body


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan", "-inf"])
def test_what_is_no_number_is_null_and_told_once(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "nulled", numbers.Nulled())
    line = f'{{"id": 1.50, "x": {word}, "unused": [{word}], "text": "NaN, \\"Infinity -0", "when": "2026-01-02"}}'
    assert prompt(FORMAT, line) == "<>"
    null = line.replace(f": {word}", ": null").replace(f"[{word}]", "[null]")
    assert FORMAT.input_of(line.encode()) == null.encode()
    assert json.loads(prompt(WHOLE, line))["text"] == 'NaN, "Infinity -0'
    assert FORMAT.id_of(line.encode()) == b"1.50"
    assert numbers.nulled.note() is not None
    assert numbers.nulled.note() is None


@pytest.mark.parametrize("line", ['{"id":1,"x":NaM}', '{"id":1,"x":NaN', '{"id":1,"x":-}', '{"id":1,"x":01}'])
def test_what_is_no_json_for_another_reason_is_told_as_it_was(line: str) -> None:
    with pytest.raises(InvalidRow, match="no JSON object"):
        FORMAT.build(line.encode())
    assert FORMAT.input_of(line.encode()) == b"null"


def test_half_a_surrogate_pair_costs_the_row_only_where_its_column_is_named() -> None:
    line = r'{"id":7,"x":1.10,"unused":"\ud800","more":["\\ud800 \ud83d\ude00"]}'
    assert prompt(FORMAT, line) == "<1.10>"
    for bad in (line.replace("1.10", r'"a\udc00"'), line.replace("1.10", r'["\ud83d"]')):
        with pytest.raises(InvalidRow, match="column 'x' holds half a surrogate pair"):
            FORMAT.build(bad.encode())
        assert FORMAT.id_of(bad.encode()) == b"7"
