"""CSV: what is quoted, what null is, and the header."""

import base64
import csv
import io
import json
import struct
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import Column, Layout
from rowmill.files.output import open_codec
from rowmill.files.output.csv_records import is_formula, quoted

Joined = Callable[..., bytes]
Made = Callable[..., bytes]

CONFIG = OutputConfig(path="o.csv", include=["input"])


@settings(max_examples=200)
@given(records=st.lists(st.lists(st.text(), min_size=2, max_size=4), max_size=4))
def test_any_texts_are_read_back(records: list[list[str]]) -> None:
    text = "".join(f"{','.join(map(quoted, record))}\n" for record in records)
    assert list(csv.reader(io.StringIO(text, newline=""))) == records


def test_only_what_must_be_is_quoted() -> None:
    assert [quoted(text) for text in ("a b'c", "a,b", 'say "a"', "a\nb", "a\rb", "")] == [
        "a b'c", '"a,b"', '"say ""a"""', '"a\nb"', '"a\rb"', "",
    ]  # fmt: skip


def test_there_is_one_header_however_many_shards(joined: Joined, result: Made, failed: Made) -> None:
    data = joined(
        open_codec(CONFIG, Layout()), [[result(0, b'"a, \\"b\\""', row_id=b'"r"')], [], [failed(1, code="c")]]
    )
    assert data.decode().split("\n") == [
        "index,id,output,error,error_code,error_status,error_message,finish_reason,model,prompt_tokens,completion_tokens",
        '0,r,"a, ""b""",,,,,stop,m,3,4',
        "1,,,timeout,c,,it took too long,,,,",
        "",
    ]


def test_an_output_without_rows_is_the_header(joined: Joined) -> None:
    assert joined(open_codec(CONFIG, Layout()), []).count(b"\n") == 1


def test_a_column_name_is_quoted_where_it_must_be(joined: Joined) -> None:
    layout = Layout(input_columns=(Column("a,b"), Column('q"')))
    assert joined(open_codec(CONFIG, layout), []).startswith(b'"a,b","q""",index,')


def test_values_are_written_as_json_writes_them(joined: Joined, result: Made) -> None:
    layout = Layout(
        input_columns=(Column("n", "int64"), Column("x", "double"), Column("yes", "bool"), Column("any", "json"))
    )
    inputs = [
        {"n": -5, "x": 1e22, "yes": True, "any": [1, {"a": None}]},
        {"n": None, "x": 0.1, "yes": False, "any": "text"},
        {"n": "five, or six", "x": True, "yes": "no", "any": 1.5},
    ]
    lines = [result(n, b'"o"', include=b',"input":' + json.dumps(row).encode()) for n, row in enumerate(inputs)]
    read = list(csv.reader(io.StringIO(joined(open_codec(CONFIG, layout), [lines]).decode(), newline="")))
    assert [record[:4] for record in read[1:]] == [
        ["-5", "1e+22", "true", '[1, {"a": null}]'],
        ["", "0.1", "false", "text"],
        ["five, or six", "true", "no", "1.5"],
    ]


def test_vectors_are_json_lists(joined: Joined, result: Made, failed: Made) -> None:
    coded = base64.b64encode(struct.pack("<3f", 0.1, -2, 1e-7))
    data = joined(open_codec(CONFIG, Layout(vectors=True)), [[result(0, b'"%b"' % coded), failed(1)]])
    records = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [record["output"] for record in records] == ["[0.1,-2.0,1e-7]", ""]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tplain", "=", "-", " =1", "\u00a0=1", "\ufeff=1",
        "\uff1dHYPERLINK(1)", "-5+cmd|' /C calc'!A0", "+1,2", "-1.2.3", "-5 ", "--5", "-inf", "+49 30 1234", "-\u0665",
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_a_formula(text: str) -> None:
    assert is_formula(text)


@pytest.mark.parametrize(
    "text",
    ["", "a=1", "1-1", "'=1", "-5", "+5", "-5.25", "-.5", "-5.", "+1e-9", "a\n=1", "(1)", '{"a": 1}', " a", "  -5"],
)
def test_what_it_would_not_is_none(text: str) -> None:
    assert not is_formula(text)


def test_formulas_are_escaped_in_every_column_where_that_is_asked(joined: Joined, result: Made, failed: Made) -> None:
    layout = Layout(
        input_columns=(Column("n", "int64"), Column("=name"), Column("any", "json")), fields=(Column("-field"),)
    )
    inputs = [{"n": -5, "=name": "@a", "any": -1.5}, {"n": "=n", "=name": "-7", "any": "=any, more"}]
    lines = [
        result(n, b'{"-field": "+x"}', row_id=b'"=id"', include=b',"input":' + json.dumps(row).encode())
        for n, row in enumerate(inputs)
    ]
    lines.append(failed(2, code="=code", message="=message"))
    plain = list(csv.reader(io.StringIO(joined(open_codec(CONFIG, layout), [lines]).decode(), newline="")))
    codec = open_codec(msgspec.structs.replace(CONFIG, escape_formulas=True), layout)
    escaped = list(csv.reader(io.StringIO(joined(codec, [lines]).decode(), newline="")))
    assert codec.key != open_codec(CONFIG, layout).key, "sections of the one are none of the other"
    expected = [[f"'{cell}" if is_formula(cell) else cell for cell in record] for record in plain]
    assert escaped == expected
    assert escaped[0][:3] == ["n", "'=name", "any"]
    assert escaped[1][:5] == ["-5", "'@a", "-1.5", "0", "'=id"]
    assert escaped[2][:3] == ["'=n", "-7", "'=any, more"]
    assert (escaped[1][-1], escaped[3][7], escaped[3][9]) == ("'+x", "'=code", "'=message")
