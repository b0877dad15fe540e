"""The input as a whole: whatever its format and however it is cut, workers read exactly its rows, in order, once."""

import asyncio
import csv
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core import private_files
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError, MachineError
from rowmill.core.rows import BROKEN, Column, InputPart, Shard
from rowmill.files.input.discovery import FEW
from rowmill.files.input.inputs import Input, find
from rowmill.files.input.shard_readers import open_reader

SIZES: dict[str, Any] = {"shard_bytes": 1 << 15, "shard_rows": 1000}


def plan(found: Input, spool: Path, **sizes: Any) -> list[Shard]:
    return list(found.plan(spool, **{**SIZES, **sizes}))


async def read(parts: list[InputPart], shards: list[Shard], columns: list[str] | None = None) -> list[bytes]:
    """Read as workers do, shard by shard, and hold what a plan promises."""
    lines: list[bytes] = []
    assert [shard.number for shard in shards] == list(range(len(shards)))
    for shard in shards:
        assert shard.first_row == len(lines)
        async with open_reader(parts[shard.part], shard, columns) as reader:
            while some := await reader.read():
                lines += some
        assert len(lines) - shard.first_row == shard.rows > 0
    assert all(one.part <= two.part for one, two in pairwise(shards))
    return lines


def rows(path: object, spool: Path, **more: Any) -> list[bytes]:
    """Find, plan and read an input."""
    choice = {key: more.pop(key) for key in ("limit", "sample") if key in more}
    sizes = {key: more.pop(key) for key in ("shard_bytes", "shard_rows") if key in more}
    found = find(InputConfig(path=str(path), **more), **choice)
    shards = plan(found, spool, **sizes)
    return asyncio.run(read(found.parts(spool), shards))


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def jsonl(count: int, start: int = 0) -> bytes:
    return b"".join(b'{"n":%d}\n' % number for number in range(start, start + count))


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# Any file, any cut

