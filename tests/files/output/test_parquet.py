"""Parquet: types, vectors, row groups, and what a worker imports for it."""

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from pyarrow import parquet

import rowmill
from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import Column, Layout
from rowmill.files.output import open_codec
from rowmill.files.output import parquet as parquet_format

Joined = Callable[..., bytes]
Made = Callable[..., bytes]

CONFIG = OutputConfig(path="o.parquet", include=["input"])


def read(data: bytes) -> Any:
    return parquet.read_table(pa.BufferReader(data))


def test_columns_have_their_types_whatever_the_rows_hold(joined: Joined, failed: Made) -> None:
    layout = Layout(
        input_columns=(Column("n", "int64"), Column("x", "double"), Column("yes", "bool"), Column("any", "json")),
        fields=(Column("label"),),
    )
    strings = ["any", "id", "output", "error", "error_code", "error_message", "finish_reason", "model", "label"]
    given: list[list[list[bytes]]] = [[], [[]], [[failed(0)]]]
    for shards in given:
        schema = read(joined(open_codec(CONFIG, layout), shards)).schema
        assert {name for name in schema.names if schema.field(name).type == pa.string()} == set(strings)
        whole = {name for name in schema.names if schema.field(name).type == pa.int64()}
        assert whole == {"n", "index", "error_status", "prompt_tokens", "completion_tokens"}
        assert (schema.field("x").type, schema.field("yes").type) == (pa.float64(), pa.bool_())


def test_vectors_are_float32_to_the_bit(joined: Joined, result: Made, failed: Made) -> None:
    vectors: list[bytes | None] = [
        struct.pack("<3f", 0.1, -2, 1e-40),
        None,
        b"",
        struct.pack("<2f", 1 / 3, float("inf")),
    ]
    lines = [
        failed(n) if vector is None else result(n, b'"%b"' % base64.b64encode(vector))
        for n, vector in enumerate(vectors)
    ]
    table = read(joined(open_codec(CONFIG, Layout(vectors=True)), [lines[:1], lines[1:]]))
    assert table.schema.field("output").type == pa.list_(pa.field("element", pa.float32()))
    found = [None if each is None else struct.pack(f"<{len(each)}f", *each) for each in table["output"].to_pylist()]
    assert found == vectors


def test_a_large_shard_makes_several_row_groups(joined: Joined, result: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_format, "_GROUP_BYTES", 1 << 19)
    lines = [result(index, b'"%b"' % (b"x" * 1000)) for index in range(2000)]
    data = joined(open_codec(CONFIG, Layout()), [lines])
    file = parquet.ParquetFile(pa.BufferReader(data))
    assert 3 <= file.num_row_groups <= 5
    assert file.read()["index"].to_pylist() == list(range(2000))


def test_sections_are_the_same_bytes_whenever_they_are_made(result: Made) -> None:
    lines = [result(index, json.dumps("x" * index).encode()) for index in range(500)]
    first, again = (b"".join(open_codec(CONFIG, Layout()).encode(iter(lines))) for _ in range(2))
    assert first == again


def test_only_numbers_have_statistics(joined: Joined, result: Made) -> None:
    data = joined(open_codec(CONFIG, Layout()), [[result(0, b'"secret"')]])
    group = parquet.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert [c.path_in_schema for c in columns if c.is_stats_set] == [
        "index", "error_status", "prompt_tokens", "completion_tokens",
    ]  # fmt: skip


def test_a_section_that_is_given_up_leaves_no_error(result: Made) -> None:
    pieces = iter(open_codec(CONFIG, Layout()).encode(iter([result(0, b'"x"')])))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # it is a generator: so it ends where the disk is full


IMPORTS = """
import sys
from rowmill.core.config.sections import OutputConfig
from rowmill.files.output import open_codec
from rowmill.core.rows import Layout
for path in ("o.jsonl", "o.csv", "o.parquet"):
    codec = open_codec(OutputConfig(path=path), Layout())
    codec.join()
    assert not {"pyarrow", "numpy"} & set(sys.modules), path  # the supervisor joins without them
codec.load()
list(codec.encode(iter([])))
assert "pyarrow" in sys.modules
assert "pandas" not in sys.modules
import pandas, pyarrow
assert len(pyarrow.table({"a": [1]}).to_pandas()) == 1  # who wants it still has it
"""


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    root = str(Path(rowmill.__file__).parents[1])
    subprocess.run([sys.executable, "-W", "error", "-c", IMPORTS], check=True, env={"PYTHONPATH": root})
