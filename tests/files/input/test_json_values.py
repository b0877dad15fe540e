"""JSON that is not one object a line: what is taken for it, and which rows it is, as they stand in the file."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.files.input import inputs, json_values
from rowmill.files.input.json_values import blocks, is_spread


def lines(text: str | bytes, encoding: str = "utf-8") -> list[bytes]:
    stream = io.BytesIO(text if isinstance(text, bytes) else text.encode(encoding))
    return b"".join(blocks(stream, "in.json", encoding)).split(b"\n")[:-1]


def refused(text: str) -> str:
    with pytest.raises(InputError) as error:
        lines(text)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('[{"a":1.50},{"a":2}]', ['{"a":1.50}', '{"a":2}']),
        ('\ufeff [ {"a":1} ,\r\n {"b":\n[1,\n2]}\n]\n', ['{"a":1}', '{"b": [1, 2]}']),
        ("[]", []),
        ("[\n]\n", []),
        ("", []),
        ('[{"a":1},]', ['{"a":1}']),
        ('{"a":1}{"a":2}\n{"a":3}', ['{"a":1}', '{"a":2}', '{"a":3}']),
        ('{\n"a":1\n},\n{"a":2},\n', ['{ "a":1 }', '{"a":2}']),
        ('\x1e{"a":1}\n\x1e{"a":2}\n', ['{"a":1}', '{"a":2}']),
        ('[{"a":1}]\n[{"a":2}]', ['{"a":1}', '{"a":2}']),
        ('[{"a":NaN,"b":12345678901234567890.10}]', ['{"a":NaN,"b":12345678901234567890.10}']),
        ('{"data":[{"a":1},{"a":2}]}', ['{"a":1}', '{"a":2}']),
        ('{"n":2,"x":{"y":[{}]},"rows":[{"a":1}],"tags":["t"],"none":[]}', ['{"a":1}']),
        # No rows in it, or not alone: it is a row.
        ('{"messages":[{"role":"user"}]}', ['{"messages":[{"role":"user"}]}']),
        ('{"data":[{"a":1}]}\n{"data":[]}', ['{"data":[{"a":1}]}', '{"data":[]}']),
        ('{"data":[1,2]}', ['{"data":[1,2]}']),
        ('{"a":[{"x":1}],"b":[{"x":2}]}', ['{"a":[{"x":1}],"b":[{"x":2}]}']),
        ('["x",1]', ['"x"', "1"]),
    ],
)
@pytest.mark.parametrize("block", [1, 3, 1 << 18])
def test_rows_are_the_objects_as_they_stand_in_the_file(
    text: str, rows: list[str], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "_BLOCK", block)
    assert lines(text) == [row.encode() for row in rows]


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), values, max_size=3), min_size=2, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    form=st.sampled_from(["array", "objects", "member"]),
    ascii_=st.booleans(),
    block=st.sampled_from([3, 16, 1 << 18]),
    look=st.sampled_from([1, 20, 1 << 20]),
)
@settings(max_examples=50, deadline=None)
def test_any_rows_are_read_however_they_are_written_and_cut(
    rows: list[dict[str, Any]], indent: int | None, form: str, block: int, look: int, *, ascii_: bool
) -> None:
    def text(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_)

    match form:
        case "array":
            written = text(rows)
        case "objects":
            written = "\n".join(map(text, rows))
            look = 1 << 20
        case _:
            written = text({"n": 1.5, "data": rows, "more": {"x": []}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_BLOCK", block)
        patch.setattr(json_values, "_LOOK", look)
        assert [json.loads(line) for line in lines(written)] == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a":1},\n{"a":2}\n', "in.json: line 3: no JSON as it goes on: the array is not closed"),
        ('[{"a":1}\n {"a":2}]', "line 2: no JSON as it goes on: a comma is missing between two elements"),
        ('{\n"a":1,\n}\n', "line 3: no JSON as it goes on: expecting property name"),
        ('[{"a":1},\n{"a":"x}]', "line 2: no JSON as it goes on: unterminated string"),
        ("[" * 100_000, "too deep to be read"),
        ('[{"a":' + "[" * 100_000, "too deep to be read"),
        ('{"a":' * 100_000, "too deep to be read"),
        ("[1] x", "line 1"),
    ],
)
def test_what_is_no_json_names_the_line(text: str, words: str) -> None:
    assert words in refused(text)
    assert "\n" not in refused(text)


def test_two_lists_of_a_long_object_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_LOOK", 4)
    monkeypatch.setattr(json_values, "_BLOCK", 4)
    assert "'a' and 'b' both hold objects" in refused('{"a":[{"x":1}],"b":[{"x":2}]}')
    assert lines('{"a":"long","b":[1]}') == [b'{"a":"long","b":[1]}']


def test_other_encodings_are_read_and_undecodable_bytes_are_the_rows() -> None:
    assert lines('[{"a":"é"}]', "utf-16") == ['{"a":"é"}'.encode()]
    assert lines(b'[{"a":"\xff"},{"a":1}]') == [b'{"a":"\xff"}', b'{"a":1}']


def test_a_large_array_is_read_in_little_memory() -> None:
    row = '{"text":"' + "x" * 1000 + '"},\n'
    data = io.BytesIO(("[" + row * 12_000 + '{"a":1}]').encode())
    tracemalloc.start()
    try:
        assert sum(block.count(b"\n") for block in blocks(data, "in.json", "utf-8")) == 12_001
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


SPREAD = [
    '[{"a":1},{"a":2}]', "[\n", '[{"a":1},\n{"a":2}]', '{\n "a":1\n}\n', '{"a":1}{"a":2}', '{"a":\n1}',
    '{ "a": 1,\n "b": 2 }', '\ufeff\n[{"a":1}]',
]  # fmt: skip
LINES = [
    '{"a":1}\n{"a":2}\n', '{"a":1}', "", "text", '{"a":1\n{"a":2}\n', '{"a": "x\n{"a":2}', '[1]\n{"a":1}\n',
    '["a","b"]\n["c"]\n', '[{"a":1}]\n{"a":1}\n', '{"a":1', '{"data":[{"a":1}]}', '"x"\n', '{"a":' * 9999,
]  # fmt: skip


@pytest.mark.parametrize("text", SPREAD)
def test_json_over_several_lines_and_arrays_are_told(text: str) -> None:
    assert is_spread(text, whole=True, document=False)
    assert is_spread(text, whole=False, document=False)


@pytest.mark.parametrize("text", LINES)
def test_objects_one_a_line_are_lines_broken_ones_among_them(text: str) -> None:
    assert not is_spread(text, whole=True, document=False)


@pytest.mark.parametrize("orient", ["columns", "index", "split"])
def test_a_table_that_is_written_by_columns_is_refused_with_what_to_write(tmp_path: Path, orient: str) -> None:
    """As pandas does where it is not told otherwise: it would be one row, and be paid for."""
    path = tmp_path / "rows.json"
    frame = pd.DataFrame({'na"me': ["A", "B"], "n": [1, 2]})
    frame.to_json(path, orient=orient)  # type: ignore[call-overload]
    config = InputConfig(path=str(path))
    with pytest.raises(InputError, match=r"rows.json: holds columns and not rows.*orient=\"records\""):
        inputs.find(config)
    frame.to_json(path, orient="records")
    assert len(inputs.find(config).first_rows(5)) == 2
    frame.to_json(path, orient="records", lines=True)
    assert len(inputs.find(config).first_rows(5)) == 2
    path.write_text('{"a": {"0": 1}}\n{"a": {"0": 2}}\n')
    assert len(inputs.find(config).first_rows(5)) == 2


def test_a_document_may_be_one_object_that_holds_the_rows() -> None:
    for text, expected in (('{"data":[{"a":1}]}', True), ('{"a":1}', False), ('{"a":1}\n{"a":2}', False), ("[]", True)):
        assert is_spread(text, whole=True, document=True) == expected
    cut = '{"data":[{"a":1},{"a":'
    assert is_spread(cut, whole=False, document=True)
    assert not is_spread(cut, whole=False, document=False), "a long first row"


@pytest.mark.parametrize("document", [False, True])
def test_a_number_of_a_million_digits_is_read_past_and_kept(document: bool) -> None:
    digits = "1" * 1_000_000
    for text in (f'{{"a": {digits}}}\n{{"a": 1}}\n', f'[{{"a": {digits}}}]', f'[{{"a": {digits}', f'{{"a": {digits}'):
        is_spread(text, whole=True, document=document)
        is_spread(text, whole=False, document=document)
    (block,) = blocks(io.BytesIO(f'[{{"a": {digits}}}]'.encode()), "in.json", "utf-8")
    assert block == f'{{"a": {digits}}}\n'.encode()


def test_a_value_that_no_request_could_hold_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowmill.files.input.json_values._MOST", 1 << 20)
    text = b'[{"a": "' + b"x" * (3 << 20) + b'"}]'
    with pytest.raises(InputError, match="a value of more than 1 million characters"):
        list(blocks(io.BytesIO(text), "in.json", "utf-8"))
