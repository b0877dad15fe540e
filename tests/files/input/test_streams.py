"""Files are opened and decompressed: every byte, in bounded memory, and damage is told with its place."""

import gzip
import os
import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.errors import InputError
from rowmill.files.input.streams import expansion, head_of, open_file, open_stream

ROWS = b"".join(b'{"row":%d,"text":"%d"}\n' % (number, number * 7919) for number in range(20_000))


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def read(path: Path) -> bytes:
    with open_stream(str(path)) as stream:
        return stream.read()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_compressed_file_is_read_whole_whatever_it_is_named(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(pack(ROWS))
    assert read(path) == ROWS
    path.write_bytes(pack(ROWS[:1000]) + pack(b"") + pack(ROWS[1000:]))
    assert read(path) == ROWS, "of several members or frames, an empty one among them"
    assert head_of(str(path)) == ("gzip" if pack is gzip.compress else "zstd", ROWS[:4096], False)


def test_the_zeros_behind_a_gzip_file_that_tapes_and_disks_leave_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(ROWS) + b"\0" * 512)
    assert read(path) == ROWS


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("cut", [6, 1000, -1])
def test_a_compressed_file_that_is_cut_off_is_told_from_a_whole_one(tmp_path: Path, pack: object, cut: int) -> None:
    assert callable(pack)
    path = tmp_path / "rows.jsonl.packed"
    path.write_bytes(pack(ROWS)[:cut])
    with pytest.raises(
        InputError, match=r"packed: the (gzip|zstd) file is damaged near byte \d+: it ends in the middle"
    ):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_compressed_file_with_a_wrong_byte_is_refused_where_it_is_met(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "rows.jsonl"
    good = pack(os.urandom(1 << 21))
    damaged = bytearray(good + pack(ROWS))
    start = len(good) + 10  # headers: not every zstd file has checksums of its data
    damaged[start : start + 100] = b"\xff" * 100
    path.write_bytes(damaged)
    with open_stream(str(path)) as stream:
        assert len(stream.read(1 << 20)) == 1 << 20, "what comes before is good"
        with pytest.raises(InputError, match=r"rows\.jsonl: the (gzip|zstd) file is damaged near byte \d+: "):
            stream.read()


def test_a_bad_checksum_at_the_end_of_a_gzip_file_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    damaged = bytearray(gzip.compress(ROWS))
    damaged[-6] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged near byte .*CRC"):
        read(path)


@pytest.mark.parametrize("content", [b"", b'{"a":1}\n'])
def test_a_file_that_is_named_as_compressed_but_is_not_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz: is named as gzip-compressed, but is not"):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_small_file_that_becomes_a_huge_one_is_read_in_little_memory(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "zeros"
    path.write_bytes(pack(bytes(50 << 20)))
    assert path.stat().st_size < 1 << 20
    size = 0
    tracemalloc.start()
    try:
        with open_stream(str(path)) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 50 << 20
    assert peak < 6 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bytes])
def test_what_is_told_of_the_reading_adds_up_to_the_file(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "rows"
    path.write_bytes(pack(ROWS) * 3)
    told: list[int] = []
    with open_stream(str(path), told.append) as stream:
        assert stream.read() == ROWS * 3
    assert sum(told) == path.stat().st_size


def test_the_size_of_what_is_compressed_is_estimated_by_its_start(tmp_path: Path) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(ROWS * 4, 1))
    assert expansion(str(path)) * path.stat().st_size == pytest.approx(len(ROWS) * 4, rel=0.3)
    path.write_bytes(gzip.compress(b"{}"))
    assert expansion(str(path)) == 1.0


# What cannot be opened


def test_a_missing_input_names_the_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such file; set input\.path"):
        open_file(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["directory", "endless link", "below a file", "too long a name"])
def test_what_cannot_be_opened_says_why_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.jsonl"
    if kind == "directory":
        path.mkdir()
    elif kind == "endless link":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_bytes(b"{}")
        path = path / "in.jsonl"
    else:
        path = tmp_path / ("n" * 300)
    with pytest.raises(InputError, match=r"cannot be read: .+; set input\.path to a readable file$"):
        open_file(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        open_file(path)


def test_a_named_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    os.mkfifo(path)
    told: list[str] = []

    def attempt() -> None:
        try:
            open_file(path).close()
        except InputError as error:
            told.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # let it go before the test fails
        thread.join()
    assert len(told) == 1
    assert "is no regular file; write the rows to a file first" in told[0]