texts = st.lists(
    st.sampled_from(['"', ",", "\n", "\r\n", "\r", " ", "", "a", "ü", "日本", "\u2028", "\0", "\ufeff"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    max_size=4,
).map("".join)
tables = st.lists(st.tuples(texts, texts, texts), max_size=25)
cuts = st.fixed_dictionaries({"shard_bytes": st.integers(1, 400), "shard_rows": st.integers(1, 9)})


@st.composite
def writings(draw: st.DrawFn) -> tuple[str, bool, bool, str]:
    """Return how a text file can be written: line ends, one behind the last line, a mark at its start, compression."""
    end = draw(st.sampled_from(["\r\n", "\n"]))
    return end, draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(list(PACKERS)))


def write(folder: Path, name: str, text: str, writing: tuple[str, bool, bool, str]) -> tuple[Path, str]:
    """Write a text whose lines all end; return the file, and the text as it then is without its mark."""
    end, last, mark, suffix = writing
    text = text if last else text.removesuffix(end)
    path = folder / f"{name}{suffix}"
    path.write_bytes(PACKERS[suffix](b"\xef\xbb\xbf" * mark + text.encode()))
    return path, text


@given(table=tables, writing=writings(), cut=cuts)
@settings(max_examples=25, deadline=None)
def test_any_csv_gives_the_rows_of_the_csv_module_however_it_is_cut(
    folder: Path, table: list[tuple[str, ...]], writing: tuple[str, bool, bool, str], cut: dict[str, int]
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=writing[0], quoting=csv.QUOTE_ALL).writerows([("a", "b", 'c"'), *table])
    path, text = write(folder, "in.csv", out.getvalue(), writing)
    expected = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [json.loads(line) for line in rows(path, folder / "spool", **cut)] == expected


@given(table=tables, writing=writings(), cut=cuts, ascii_=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_jsonl_gives_its_lines_however_it_is_cut_or_compressed(
    folder: Path,
    table: list[tuple[str, ...]],
    writing: tuple[str, bool, bool, str],
    cut: dict[str, int],
    *,
    ascii_: bool,
) -> None:
    table = table or [("", "", "")]  # a mark alone would be a blank line
    lines = "".join(json.dumps(row, ensure_ascii=ascii_) + writing[0] for row in table)
    path, _ = write(folder, "in.jsonl", lines, writing)
    found = [json.loads(line) for line in rows(path, folder / "spool", format="jsonl", **cut)]
    assert found == [list(row) for row in table]


@given(
    files=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(PACKERS)), st.booleans()), min_size=1), cut=cuts
)
@settings(max_examples=25, deadline=None)
def test_the_rows_of_many_files_follow_each_other_in_the_order_of_the_names(
    files: list[tuple[int, str, bool]], cut: dict[str, int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, expected = Path(name), b""
        for number, (count, suffix, bom) in enumerate(files):
            content = jsonl(count, start=len(expected))
            expected += content
            packed = PACKERS[suffix](b"\xef\xbb\xbf" * bom + (content if count % 2 else content[:-1]))
            (folder / f"{number:03}.jsonl{suffix}").write_bytes(packed)
        found = rows(folder, folder / "spool", **cut)
    # A byte order mark alone is a blank line, as in a file by itself.
    assert [line for line in found if line] == expected.split(b"\n")[:-1]
    assert len(found) - expected.count(b"\n") == sum(count == 0 and bom for count, _, bom in files)


# Parts


def test_plain_files_are_read_where_they_lie_and_neighbours_that_are_not_plain_are_spooled_together(
    tmp_path: Path,
) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.jsonl", "e.jsonl.gz"):
        (tmp_path / name).write_bytes(PACKERS[name[7:]](jsonl(3)))
    found, spool = find(InputConfig(path=str(tmp_path))), tmp_path / "spool"
    assert found.parts(spool) == [
        InputPart(str(tmp_path / "a.jsonl"), "lines"),
        InputPart(str(spool / "000001.jsonl"), "lines"),
        InputPart(str(tmp_path / "d.jsonl"), "lines"),
        InputPart(str(spool / "000003.jsonl"), "lines"),
    ]
    assert found.spooled(spool) == [spool / "000001.jsonl", spool / "000003.jsonl"]
    assert not spool.exists(), "nothing is written before the plan"
    assert [shard.part for shard in plan(found, spool)] == [0, 1, 2, 3]
    assert (spool / "000001.jsonl").read_bytes() == jsonl(3) * 2
    assert [Path(file.path).name for file in found.files] == sorted(path.name for path in tmp_path.glob("*.jsonl*"))


def test_a_plain_file_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(jsonl(3))
    found = find(InputConfig(path=str(tmp_path / "in.jsonl")))
    assert [shard.rows for shard in plan(found, tmp_path / "spool")] == [3]
    assert found.spooled(tmp_path / "spool") == []
    assert not (tmp_path / "spool").exists()


def test_a_directory_of_very_many_small_files_makes_few_shards_and_its_large_ones_are_not_copied(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FEW + 1):
        (folder / f"{number:04}.jsonl").write_bytes(jsonl(2, start=2 * number))
    (folder / "0100.jsonl").write_bytes(jsonl(20_000))
    found, spool = find(InputConfig(path=str(folder))), tmp_path / "spool"
    assert [part.path for part in found.parts(spool)] == [
        str(spool / "000000.jsonl"), str(folder / "0100.jsonl"), str(spool / "000002.jsonl"),
    ]  # fmt: skip
    shards = plan(found, spool, shard_rows=20_000)
    assert len(shards) < 20
    lines = asyncio.run(read(found.parts(spool), shards))
    assert len(lines) == 20_000 + 2 * FEW
    assert lines[:4] == [b'{"n":0}', b'{"n":1}', b'{"n":2}', b'{"n":3}']


def test_a_file_among_very_many_that_is_not_what_it_is_named_is_found_by_the_plan(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(FEW + 1):
        (folder / f"{number:04}.jsonl").write_bytes(jsonl(2))
    (folder / "0005.jsonl").write_bytes(gzip.compress(jsonl(3)))
    assert len(rows(folder, tmp_path / "spool")) == 2 * FEW + 3
    (folder / "0006.jsonl").write_bytes(b"PAR1....")
    with pytest.raises(InputError, match=r"0006\.jsonl: is a file of format parquet"):
        rows(folder, tmp_path / "spool")


def test_a_shard_can_be_read_as_soon_as_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(jsonl(300_000)))
    found, spool = find(InputConfig(path=str(tmp_path / "in.jsonl.gz"))), tmp_path / "spool"
    shards = found.plan(spool, **SIZES)
    first = next(shards)
    assert (spool / "000000.jsonl").stat().st_size < 2 << 20, "the rest is still to be written"
    assert asyncio.run(read(found.parts(spool), [first])) == jsonl(300_000).split(b"\n")[: first.rows]
    assert first.rows + sum(shard.rows for shard in shards) == 300_000


def test_the_progress_is_in_bytes_of_the_users_files(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        (tmp_path / name).write_bytes(PACKERS[name[7:]](jsonl(9000)))
    told: list[int] = []
    found = find(InputConfig(path=str(tmp_path)))
    list(found.plan(tmp_path / "spool", **SIZES, progress=told.append))
    assert told == sorted(told)
    assert told[-1] == sum(file.size for file in found.files)


def test_the_size_is_what_there_is_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(50_000))
    whole = find(InputConfig(path=str(tmp_path / "a.jsonl")))
    assert whole.size == len(jsonl(50_000))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(50_000)))
    assert find(InputConfig(path=str(tmp_path / "*.gz"))).size == pytest.approx(whole.size, rel=0.5)
    assert find(InputConfig(path=str(tmp_path / "a.jsonl")), limit=100).size == len(jsonl(100))


