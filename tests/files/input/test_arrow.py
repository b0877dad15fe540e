"""Arrow files and streams by row numbers: the shards together are the rows, and what is skipped is not touched."""

import asyncio
import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from rowmill.core.errors import InputError, RunDirectoryError
from rowmill.core.rows import BROKEN, Column, Shard
from rowmill.files.input import arrow
from rowmill.files.input.arrow import check, lines, plan, schema, shard_lines
from rowmill.files.input.table_columns import columns_of
from rowmill.files.input.tables import TableReader
from tests.files.input.measured import ROWS, great_values, read_alone

FORMS = ("file", "stream", "feather", "packed stream")


def table_of(count: int) -> pa.Table:
    return pa.table(
        {
            "text": [f"row {number}" for number in range(count)],
            "kind": pa.array([f"kind {number % 3}" for number in range(count)]).dictionary_encode(),
            "n": range(count),
        }
    )


def written(path: Path, table: pa.Table, form: str, batch: int = 1000) -> Path:
    if form == "feather":
        feather.write_feather(table, str(path), chunksize=batch, compression="lz4")
        return path
    options = pa.ipc.IpcWriteOptions(compression="zstd" if form.startswith("packed") else None)
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, make(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch)
    return path


def planned(path: Path, shard_rows: int) -> list[Shard]:
    return list(plan(path, shard_rows))


def read(path: Path, shards: list[Shard], columns: list[str] | None = None) -> list[bytes]:
    async def every() -> list[bytes]:
        found = []
        for shard in shards:
            async with TableReader(shard_lines(str(path), shard, columns)) as reader:
                while batch := await reader.read():
                    found += batch
                assert await reader.read() == []
        return found

    return asyncio.run(every())


def numbers(found: list[bytes]) -> list[int]:
    return [json.loads(line)["n"] for line in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_known_by_its_content(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "in", table_of(2500), form)
    check(path)
    found = columns_of(schema(path))
    assert tuple(Column(each.name, each.type) for each in found) == (
        Column("text", "string"),
        Column("kind", "string"),
        Column("n", "int64"),
    )
    assert sum(shard.rows for shard in planned(path, 600)) == 2500
    assert next(lines(path))[:1] == [b'{"text":"row 0","kind":"kind 0","n":0}']
    assert numbers([line for batch in lines(path) for line in batch]) == list(range(2500))
    shards = planned(path, 600)
    assert [shard.rows for shard in shards] == [500, 500, 500, 500, 500]
    assert numbers(read(path, shards)) == list(range(2500))
    assert read(path, shards[1:2], ["n", "kind", "gone"])[0] == b'{"kind":"kind 2","n":500}'
    assert read(path, shards, ["gone"]) == [b"{}"] * 2500


@given(
    count=st.integers(0, 200),
    batch=st.integers(1, 90),
    shard_rows=st.integers(1, 90),
    form=st.sampled_from(FORMS),
    span=st.integers(1, 70),
)
@settings(max_examples=10, deadline=None)
def test_the_shards_are_the_files_rows(
    tmp_path_factory: pytest.TempPathFactory, *, count: int, batch: int, shard_rows: int, form: str, span: int
) -> None:
    path = written(tmp_path_factory.mktemp("given") / "in", table_of(count), form, batch)
    assert numbers(read(path, planned(path, shard_rows))) == list(range(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "_SPAN_ROWS", span)
        assert numbers([line for batch in lines(path) for line in batch]) == list(range(count))


def test_small_groups_are_joined_and_shards_counted_from_0(tmp_path: Path) -> None:
    path = written(tmp_path / "in", table_of(10), "stream", batch=4)
    shards = list(plan(path, 5))
    assert [(s.number, s.first_row, s.rows, s.start, s.end, s.part) for s in shards] == [
        (0, 0, 4, 0, 4, 0),
        (1, 4, 4, 4, 8, 0),
        (2, 8, 2, 8, 10, 0),
    ]
    assert shards == list(plan(path, 5)), "a plan can be made again"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_not_the_planned_one_is_refused_by_its_rows(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "in", table_of(100), form)
    shards = planned(path, 10)
    read(path, shards[:1])
    written(path, table_of(101), form)
    with pytest.raises(RunDirectoryError, match=rf"in: rows {shards[1].start} to .* changed while .* checkpoint\.dir"):
        read(path, shards[1:])
    path.unlink()
    with pytest.raises(InputError, match="in: no such file"):
        read(path, shards[1:])


@pytest.mark.parametrize("form", FORMS)
def test_what_is_cut_off_is_refused(tmp_path: Path, form: str) -> None:
    whole = written(tmp_path / "in", table_of(3000), form).read_bytes()
    for end in (3, 40, len(whole) // 2, len(whole) - 9):
        if form.endswith("stream") and end == len(whole) - 9:
            continue  # the mark of its end is optional
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut: .*; write or copy the file anew"):
            check(tmp_path / "cut")


def test_what_is_no_arrow_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in"
    for content in (b'{"a":1}\n' * 50, b"PAR1" * 20, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"in: cannot be read as Arrow: .*; write or copy the file anew"):
            check(path)
    path.write_bytes(b"FEA1" + b"\0" * 20)
    with pytest.raises(InputError, match=r"in: is a Feather file of version 1; write it anew with pyarrow\.feather"):
        check(path)
    with pytest.raises(InputError, match="gone: no such file; set input"):
        check(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be read as Arrow"):
        check(tmp_path)
    written(path, pa.table([[1], [2]], names=["a", "a"]), "stream")
    with pytest.raises(InputError, match="in: has two columns 'a'"):
        check(path)


def test_an_empty_file_is_refused_and_one_without_rows_has_no_shard(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    with pytest.raises(InputError, match="in: cannot be read as Arrow"):
        check(tmp_path / "in")
    for form in FORMS:
        path = written(tmp_path / form, table_of(0), form)
        check(path)
        assert planned(path, 10) == []
        assert list(lines(path)) == []


@pytest.mark.parametrize("form", ["file", "stream"])
def test_garbage_in_a_batch_breaks_rows_and_never_the_process(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "in", pa.table({"text": ["abc", "def", "ghi"] * 10}), form)
    shards = planned(path, 100)
    data = path.read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 3, 6, 9))
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    found = read(path, shards)
    assert len(found) == 30
    assert found[0] == b'{"text":"abc"}'
    assert found[1].startswith(BROKEN + b"column 'text' cannot be read: ")
    assert found[4:] == [
        b'{"text":"def"}',
        b'{"text":"ghi"}',
        *[b'{"text":"%s"}' % x for x in (b"abc", b"def", b"ghi")] * 8,
    ]


def test_a_file_of_one_great_batch_is_never_held_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "in", pa.table({"data": great_values()}), "file", batch=ROWS)
    count, grown = read_alone("arrow", path)
    assert count == ROWS
    assert grown < 24 << 10, "KiB: a shard's pages and lines, not the file"
