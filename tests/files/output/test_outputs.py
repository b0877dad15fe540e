"""Which format an output has, and its way from checkpoints to the output."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyarrow import parquet  # type: ignore[import-untyped]  # it ships no types

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import ConfigError, RunDirectoryError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Column, Layout, Shard
from rowmill.files.output import format_of, open_codec
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.merge import Merger
from rowmill.store.seal import read_sealed
from rowmill.transport import faults
from tests.store.old_footers import make_old

Made = Callable[..., bytes]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("out.jsonl", "jsonl"),
        ("out.json", "jsonl"),
        ("out.v2.ndjson", "jsonl"),
        ("out.csv", "csv"),
        ("OUT.CSV", "csv"),
        ("out.parquet", "parquet"),
        ("answers/", "parquet"),
        ("s3://bucket/a/answers.parquet", "parquet"),
        ("s3://bucket/answers/", "parquet"),
    ],
)
def test_the_name_says_the_format(path: str, found: str) -> None:
    assert format_of(OutputConfig(path=path)) == found


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("out.xlsx", "ends with .xlsx"), ("out.jsn", "ends with .jsn"), ("out.TXT", "ends with .txt"),
        ("out.tsv", "ends with .tsv"), ("out.jsonl.gz", "ends with .gz"), ("csv", "has no suffix"),
        ("a.csv/out", "has no suffix"), ("s3://b/out", "has no suffix"), (".csv", "has no suffix"),
    ],
)  # fmt: skip
def test_a_name_that_tells_no_format_is_refused_with_those_that_do(path: str, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        format_of(OutputConfig(path=path))
    assert what in str(error.value)
    assert str(error.value).startswith(f"output.path: {path} ")
    assert "end it with .jsonl, .ndjson, .json, .csv, .parquet, or" in str(error.value)
    assert format_of(OutputConfig(path=path, format="jsonl")) == "jsonl"


def test_what_is_configured_goes_before_the_name() -> None:
    assert format_of(OutputConfig(path="out.csv", format="jsonl")) == "jsonl"
    assert format_of(OutputConfig(path="out.jsonl", format="batch")) == "batch"


@pytest.mark.parametrize("other", ["jsonl", "csv", "batch"])
def test_only_parquet_is_written_into_a_directory(other: str) -> None:
    with pytest.raises(ConfigError, match=rf"output\.path: only Parquet is written into a directory, not {other}"):
        format_of(OutputConfig(path="answers/", format=other))  # type: ignore[arg-type]  # one of the literals


def test_a_directory_of_parts_is_told_by_the_slash() -> None:
    assert open_codec(OutputConfig(path="answers/"), Layout()).directory_suffix == ".parquet"
    assert open_codec(OutputConfig(path="answers.parquet"), Layout()).directory_suffix is None
    assert open_codec(OutputConfig(path="answers.csv"), Layout()).directory_suffix is None


def test_keys_differ_where_sections_would() -> None:
    columns = Layout(input_columns=(Column("a"),))
    kept = {"include": ["input"]}
    formats = [
        open_codec(OutputConfig(path=path, **keys), layout)  # type: ignore[arg-type]  # as a configuration has them
        for path, keys, layout in [
            ("o.jsonl", {}, Layout()),
            ("o.jsonl", {}, Layout(vectors=True)),
            ("o.jsonl", {"format": "batch"}, Layout()),
            ("o.csv", {}, Layout()),
            ("o.csv", {}, Layout(vectors=True)),
            ("o.csv", {"include": ["meta"]}, Layout()),
            ("o.csv", kept, columns),
            ("o.csv", kept, Layout(input_columns=(Column("a", "int64"),))),
            ("o.csv", {}, Layout(fields=(Column("a"),))),
            ("o.parquet", {}, Layout()),
            ("o.parquet", kept, columns),
            ("o.parquet", {}, Layout(vectors=True)),
        ]
    ]
    keys = [each.key for each in formats]
    assert len(set(keys)) == len(keys)
    assert open_codec(OutputConfig(path="other.csv"), columns).key == keys[3]  # without include nothing is kept


# From checkpoints to the output

ROWS, SHARD_ROWS = 25, 10
LAYOUT = Layout(input_columns=(Column("a"),))
READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "o.jsonl": lambda path: [json.loads(line) for line in path.read_bytes().splitlines()],
    "o.csv": lambda path: list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))),
    "o.parquet": lambda path: parquet.read_table(path).to_pylist(),
    "o/": lambda path: parquet.read_table(path).to_pylist(),
}


async def seal(place: Path, codec: OutputCodec, line_of: Callable[[int], bytes]) -> None:
    """Record what is not yet recorded, the last row first, and seal every shard."""
    for number, first in enumerate(range(0, ROWS, SHARD_ROWS)):
        shard = Shard(number, first, min(SHARD_ROWS, ROWS - first), 0, 1, 2)
        checkpoint = await Checkpoint.open(place / f"{number}.checkpoint", shard)
        for index in reversed(range(first, first + shard.rows)):
            if not checkpoint.is_done(index):
                line = line_of(index)
                checkpoint.append(index, 1, 1, 1, "p", line, failed=b'"error":{' in line)
        await checkpoint.commit()
        await checkpoint.seal(place, codec)
        await checkpoint.close()


def merge(place: Path, output: str, codec: OutputCodec) -> tuple[int, int]:
    merger = Merger(place / output, place / "errors", codec)
    for path in sorted(place.glob("*.sealed")):
        sealed = read_sealed(path)
        assert sealed is not None
        assert sealed.format == codec.key
        merger.append(path, sealed)
    return merger.finish()


def test_one_runs_checkpoints_become_outputs_of_every_format(tmp_path: Path, result: Made, failed: Made) -> None:
    def line_of(index: int) -> bytes:
        include = b',"input":{"a":"%d"}' % index
        return (
            failed(index, include=include) if index % 7 == 3 else result(index, b'"text %d"' % index, include=include)
        )

    outputs = [f"text {index}" if index % 7 != 3 else None for index in range(ROWS)]
    for name, read in READERS.items():
        codec = open_codec(OutputConfig(path=name, include=["input"]), LAYOUT)
        asyncio.run(seal(tmp_path, codec, line_of))
        sizes = merge(tmp_path, name, codec)
        rows = read(tmp_path / name)
        assert [int(row["index"]) for row in rows] == list(range(ROWS)), name
        assert [row["output"] or None for row in rows] == outputs, name
        assert [(row.get("input") or row)["a"] for row in rows] == [str(index) for index in range(ROWS)], name
        errors = [json.loads(line) for line in (tmp_path / "errors").read_bytes().splitlines()]
        assert [each["index"] for each in errors] == [3, 10, 17, 24], name
        written = (tmp_path / name / "part-00000.parquet") if name == "o/" else tmp_path / name
        assert sizes == (written.stat().st_size, (tmp_path / "errors").stat().st_size), name
        assert not list(tmp_path.glob(".o*")), name


def test_a_run_for_the_batch_api_has_both_files_in_its_form(tmp_path: Path, result: Made, failed: Made) -> None:
    codec = open_codec(OutputConfig(path="o.jsonl", format="batch"), Layout())
    asyncio.run(
        seal(tmp_path, codec, lambda index: failed(index, status=500) if index % 7 == 3 else result(index, b'{"a":1}'))
    )
    merge(tmp_path, "o.jsonl", codec)
    answered = READERS["o.jsonl"](tmp_path / "o.jsonl")
    refused = READERS["o.jsonl"](tmp_path / "errors")
    assert [line["custom_id"] for line in answered] == [f"row-{index}" for index in range(ROWS) if index % 7 != 3]
    assert [line["custom_id"] for line in refused] == [f"row-{index}" for index in range(ROWS) if index % 7 == 3]
    assert {line["response"]["status_code"] for line in answered + refused} == {200, 500}


@pytest.mark.parametrize("config", [{"path": "o.jsonl"}, {"path": "o.csv"}, {"path": "o.jsonl", "format": "batch"}])
def test_failed_rows_are_counted_by_class_also_of_shards_from_before_they_were(
    tmp_path: Path, result: Made, failed: Made, config: dict[str, Any]
) -> None:
    def line_of(index: int) -> bytes:
        if index % 7 == 3:  # 3, 10, 17, 24
            row_id, message, reply = b'"\\udfff"', "bad \ud800", b'"\\ud800"'
            return failed(index, fault=faults.BAD_REPLY, row_id=row_id, message=message, status=200, reply=reply)
        if index % 10 == 5:  # 5, 15
            return failed(index, fault=faults.INVALID_REQUEST, status=400, code="c")
        return failed(index) if index == 14 else result(index, b'{"a":1}')

    codec = open_codec(OutputConfig(**config), Layout())
    asyncio.run(seal(tmp_path, codec, line_of))
    counted = {"bad_reply": 4, "invalid_request": 2, "timeout": 1}
    paths = sorted(tmp_path.glob("*.sealed"))
    for number in range(len(paths) + 1):
        for path in paths[:number]:
            make_old(path)
        merger = Merger(tmp_path / "o", tmp_path / "errors", codec)
        for path in paths:
            sealed = read_sealed(path)
            assert sealed is not None
            assert (sealed.failures is None) == (path in paths[:number])
            merger.append(path, sealed)
        merger.abandon()
        assert merger.failures == counted, number
        assert list(merger.failures) == list(counted), "in the order of the errors file"


def test_a_section_that_lost_its_end_is_refused_by_name(tmp_path: Path, result: Made) -> None:
    codec = open_codec(OutputConfig(path="o.parquet"), Layout())
    asyncio.run(seal(tmp_path, codec, lambda index: result(index, b'"x"')))
    path = tmp_path / "000000.sealed"
    sealed = read_sealed(path)
    assert sealed is not None
    data = bytearray(path.read_bytes())
    data[sealed.output_bytes - 6 : sealed.output_bytes] = b"000000"
    path.write_bytes(data)
    merger = Merger(tmp_path / "o.parquet", tmp_path / "errors", codec)
    with pytest.raises(RunDirectoryError, match=r"000000\.sealed is damaged: its bytes are not those .*\. Move it"):
        merger.append(path, sealed)
    old = msgspec.structs.replace(sealed, crc=None)  # as earlier versions made them
    with pytest.raises(
        RunDirectoryError, match=r"000000\.sealed is damaged: it does not end as a Parquet file\. Move it"
    ):
        merger.append(path, old)
    merger.abandon()