# Batch files, CSV


def batch_line(number: int, **more: object) -> bytes:
    row = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/embeddings", "body": {"input": "x"}, **more}
    return json.dumps(row).encode() + b"\n"


def test_a_batch_file_is_known_by_its_first_line_and_its_ids_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(map(batch_line, [1, 2, 1, 3])))
    found = find(InputConfig(path=str(path)))
    assert found.format == "batch"
    assert found.columns() == (
        Column("custom_id"), Column("method"), Column("url"), Column("body", "json"),
    )  # fmt: skip
    lines = rows(path, tmp_path / "spool")
    assert [line[:1] == BROKEN for line in lines] == [False, False, True, False]
    assert lines[2].startswith(BROKEN + b'line 3: the custom_id "r1" is that of line 1 too' + BROKEN)
    assert lines == rows(path, tmp_path / "spool"), "a second plan begins anew"
    assert find(InputConfig(path=str(path), format="jsonl")).format == "jsonl"
    assert rows(path, tmp_path / "spool", format="jsonl") == path.read_bytes().split(b"\n")[:-1]


def test_csv_files_of_a_directory_each_have_their_header_and_bad_rows_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,x\n2\n")
    (tmp_path / "b.csv").write_bytes(b"text,id\r\n\r\ny,3")
    (tmp_path / "c.csv").write_bytes(b"")
    found = find(InputConfig(path=str(tmp_path)))
    assert found.columns() == (Column("id"), Column("text"))
    assert found.first_rows(100) == rows(tmp_path, tmp_path / "spool")
    assert found.first_rows(100) == [
        b'{"id":"1","text":"x"}',
        BROKEN + b"line 3: 1 fields where the header has 2" + BROKEN + b'{"id":"2"}',
        b'{"text":"y","id":"3"}',
    ]


def test_csv_files_of_other_columns_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,x\n")
    (tmp_path / "b.csv").write_bytes(b"id,body\n2,y\n")
    with pytest.raises(InputError, match=r"b\.csv has a column 'body', and .*a\.csv has none; name files of the same"):
        find(InputConfig(path=str(tmp_path)))


