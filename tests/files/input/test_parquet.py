"""Parquet by row numbers: the shards together are the rows, whatever the row groups, and the file is never held."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import InputError, RunDirectoryError
from rowmill.core.rows import BROKEN, Column, Shard
from rowmill.files.input import parquet
from rowmill.files.input.parquet import check, lines, plan, schema, shard_lines
from rowmill.files.input.table_columns import columns_of
from rowmill.files.input.tables import TableReader
from tests.files.input.measured import ROWS, great_values, read_alone


def table_of(count: int) -> pa.Table:
    return pa.table({"n": range(count), "text": [f"row {number}" for number in range(count)], "odd": [None] * count})


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def planned(path: Path, shard_rows: int) -> list[Shard]:
    return list(plan(path, shard_rows))


async def read_all(path: Path, shard: Shard, columns: list[str] | None = None) -> list[bytes]:
    found = []
    async with TableReader(shard_lines(str(path), shard, columns)) as reader:
        while batch := await reader.read():
            found += batch
        assert await reader.read() == []
    return found


def read(path: Path, shards: list[Shard], columns: list[str] | None = None) -> list[bytes]:
    async def every() -> list[bytes]:
        return [line for shard in shards for line in await read_all(path, shard, columns)]

    return asyncio.run(every())


def test_what_a_file_is_is_told_from_its_footer(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(2500), row_group_size=1000)
    check(path)
    found = columns_of(schema(path))
    assert tuple(Column(each.name, each.type) for each in found) == (
        Column("n", "int64"),
        Column("text", "string"),
        Column("odd", "json"),
    )
    assert sum(shard.rows for shard in planned(path, 600)) == 2500
    assert next(lines(path))[:2] == [b'{"n":0,"text":"row 0","odd":null}', b'{"n":1,"text":"row 1","odd":null}']
    assert [json.loads(line)["n"] for batch in lines(path) for line in batch] == list(range(2500))


@given(
    count=st.integers(0, 300),
    group=st.integers(1, 120),
    shard_rows=st.integers(1, 90),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=10, deadline=None)
def test_the_shards_are_the_files_rows_in_whatever_order_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, count: int, group: int, shard_rows: int, order: Any
) -> None:
    path = written(tmp_path_factory.mktemp("given") / "in.parquet", table_of(count), row_group_size=group)
    shards = planned(path, shard_rows)
    assert sum(shard.rows for shard in shards) == count
    shuffled = list(shards)
    order.shuffle(shuffled)
    found = {shard.number: read(path, [shard]) for shard in shuffled}
    expected = [line for batch in lines(path) for line in batch]
    assert [line for shard in shards for line in found[shard.number]] == expected
    assert [json.loads(line)["n"] for line in expected] == list(range(count))


def test_small_groups_are_joined_and_shards_counted_from_0(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(10), row_group_size=4)
    shards = list(plan(path, 5))
    assert [(s.number, s.first_row, s.rows, s.start, s.end, s.part) for s in shards] == [
        (0, 0, 4, 0, 4, 0),
        (1, 4, 4, 4, 8, 0),
        (2, 8, 2, 8, 10, 0),
    ]
    assert shards == list(plan(path, 5)), "a plan can be made again"
    assert [json.loads(line)["n"] for line in read(path, shards[1:])] == list(range(4, 10))


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    table = (
        table_of(3000).append_column("a.b", pa.array(["x"] * 3000)).append_column("a", pa.array([{"b": "y"}] * 3000))
    )
    path = written(tmp_path / "in.parquet", table, use_dictionary=False, compression="none")
    # Where the others lie there is garbage now: who reads them notices.
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    for number in (1, 3):
        chunk = group.column(number)
        data[chunk.data_page_offset : chunk.data_page_offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    shards = planned(path, 1000)
    assert read(path, shards, ["a", "n", "gone"])[:2] == [b'{"n":0,"a":{"b":"y"}}', b'{"n":1,"a":{"b":"y"}}']
    assert read(path, shards, ["gone"]) == [b"{}"] * 3000
    assert read(path, shards, []) == [b"{}"] * 3000
    with pytest.raises(InputError, match=r"in\.parquet: row group 0 cannot be decoded: .*; write or copy"):
        read(path, shards, ["text"])


def test_a_reader_that_follows_another_goes_on_where_that_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "in.parquet", table_of(1600))
    opened = []
    batches = parquet._File.batches

    def counted(self: Any, group: int, names: list[str]) -> Any:
        opened.append(group)
        return batches(self, group, names)

    monkeypatch.setattr(parquet._File, "batches", counted)
    shards = planned(path, 100)
    assert len(shards) == 16
    found = [json.loads(line)["n"] for line in read(path, shards[::2])]
    assert found == [number for start in range(0, 1600, 200) for number in range(start, start + 100)]
    assert opened == [0], "the row group was decoded once, not once for each piece"
    assert [json.loads(line)["n"] for line in read(path, [shards[0]])] == list(range(100))
    assert opened == [0, 0], "there is no way back"
    assert json.loads(read(path, [shards[1]], ["n"])[0]) == {"n": 100}
    assert opened == [0, 0, 0], "with other columns it is another file"


@pytest.mark.parametrize("change", ["another value", "another row", "gone"])
def test_a_file_that_is_not_the_planned_one_is_refused_by_its_rows(tmp_path: Path, change: str) -> None:
    path = written(tmp_path / "in.parquet", table_of(100))
    shards = planned(path, 10)
    read(path, shards[:2])
    if change == "gone":
        path.unlink()
        with pytest.raises(InputError, match=r"in\.parquet: no such file"):
            read(path, shards[2:])
        return
    table = table_of(101) if change == "another row" else table_of(100).set_column(0, "n", pa.array(range(1, 101)))
    written(path, table)
    with pytest.raises(RunDirectoryError, match=r"in\.parquet: rows 20 to 29 changed while .* another checkpoint\.dir"):
        read(path, shards[2:])


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    with pytest.raises(InputError, match=r"in\.parquet: no such file; set input\.path"):
        check(path)
    for content in (b"", b"PAR", b'{"a":1}\n' * 50):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"in\.parquet: is no Parquet file; set input\.format"):
            check(path)
    whole = written(path, table_of(1000)).read_bytes()
    for end in (4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"in\.parquet: is a Parquet file without its end"):
            check(path)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[:footer] + b"\xff" * 20 + whole[footer + 20 :])
    with pytest.raises(InputError, match=r"in\.parquet: cannot be read as Parquet: .*; write or copy the file anew"):
        check(path)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        check(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(InputError, match=r"in\.parquet: has two columns 'a'"):
        check(path)


def test_a_damaged_page_is_found_by_its_checksum_and_named_by_its_row_group(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(3000), row_group_size=1000, write_page_checksum=True)
    shards = planned(path, 1000)
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(1).column(1)
    data[chunk.dictionary_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    assert len(read(path, [shards[0], shards[2]])) == 2000
    with pytest.raises(InputError, match=r"in\.parquet: row group 1 cannot be decoded: .*; write or copy"):
        read(path, [shards[1]])


def test_a_row_that_cannot_be_read_is_one_broken_line(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfeb")]
    )
    path = written(tmp_path / "in.parquet", pa.table({"text": text}))
    one, two, three = read(path, planned(path, 10))
    assert (one, three) == (b'{"text":"a"}', b'{"text":"b"}')
    assert two.startswith(BROKEN + b"column 'text' cannot be read: ")


def test_an_empty_file_has_no_shard(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(0))
    check(path)
    assert planned(path, 10) == []
    assert list(lines(path)) == []


def test_reading_is_done_in_another_thread(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(2000))
    seen = set()

    def here(batches: Any) -> Any:
        for batch in batches:
            seen.add(threading.get_ident())
            yield batch

    async def go() -> None:
        async with TableReader(shard_lines(str(path), planned(path, 2000)[0], None)) as reader:
            assert reader._batches is not None
            reader._batches = here(reader._batches)
            while await reader.read():
                pass

    asyncio.run(go())
    assert seen
    assert threading.get_ident() not in seen


def test_a_read_that_is_cancelled_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "in.parquet", table_of(20_000))
    shard = planned(path, 20_000)[0]

    async def go() -> None:
        async with TableReader(shard_lines(str(path), shard, None)) as reader:
            task = asyncio.create_task(reader.read())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert len(await read_all(path, shard)) == 20_000

    asyncio.run(go())


def test_a_file_of_one_great_row_group_is_never_held_whole(tmp_path: Path) -> None:
    table = pa.table({"data": great_values()})
    path = written(tmp_path / "in.parquet", table, use_dictionary=False, compression="none")
    count, grown = read_alone("parquet", path)
    assert count == ROWS
    assert grown < 32 << 10, "KiB: some buffers and batches, not the file"
