"""CSV: what is quoted, what null is, and the header."""

import base64
import csv
import io
import json
import struct
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import Column, Layout
from rowmill.files.output import open_codec
from rowmill.files.output.csv_records import quoted

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