def test_tsv_is_read_by_its_tabs(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes('id\ttext\r\n1\t"a\tb, c"\r\n'.encode("utf-16"))
    with pytest.raises(InputError, match=r'set input\.encoding = "utf-16"'):
        find(InputConfig(path=str(tmp_path / "in.tsv")))
    path, spool = tmp_path / "in.tsv", tmp_path / "spool"
    assert rows(path, spool, encoding="utf-16") == [b'{"id":"1","text":"a\\tb, c"}']


def test_a_header_that_cannot_be_used_is_refused_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,id\n")
    with pytest.raises(InputError, match="both named 'id'"):
        find(InputConfig(path=str(tmp_path / "in.csv")))
    with pytest.raises(InputError, match=r"input\.encoding: there is no encoding 'nonsense'"):
        find(InputConfig(path=str(tmp_path / "in.csv"), encoding="nonsense"))


# Parquet and Arrow


def table_file(path: Path, start: int, count: int) -> None:
    numbers = list(range(start, start + count))
    pq.write_table(pa.table({"n": numbers, "text": [str(number) for number in numbers]}), path, row_group_size=40)


def test_parquet_files_are_read_where_they_lie_with_the_columns_that_are_needed(tmp_path: Path) -> None:
    table_file(tmp_path / "a.parquet", 0, 100)
    table_file(tmp_path / "b.parquet", 100, 50)
    found, spool = find(InputConfig(path=str(tmp_path))), tmp_path / "spool"
    assert found.format == "parquet"
    assert found.columns() == (Column("n", "int64"), Column("text", "string"))
    assert found.first_rows(1) == [b'{"n":0,"text":"0"}']
    shards = plan(found, spool, shard_rows=40)
    assert asyncio.run(read(found.parts(spool), shards, ["n"])) == [b'{"n":%d}' % number for number in range(150)]
    assert found.spooled(spool) == []
    assert rows(tmp_path, spool, limit=102)[99:] == [
        b'{"n":%d,"text":"%d"}' % (number, number) for number in (99, 100, 101)
    ]


def test_a_corrupt_parquet_file_is_refused_at_once(tmp_path: Path) -> None:
    table_file(tmp_path / "in.parquet", 0, 100)
    data = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "in.parquet").write_bytes(data[:-10])
    with pytest.raises(InputError, match=r"in\.parquet: "):
        find(InputConfig(path=str(tmp_path / "in.parquet")))


