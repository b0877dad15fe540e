"""An input that has grown: what was planned keeps its rows, what came behind is planned too, anything else is told."""

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.config.sections import InputConfig
from rowmill.core.rows import InputFile, Shard
from rowmill.files.input.comparison import PlannedBytes, shards_behind
from rowmill.files.input.inputs import Input, find
from rowmill.files.input.jsonl import plan_blocks
from rowmill.files.input.shard_readers import open_reader

SIZES: dict[str, Any] = {"shard_bytes": 200, "shard_rows": 7}


async def read(found: Input, spool: Path, shards: list[Shard]) -> list[bytes]:
    parts, lines = found.parts(spool), list[bytes]()
    for number, shard in enumerate(shards):
        assert (shard.number, shard.first_row) == (number, len(lines))
        async with open_reader(parts[shard.part], shard, None) as reader:
            while some := await reader.read():
                lines += [line.rstrip(b"\r") for line in some]  # of a line break that a last row lacks
        assert len(lines) == shard.first_row + shard.rows
    return lines


def numbers(first: int, count: int) -> list[dict[str, Any]]:
    return [{"n": number, "text": f"é{number}"} for number in range(first, first + count)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv(rows: list[dict[str, Any]], *, header: bool = True) -> bytes:
    return ("n,text\n" * header + "".join(f"{row['n']},{row['text']}\n" for row in rows)).encode()


def parquet(rows: list[dict[str, Any]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


FIRST, MORE = numbers(0, 30), numbers(30, 25)

Grow = Callable[[Path], object]


def appended(name: str, data: bytes, start: bytes, *, anew: bool = False) -> tuple[str, Grow, Grow]:
    """Return a file, what begins it, and what makes it grow."""

    def grow(folder: Path) -> None:
        (folder / name).write_bytes(data if anew else (folder / name).read_bytes() + data)

    return name, lambda folder: (folder / name).write_bytes(start), grow


GROWN: dict[str, tuple[str, Grow, Grow]] = {
    "lines": appended("in.jsonl", jsonl(MORE), jsonl(FIRST)),
    "no line break at the end": appended("in.jsonl", b"\n" + jsonl(MORE), jsonl(FIRST)[:-1]),
    "a line break of Windows": appended("in.jsonl", b"\r\n" + jsonl(MORE), jsonl(FIRST)[:-1].replace(b"\n", b"\r\n")),
    "nor afterwards": appended("in.jsonl", b"\n" + jsonl(MORE)[:-1], jsonl(FIRST)[:-1]),
    "blank lines at the end": appended("in.jsonl", jsonl(MORE), jsonl(FIRST) + b"\n\n"),
    "one row": appended("in.jsonl", jsonl(MORE[:1]), jsonl(FIRST)),
    "to an empty file": appended("in.jsonl", jsonl(MORE), b""),
    "csv": appended("in.csv", csv(MORE, header=False), csv(FIRST)),
    "csv without a line break": appended("in.csv", b"\r\n" + csv(MORE, header=False), csv(FIRST)[:-1]),
    "another gzip member": appended("in.jsonl.gz", gzip.compress(jsonl(MORE)), gzip.compress(jsonl(FIRST))),
    "gzip made anew": appended("in.csv.gz", gzip.compress(csv(FIRST + MORE)), gzip.compress(csv(FIRST), 0), anew=True),
    "an array": appended("in.json", json.dumps(FIRST + MORE).encode(), json.dumps(FIRST).encode(), anew=True),
    "another file": (
        "",
        lambda folder: (folder / "a.jsonl").write_bytes(jsonl(FIRST)),
        lambda folder: (folder / "b.jsonl").write_bytes(jsonl(MORE)),
    ),
    "another csv": (
        "",
        lambda folder: (folder / "a.csv").write_bytes(csv(FIRST)),
        lambda folder: (folder / "b.csv").write_bytes(csv(MORE)),
    ),
    "another table": (
        "",
        lambda folder: parquet(FIRST, folder / "a.parquet"),
        lambda folder: parquet(MORE, folder / "b.parquet"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("spool_is_there", [True, False])
@pytest.mark.parametrize("how", GROWN)
def test_rows_that_came_behind_are_planned_and_the_others_stay(tmp_path: Path, how: str, spool_is_there: bool) -> None:
    name, begin, grow = GROWN[how]
    folder, spool = tmp_path / "in", tmp_path / "spool"
    folder.mkdir()
    begin(folder)
    config = InputConfig(path=str(folder / name))
    found = find(config)
    shards = list(found.plan(spool, **SIZES))
    before = asyncio.run(read(found, spool, shards))
    grow(folder)
    if not spool_is_there:
        for path in found.spooled(spool):
            path.unlink()
    found = find(config)
    differing, new = found.compare(spool, shards, **SIZES)
    assert (differing, bool(new)) == (None, True)
    whole = shards + new
    if spool_is_there:  # whoever is killed before the plan is saved finds the same again
        assert find(config).compare(spool, shards, **SIZES) == (None, new)
    found.take_new()
    assert found.whole(spool, whole)
    fresh = find(config)
    expected = asyncio.run(read(fresh, tmp_path / "fresh", list(fresh.plan(tmp_path / "fresh", **SIZES))))
    assert asyncio.run(read(found, spool, whole)) == expected
    assert expected[: len(before)] == before
    # The plan that has grown is held against the input as any other.
    assert found.compare(spool, whole, **SIZES) == (None, [])


def test_a_file_may_grow_again_and_again(tmp_path: Path) -> None:
    path, spool = tmp_path / "in.jsonl", tmp_path / "spool"
    path.write_bytes(jsonl(FIRST)[:-1])
    config = InputConfig(path=str(path))
    shards = list(find(config).plan(spool, **SIZES))
    for number in range(5):
        with path.open("ab") as file:
            file.write(b"\n" + jsonl(numbers(100 * number, 9))[:-1])
        found = find(config)
        differing, new = found.compare(spool, shards, **SIZES)
        assert differing is None
        found.take_new()
        shards += new
    lines = asyncio.run(read(find(config), spool, shards))
    assert lines == path.read_bytes().split(b"\n")


@pytest.mark.parametrize(
    ("start", "then", "first_row"),
    [
        (jsonl(FIRST), jsonl(FIRST)[:-20], 28),
        (jsonl(FIRST), b"", 0),
        (jsonl(FIRST), jsonl(FIRST[:10] + FIRST[11:] + MORE), 7),  # one is gone, others have come
        (jsonl(FIRST), jsonl(MORE + FIRST), 0),
        (jsonl(FIRST)[:-3], jsonl(FIRST + MORE), 28),  # the last line was half written
        (jsonl(FIRST)[:-1], jsonl(FIRST)[:-1] + b" \n" + jsonl(MORE), 28),  # and goes on
    ],
)
def test_what_is_another_input_is_told_by_its_first_shard(
    tmp_path: Path, start: bytes, then: bytes, first_row: int
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(start)
    shards = list(find(InputConfig(path=str(path))).plan(tmp_path, **SIZES))
    path.write_bytes(then)
    differing, new = find(InputConfig(path=str(path), format="jsonl")).compare(tmp_path, shards, **SIZES)
    assert new == []
    assert differing is not None
    assert differing.first_row == first_row


@pytest.mark.parametrize("name", ["0.jsonl", "a.jsonl", "ab.jsonl"])
def test_rows_in_the_midst_of_others_are_another_input(tmp_path: Path, name: str) -> None:
    spool = tmp_path / "spool"
    (tmp_path / "a.jsonl").write_bytes(jsonl(FIRST))
    (tmp_path / "b.jsonl").write_bytes(jsonl(MORE))
    config = InputConfig(path=f"{tmp_path}/*.jsonl")
    shards = list(find(config).plan(spool, **SIZES))
    with (tmp_path / name).open("ab") as file:
        file.write(jsonl(numbers(90, 20)))
    differing, new = find(config).compare(spool, shards, **SIZES)
    assert (differing is not None, new) == (True, [])


def test_a_table_that_was_replaced_by_a_longer_one_is_another_input(tmp_path: Path) -> None:
    parquet(FIRST, tmp_path / "in.parquet")
    config = InputConfig(path=str(tmp_path / "in.parquet"))
    shards = list(find(config).plan(tmp_path, **SIZES))
    parquet(FIRST + MORE, tmp_path / "in.parquet")
    assert find(config).compare(tmp_path, shards, **SIZES) == (shards[0], [])


@given(
    before=st.lists(st.sampled_from([b"", b"a", b"bc\r"]), max_size=12),
    more=st.lists(st.sampled_from([b"", b"d", b"ef"]), min_size=1, max_size=12),
    line_break=st.sampled_from([b"\n", b"\r\n"]),
    block=st.integers(1, 7),
    size=st.integers(1, 9),
)
def test_shards_cover_the_same_lines_however_the_bytes_come(
    before: list[bytes], more: list[bytes], line_break: bytes, block: int, size: int
) -> None:
    start = b"\n".join(before)
    data = start + line_break + b"\n".join(more)

    def blocks(text: bytes) -> list[bytes]:
        return [text[at : at + block] for at in range(0, len(text), block)]

    known = list(plan_blocks(blocks(start), shard_bytes=size, shard_rows=3))
    held = PlannedBytes(blocks(data))
    assert held.differing(known) is None
    new = list(shards_behind(held.more(), held.first, shard_bytes=size, shard_rows=3))
    lines = [line for shard in known + new for line in data[shard.start : shard.end].removesuffix(b"\n").split(b"\n")]
    expected = data.removesuffix(b"\n").split(b"\n")
    assert [line.rstrip(b"\r") for line in lines] == [line.rstrip(b"\r") for line in expected] or not start
    assert PlannedBytes(blocks(data)).differing(known + new) is None


@pytest.mark.parametrize("whole", [0, 1, 3, 20])  # rows before the one that has only begun: shards have up to 7
@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
def test_a_last_row_that_had_only_begun_is_new_and_those_before_stay(tmp_path: Path, name: str, whole: int) -> None:
    path, spool = tmp_path / name, tmp_path / "spool"
    rows = numbers(0, whole + 2)
    text = jsonl(rows) if name == "in.jsonl" else csv(rows)
    lines = text.splitlines(keepends=True)
    before = b"".join(lines[:-2]) + lines[-2][:-4]  # in the midst of the text
    path.write_bytes(before)
    config = InputConfig(path=str(path), format="jsonl" if name == "in.jsonl" else "csv")
    begun = find(config)
    shards = list(begun.plan(spool, **SIZES))
    assert sum(shard.rows for shard in shards) == whole + 1

    def compared(data: bytes, files: Sequence[InputFile] = ()) -> tuple[Shard | None, list[Shard]]:
        path.write_bytes(data)
        return find(config).compare(spool, shards, **SIZES, files=files)

    assert compared(text)[0] is not None, "nobody says that it may have begun"
    list(begun.plan(spool, **SIZES))
    path.write_bytes(before)
    assert list(begun.plan(spool, **SIZES)) == shards
    if whole:
        assert compared(text.replace(b"0", b"9", 1), begun.files)[0] is not None, "another row"
        path.write_bytes(before)
        assert list(begun.plan(spool, **SIZES)) == shards
    assert compared(before, begun.files) == (None, [])
    path.write_bytes(text)
    found = find(config)
    differing, new = found.compare(spool, shards, **SIZES, files=begun.files)
    assert differing is None
    assert new[0].number == len(shards) - 1
    # Whoever is killed before the plan is saved finds the same again.
    assert compared(text, begun.files) == (None, new)
    found.take_new()
    now, found = shards[:-1] + new, find(config)
    assert [json.loads(line)["text"] for line in asyncio.run(read(found, spool, now))] == [row["text"] for row in rows]
    assert found.compare(spool, now, **SIZES, files=found.files) == (None, [])


@pytest.mark.parametrize("line_break", [b"\n", b"\r\n"])
@pytest.mark.parametrize("more", [b"", jsonl(MORE)])
def test_a_last_row_that_only_lacked_its_line_break_is_no_other_row(
    tmp_path: Path, line_break: bytes, more: bytes
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl(FIRST).replace(b"\n", line_break).removesuffix(line_break))
    config = InputConfig(path=str(path))
    begun = find(config)
    shards = list(begun.plan(tmp_path, **SIZES))
    with path.open("ab") as file:
        file.write(line_break + more)
    differing, new = find(config).compare(tmp_path, shards, **SIZES, files=begun.files)
    assert differing is None
    assert sum(shard.rows for shard in new) == len(more.splitlines()), "it was paid for"
    if new:
        assert (new[0].number, new[0].first_row) == (len(shards), len(FIRST))
    assert find(config).compare(tmp_path, shards + new, **SIZES, files=begun.files) == (None, [])


@pytest.mark.parametrize("whole", [0, 1, 6, 20])  # rows before the one that has only begun: shards have up to 7
@pytest.mark.parametrize(
    ("begun", "now"), [("to", "tomorrow"), ('"', '"q\\uote"'), ("é\\", "é\\\\\n"), ("a\r", "a\rb")]
)
def test_a_line_of_text_that_had_only_begun_is_new_when_it_goes_on(
    tmp_path: Path, whole: int, begun: str, now: str
) -> None:
    """Its row is JSON, which was closed behind what there was of it."""
    path, before = tmp_path / "rows.jsonl", [row["text"] for row in numbers(0, whole)]

    def written(texts: list[str], *, ended: bool) -> None:
        rows = b"\n".join(msgspec.json.encode({"text": text}) for text in texts)
        path.write_bytes(rows + b"\n" * ended)

    written([*before, begun], ended=False)
    found = find(InputConfig(path=str(path)))
    shards = list(found.plan(tmp_path, **SIZES))
    for texts, ended in (([*before, begun], True), ([*before, now], False), ([*before, now, "more"], True)):
        written(texts, ended=ended)
        grown = find(InputConfig(path=str(path)))
        differing, new = grown.compare(tmp_path, shards, **SIZES, files=found.files)
        assert (differing, bool(new)) == (None, texts[-1] != begun)
        if new:
            lines = asyncio.run(read(grown, tmp_path, shards[: new[0].number] + new))
            assert [json.loads(line)["text"] for line in lines] == texts
    for texts in ([*before, f"another {now}"], ["x", *before, now][: whole + 1]):
        written(texts, ended=True)
        assert find(InputConfig(path=str(path))).compare(tmp_path, shards, **SIZES, files=found.files)[0] is not None
    written([*before, begun], ended=True)
    ended_row = find(InputConfig(path=str(path)))
    shards = list(ended_row.plan(tmp_path, **SIZES))
    written([*before, now], ended=True)
    differing, new = find(InputConfig(path=str(path))).compare(tmp_path, shards, **SIZES, files=ended_row.files)
    assert (differing is not None, new) == (True, []), "a line that was ended is another one"
