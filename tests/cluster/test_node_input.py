"""The input as a node has it: what it reads itself, compared with what was planned, and what it cannot read."""

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # it ships no types
import pytest
from zlib_ng.zlib_ng import crc32

from rowmill.cluster import node_input
from rowmill.cluster.node_input import NodeInput, OtherBytesError
from rowmill.cluster.wire import Errand, Piece, Read
from rowmill.core.errors import ConfigError, InputError
from rowmill.core.rows import InputFile, InputPart, Shard
from rowmill.files import remote
from rowmill.files.input import carried

LINES = InputPart("/of/the/driver/000000.jsonl", "lines")
TABLE = InputPart("/of/the/driver/000001.parquet", "parquet")


class Store:
    """Objects of a file system that fsspec reaches."""

    def __init__(self) -> None:
        self.root = f"memory://{uuid.uuid4().hex}"

    def put(self, name: str, data: bytes) -> InputFile:
        with fsspec.open(f"{self.root}/{name}", "wb") as file:
            file.write(data)
        return InputFile(f"{self.root}/{name}", len(data), 0)


@pytest.fixture
def store() -> Store:
    return Store()


def of(parts: list[InputPart], origins: list[list[InputFile]], place: Path, *, carry: bool = False) -> NodeInput:
    marks = [carried.mark(part.path) for part in parts]
    return NodeInput(Errand(parts, marks, origins, carry, 0.9, "auto"), place)


async def read(given: NodeInput, shard: int, part: int, data: bytes, *, start: int = 0) -> None:
    given.begin(Read(shard, part, [(start, start + len(data), crc32(data))]))
    reading = given.take(shard)
    assert reading is not None
    assert given.take(shard) is None
    await reading


def lying(part: InputPart) -> bytes:
    return Path(part.path).read_bytes()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_a_shard_is_fetched_from_the_objects_it_lies_in(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Across their bounds, and with the newline that the driver has put behind the last line."""
    monkeypatch.setattr(node_input, "_BLOCK", block)
    files = [store.put("a", b"1\n22\n333\n"), store.put("b", b""), store.put("c", b"4444\n5")]
    planned = b"1\n22\n333\n4444\n5\n"
    given = of([LINES], [files], tmp_path)
    assert given.itself == [True]

    async def test() -> None:
        for number, (start, end) in enumerate([(0, 5), (2, 14), (9, 14), (14, 16), (0, 16)]):
            await read(given, number, 0, planned[start:end], start=start)
            shard = Shard(number, 0, 1, start, end, 0)
            found = given.part(shard)
            assert found == InputPart(str(given.path(shard)), "lines")
            assert lying(found)[start:] == planned[start:end]
            given.forget(number)
            assert not given.path(shard).exists()

    run(test())
    assert given.itself == [True]


def test_the_groups_of_a_table_come_to_lie_in_one_file(tmp_path: Path, store: Store) -> None:
    data = os.urandom(3000)
    given = of([TABLE], [[store.put("t", data)]], tmp_path)
    shard = Shard(0, 0, 1, 0, 1, 0)

    async def test() -> None:
        ranges = [(0, 4), (2000, 3000), (4, 1000)]
        given.begin(Read(0, 0, [(start, end, crc32(data[start:end])) for start, end in ranges]))
        given.begin(Read(1, 0, [(1000, 1500, crc32(data[1000:1500]))]))
        first, second = given.take(0), given.take(1)
        assert first is not None
        assert second is not None
        await second
        assert first.done()  # the second may need what was read for the first
        assert given.path(shard).read_bytes() == data[:1500] + bytes(500) + data[2000:]

    run(test())


def test_other_bytes_than_were_planned_are_not_taken(tmp_path: Path, store: Store) -> None:
    given = of([LINES, LINES], [[store.put("a", b"12345\n")], [store.put("b", b"6\n")]], tmp_path)

    async def test() -> None:
        await read(given, 0, 0, b"12345\n")
        store.put("a", b"54321\n")
        with pytest.raises(OtherBytesError, match=r"memory://.*a has other bytes there"):
            await read(given, 1, 0, b"12345\n")
        assert given.itself == [False, True]
        with pytest.raises(OtherBytesError):  # it has become shorter
            await read(given, 2, 1, b"6\n7\n")

    run(test())


@pytest.mark.parametrize("how", ["not there", "no package", "too slow"])
def test_storage_that_the_node_cannot_reach_is_tried_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    shared = tmp_path / "in.jsonl"
    shared.write_bytes(b"0\n")
    files = [store.put("a", b"1\n"), store.put("b", b"2\n")]
    given = of([LINES, LINES, InputPart(str(shared), "lines")], [[files[0]], [files[1]], []], tmp_path)
    over = threading.Event()
    errors: dict[str, tuple[type[Exception], Callable[..., Any]]] = {
        "not there": (InputError, lambda *_: _raise(FileNotFoundError("a"))),
        "no package": (ConfigError, lambda *_: _raise(ImportError("no s3fs"))),
        "too slow": (TimeoutError, lambda *_: over.wait(10)),
    }
    expected, opened = errors[how]
    monkeypatch.setattr(remote, "opened", opened)
    monkeypatch.setattr(node_input, "_BLOCK_S", 0.05)

    async def test() -> None:
        with pytest.raises(expected):
            await read(given, 0, 0, b"1\n")
        over.set()
        assert given.itself == [False, False, True]
        await read(given, 1, 2, b"0\n")
        assert given.part(Shard(1, 0, 1, 0, 2, 0, 2)) is None

    run(test())


def _raise(error: Exception) -> None:
    raise error


def test_a_file_of_a_shared_path_is_compared_before_it_is_read_in_place(tmp_path: Path) -> None:
    lines, table = tmp_path / "in.jsonl", tmp_path / "in.parquet"
    lines.write_bytes(b"1\n22\n333\n")
    table.write_bytes(b"a table")
    given = of([InputPart(str(lines), "lines"), InputPart(str(table), "parquet")], [[], []], tmp_path)

    async def test() -> None:
        await read(given, 0, 0, b"22\n", start=2)
        assert given.part(Shard(0, 0, 1, 2, 5, 0)) is None
        given.begin(Read(1, 1, []))
        reading = given.take(1)
        assert reading is not None
        await reading
        lines.write_bytes(b"1\n33\n333\n")
        table.write_bytes(b"another")
        with pytest.raises(OtherBytesError, match=r"in\.jsonl has other bytes there"):
            await read(given, 2, 0, b"22\n", start=2)
        given.begin(Read(3, 1, []))
        reading = given.take(3)
        assert reading is not None
        with pytest.raises(OtherBytesError, match=r"in\.parquet is another file there"):
            await reading
        given.lay(Piece(0, 2, 2, b"22\n"))  # and so it is carried
        found = given.part(Shard(2, 0, 1, 2, 5, 0))
        assert found is not None
        assert lying(found)[2:] == b"22\n"

    run(test())


def test_a_file_that_has_gone_meanwhile_is_carried(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n")
    given = of([InputPart(str(path), "lines")], [[]], tmp_path)
    path.unlink()

    async def test() -> None:
        with pytest.raises(FileNotFoundError):
            await read(given, 0, 0, b"1\n")
        assert given.itself == [False]

    run(test())


def test_nothing_is_read_where_all_is_to_be_carried(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n")
    files = [[], [store.put("a", b"1\n")]]
    assert of([InputPart(str(path), "lines"), LINES], files, tmp_path, carry=True).itself == [False, False]