def test_arrow_files_are_read_where_they_lie(tmp_path: Path) -> None:
    table = pa.table({"n": list(range(50))})
    with pa.OSFile(str(tmp_path / "in.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    assert rows(tmp_path / "in.arrow", tmp_path / "spool", shard_rows=9) == [
        b'{"n":%d}' % number for number in range(50)
    ]


# Some rows only


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_first_rows_or_any_are_spooled_whatever_the_format(tmp_path: Path, suffix: str) -> None:
    path, spool = tmp_path / f"in.jsonl{suffix}", tmp_path / "spool"
    path.write_bytes(PACKERS[suffix](jsonl(5000)))
    assert rows(path, spool, limit=3) == jsonl(3).split(b"\n")[:-1]
    sample = rows(path, spool, sample=50)
    assert len(set(sample)) == 50
    assert sample == rows(path, spool, sample=50) == sorted(sample, key=lambda line: int(line[5:-1]))
    assert rows(path, spool, sample=9000) == jsonl(5000).split(b"\n")[:-1]
    assert [each.name for each in spool.iterdir()] == ["000000.jsonl"]


def test_the_damage_behind_the_first_rows_does_not_matter_to_them(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100_000 + b'"')
    assert len(rows(path, tmp_path / "spool", limit=7)) == 7
    with pytest.raises(InputError, match="line 100002: a quote opens"):
        rows(path, tmp_path / "spool")


# What is seen of the first rows


def test_columns_of_json_lines_are_text_only_where_they_always_are(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":"x","b":"y","c":1}\n\nnonsense\n[1]\n{"c":"z","a":"w"}\n\xff\n')
    assert find(InputConfig(path=str(path))).columns() == (Column("a"), Column("b", "json"), Column("c", "json"))
    path.write_bytes(b"")
    found = find(InputConfig(path=str(path)))
    assert (found.columns(), found.first_rows(5), plan(found, tmp_path / "spool")) == ((), [], [])


def test_the_first_rows_go_on_into_the_next_file_and_are_fewer_where_they_are_huge(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(jsonl(2))
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl(5, start=2))
    assert find(InputConfig(path=str(tmp_path))).first_rows(4) == jsonl(4).split(b"\n")[:-1]
    row = b'{"a":"' + b"x" * (5 << 20) + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(row * 6)
    assert find(InputConfig(path=str(tmp_path / "a.jsonl"))).first_rows(100) == [row[:-1]]
    (tmp_path / "a.jsonl").write_bytes(row.replace(b"\n", b"") * 3 + b"\n{}\n")
    assert len(find(InputConfig(path=str(tmp_path / "a.jsonl"))).first_rows(1)[0]) == 3 * len(row) - 3


def test_the_first_rows_of_a_table_are_of_its_first_file_and_fewer_where_they_are_huge(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 600)):
        pq.write_table(pa.table({"n": range(start, start + 600)}), tmp_path / f"{name}.parquet")
    found = find(InputConfig(path=str(tmp_path)))
    assert found.first_rows(2) == jsonl(2).split(b"\n")[:-1]
    assert found.first_rows(601) == jsonl(600).split(b"\n")[:-1]
    assert found.first_rows(0) == []
    pq.write_table(pa.table({"a": ["x" * (3 << 20)] * 9}), tmp_path / "huge.parquet")
    assert len(find(InputConfig(path=str(tmp_path / "huge.parquet"))).first_rows(9)) == 3
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "empty.parquet")
    found = find(InputConfig(path=str(tmp_path / "empty.parquet")))
    assert (found.columns(), found.first_rows(5)) == ((Column("n", "int64"),), [])


# Damage, and a second session


def test_shards_before_the_damage_are_handed_out_and_stay_good(tmp_path: Path) -> None:
    path, spool = tmp_path / "in.jsonl.gz", tmp_path / "spool"
    path.write_bytes(gzip.compress(jsonl(300_000))[:-100_000])
    found = find(InputConfig(path=str(path)))
    shards: list[Shard] = []
    with pytest.raises(
        InputError, match=r"in\.jsonl\.gz: the gzip file is damaged near byte \d+: it ends in the middle"
    ):
        shards.extend(found.plan(spool, **SIZES))  # what came before the error stays in the list
    assert len(shards) > 3
    lines = asyncio.run(read(found.parts(spool), shards))
    assert lines == jsonl(len(lines)).split(b"\n")[:-1]


