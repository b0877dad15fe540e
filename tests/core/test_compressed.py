"""What is unpacked of a reply, and what bounds it."""

import gzip
import os
import sys
import zlib

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest

from rowmill.core.compressed import codings, unpacked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": lambda raw: zlib.compress(raw)[2:-4],
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def packed(codec: str, raw: bytes) -> bytes:
    found: bytes = PACKERS[codec](raw)
    return found


@pytest.mark.parametrize("codec", PACKERS)
@pytest.mark.parametrize("size", [1, 100, 65_536, 1_000_000])
def test_no_more_is_unpacked_than_is_asked_for(codec: str, size: int) -> None:
    raw = os.urandom(size // 2) + b"a" * (size - size // 2)
    body = packed(codec, raw)
    for most in (0, size // 3, size - 1, size, size + 5):
        assert unpacked(body, most, [codec.rpartition(" ")[2]]) == raw[: most + 1]


@pytest.mark.parametrize("codec", PACKERS)
def test_what_is_cut_off_is_no_reply(codec: str) -> None:
    body = packed(codec, os.urandom(1000) + b"a" * 1000)
    for end in (5, len(body) // 2, len(body) - 1):
        with pytest.raises(ValueError, match="the reply is"):
            unpacked(body[:end], 10_000, [codec.rpartition(" ")[2]])


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_parts_one_behind_the_other_are_read_and_what_is_no_part_is_left(codec: str) -> None:
    part = packed(codec, b"[1, 2]")
    assert unpacked(part * 3, 1000, [codec]) == b"[1, 2]" * 3
    assert unpacked(part + b"\0\0", 1000, [codec]) == b"[1, 2]"
    with pytest.raises(ValueError, match="more parts than any reply"):
        unpacked(packed(codec, b"") * 10_001, 1000, [codec])


@pytest.mark.parametrize("codec", PACKERS)
def test_no_json_begins_as_an_object_of_json_once_it_is_compressed(codec: str) -> None:
    # The direct transport passes on what begins so without a look at its headers.
    begins = {b'{"', b"{}", b"{ ", b"{\n", b"{\r", b"{\t"}
    texts = [b"", b'{"a":"' + b"b" * 1000 + b'"}', b'{"a":"%b"}' % os.urandom(5000).hex().encode(), "\ufeff{}".encode()]
    texts += [bytes([first]) + rest for first in range(128) for rest in (b"", b'"', b"\n {}", b"a" * 100)]
    found = {packed(codec, text)[:2] for text in texts}
    found |= {packed(codec, packed(inner, b'{"a":1}'))[:2] for inner in PACKERS}
    assert found.isdisjoint(begins)


def test_the_codings_of_a_header_are_undone_from_the_last_one_on() -> None:
    assert codings(" GZIP, identity,br ") == ["br", "gzip"]
    assert unpacked(packed("br", packed("zstd", b"{}")), 1000, codings("zstd, br")) == b"{}"
