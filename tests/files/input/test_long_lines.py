"""Lines beyond all measure: linear time, bounded memory, and each of them one failed row in its place."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN
from rowmill.files.input import delimited, jsonl
from rowmill.files.input.inputs import find
from rowmill.files.input.jsonl import LineSplitter, bounded_lines


def split(*blocks: bytes) -> list[bytes]:
    splitter = LineSplitter()
    lines = [line for block in blocks for line in splitter.take(block)]
    return lines + splitter.end()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_the_same_however_they_are_cut_into_blocks(size: int) -> None:
    data = b"one\n\ntwo and more\n" + b"x" * 30 + b"\nlast"
    assert split(*(data[at : at + size] for at in range(0, len(data), size))) == data.split(b"\n")


def test_a_line_that_is_too_long_takes_its_place_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 10)
    data = b"short\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\nshort\n" + b"z" * 40
    lines = split(*(data[at : at + 4] for at in range(0, len(data), 4)))
    assert [line[:1] for line in lines] == [b"s", BROKEN, b"y", b"s", BROKEN]
    assert b"longer than 64 MiB" in lines[1]
    blocks = list(bounded_lines(data[at : at + 4] for at in range(0, len(data), 4)))
    assert b"".join(blocks) == b"".join(line + b"\n" for line in lines)


def test_a_file_of_zeros_that_was_compressed_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match=r"in\.jsonl\.gz: none of the first lines begins .* longer than 64 MiB"):
        find(InputConfig(path=str(path)))
    tracemalloc.start()
    try:
        found = find(InputConfig(path=str(path), format="jsonl"))
        (shard,) = found.plan(tmp_path / "spool", shard_bytes=1 << 20, shard_rows=100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert shard.rows == 1
    assert (tmp_path / "spool" / "000000.jsonl").stat().st_size < 100
    assert peak < 80 << 20


def test_a_csv_line_beyond_all_measure_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_LINE_BYTES", 1 << 20)
    path = tmp_path / "in.csv"
    path.write_bytes(b'text\n"' + b"y" * (3 << 20) + b'"\n')
    with pytest.raises(InputError, match=r"in\.csv: near byte \d+: a line has more than 1 MiB; look for a quote"):
        list(find(InputConfig(path=str(path))).plan(tmp_path / "spool", shard_bytes=1 << 20, shard_rows=100))