def test_a_spool_that_cannot_be_written_names_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n1\n")
    found = find(InputConfig(path=str(tmp_path / "in.csv")))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match=r"cannot write the input's rows to .*file"):
        plan(found, tmp_path / "file")
    (tmp_path / "full").mkdir()
    monkeypatch.setattr(private_files, "make_file", lambda _: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(MachineError, match=r"000000\.jsonl: No space left on device; free disk space and run the same"):
        plan(found, tmp_path / "full")


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.csv"])
@pytest.mark.parametrize("change", ["none", "changed", "longer", "shorter"])
@pytest.mark.parametrize("spool_is_there", [True, False])
def test_an_input_is_held_against_its_plan(tmp_path: Path, name: str, change: str, spool_is_there: bool) -> None:
    def write(content: bytes) -> None:
        header = b"a\n" if name == "in.csv" else b""
        (tmp_path / name).write_bytes(PACKERS[".gz" if name.endswith("z") else ""](header + content))

    content = jsonl(20_000).replace(b'"', b"")
    write(content)
    found, spool = (
        find(InputConfig(path=str(tmp_path / name), format="csv" if name == "in.csv" else "jsonl")),
        tmp_path / "spool",
    )
    shards = plan(found, spool)
    assert found.whole(spool, shards)
    spooled = {path: path.read_bytes() for path in found.spooled(spool)}
    for path in spooled:
        if not spool_is_there:
            path.unlink()
            assert not found.whole(spool, shards)
    write(
        {
            "none": content,
            "changed": content.replace(b"{n:15000}", b"{n:X5000}"),
            "longer": content + content[:50_000],
            "shorter": content[:-50_000],
        }[change]
    )
    first, new = found.compare(spool, shards, **SIZES)
    if change == "longer":
        assert first is None
        assert [shard.number for shard in new] == [len(shards) + number for number in range(len(new))]
        assert new
        found.take_new()
        assert found.whole(spool, shards + new)
        return
    assert new == []
    if change == "none":
        assert first is None
        assert {path: path.read_bytes() for path in spooled} == spooled
        assert found.whole(spool, shards)
        return
    assert first is not None
    if change == "changed":
        assert first.first_row <= 15_000 < first.first_row + first.rows
    if spool_is_there:
        assert {path: path.read_bytes() for path in spooled} == spooled, "what was right is kept"
    else:
        assert found.whole(spool, shards) == (name == "in.jsonl"), "what was made of another input is not trusted"


# Other machines


@pytest.fixture
def bucket() -> Iterator[Any]:
    import fsspec  # type: ignore[import-untyped]  # it ships no types

    system = fsspec.filesystem("memory")
    system.makedirs("/bucket", exist_ok=True)
    yield system
    system.rm("/bucket", recursive=True)


def test_lines_on_another_machine_are_spooled_as_they_come(tmp_path: Path, bucket: Any) -> None:
    bucket.pipe("/bucket/a.csv", b"n\n1\n2\n")
    bucket.pipe("/bucket/b.csv.gz", gzip.compress(b"n\n3\n"))
    bucket.pipe("/bucket/notes.txt", b"text")
    bucket.pipe("/bucket/README.md", b"text")
    told: list[int] = []
    found, spool = find(InputConfig(path="memory://bucket/")), tmp_path / "spool"
    assert (found.format, found.columns(), found.where) == ("csv", (Column("n"),), "memory://bucket/")
    shards = list(found.plan(spool, **SIZES, progress=told.append))
    assert found.parts(spool) == [InputPart(str(spool / "000000.jsonl"), "lines")]
    assert asyncio.run(read(found.parts(spool), shards)) == [b'{"n":"%d"}' % number for number in (1, 2, 3)]
    assert told[-1] == sum(file.size for file in found.files)


def test_tables_on_another_machine_are_copied_and_then_read_in_place(tmp_path: Path, bucket: Any) -> None:
    for number in range(2):
        table_file(tmp_path / "in.parquet", 100 * number, 100)
        bucket.pipe(f"/bucket/{number}.parquet", (tmp_path / "in.parquet").read_bytes())
    told: list[int] = []
    found, spool = find(InputConfig(path="memory://bucket/")), tmp_path / "spool"
    assert found.columns() == (Column("n", "int64"), Column("text", "string"))
    assert found.first_rows(1) == [b'{"n":0,"text":"0"}']
    assert [Path(part.path).name for part in found.parts(spool)] == ["000000.parquet", "000001.parquet"]
    shards = list(found.plan(spool, **SIZES, progress=told.append))
    assert asyncio.run(read(found.parts(spool), shards, ["n"])) == [b'{"n":%d}' % number for number in range(200)]
    assert told[-1] == sum(file.size for file in found.files)
    assert found.whole(spool, shards)
    assert rows("memory://bucket/", spool, limit=101)[100] == b'{"n":100,"text":"100"}'


def test_what_is_wrong_with_a_table_on_another_machine_names_it_there(tmp_path: Path, bucket: Any) -> None:
    bucket.pipe("/bucket/in.parquet", b"PAR1 and nothing more")
    found = find(InputConfig(path="memory://bucket/in.parquet"))
    with pytest.raises(InputError, match=r"^memory://bucket/in\.parquet: "):
        found.first_rows(1)
    with pytest.raises(InputError, match=r"^memory://bucket/in\.parquet: "):
        plan(found, tmp_path / "spool")
