"""Replies that are compressed, whatever their headers say of it: their first bytes tell more.

Servers and what stands before them say gzip of plain text, send gzip that they do not say, or name codings that nobody
knows. What is text already stays as it is; gzip, zlib and Zstandard are known by their first bytes; only Brotli and
bare deflate, which have none, by their name.
"""

import sys
import zlib
from collections.abc import Sequence

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZLIB = frozenset({b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"})
_LOOKED_AT = 100  # bytes that tell text
_LAYERS = 4  # of compression, one around the other; there are files that hold themselves
_PARTS = 10_000  # one behind the other; a reply has one
_PIECE = 1 << 13  # bytes that are given to zlib at once
_AT_ONCE = 1 << 16  # bytes that Brotli gives back at once
_CUT_OFF = "the reply is compressed, and cut off"
_PARTED = "the reply is compressed in more parts than any reply is"
_TOO_OFTEN = "the reply is compressed over and over"
_NAMES = {"br": "brotli", "brotli": "brotli", "zstd": "zstd", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


def unpacked(body: bytes, most: int, names: Sequence[str] = ()) -> bytes:
    """Return what a body holds; of what is longer than `most` bytes, a byte more: a small body can hold any number.

    names: the codings that its headers name, the last one first. Raises ValueError in words for the user where it is
    compressed by something else, or broken so that nothing of it can be read.
    """
    if len(names) > _LAYERS:
        raise ValueError(_TOO_OFTEN)
    for name in names:
        if (codec := _by_bytes(body)) is not None:
            body = _decompressed(body, codec, most)
        elif not body or _is_text(body):
            continue
        elif (codec := _NAMES.get(name)) is not None:
            body = _decompressed(body, codec, most)
        else:
            raise ValueError(f"the reply is compressed by {name!r}, which nobody asked for and nothing here reads")
    layers = 0
    while len(body) <= most and (codec := _by_bytes(body)) is not None:  # more often than it says
        if layers == _LAYERS:
            raise ValueError(_TOO_OFTEN)
        body = _decompressed(body, codec, most)
        layers += 1
    return body


def codings(header: str | None) -> list[str]:
    """Return the codings that a content-encoding header names, the last one first."""
    names = (header or "").lower().split(",")
    return [name for each in reversed(names) if (name := each.strip()) not in ("", "identity")]


def _by_bytes(body: bytes) -> str | None:
    if body[:2] == _GZIP:
        return "gzip"
    if body[:4] == _ZSTD:
        return "zstd"
    return "deflate" if body[:2] in _ZLIB else None


def _is_text(body: bytes) -> bool:
    """Whether a body is JSON, whatever stands before it, or a page."""
    start = body[:_LOOKED_AT]
    if b"{" not in start and b"<" not in start:
        return False
    try:
        return start.decode().replace("\0", "").lstrip("\ufeff \t\r\n").isprintable() or b"\n" in start
    except UnicodeDecodeError as error:
        return error.start > _LOOKED_AT - 4  # a character that the cut has gone through


def _decompressed(body: bytes, codec: str, most: int) -> bytes:
    if codec == "brotli":
        return _by_brotli(body, most)
    if codec == "zstd":
        return _by_zstd(body, most)
    bits = 16 + zlib.MAX_WBITS if codec == "gzip" else zlib.MAX_WBITS if body[:2] in _ZLIB else -zlib.MAX_WBITS
    try:
        return _inflated(body, most, bits)
    except zlib.error as error:
        raise _not(codec, error) from None


def _inflated(body: bytes, most: int, bits: int) -> bytes:
    """Return what zlib reads of it, one part behind the other. Raises ValueError where it is cut off."""
    found = bytearray()
    unread = memoryview(body)
    reader = None
    parts = 0
    while unread and len(found) <= most:
        if parts == _PARTS:
            raise ValueError(_PARTED)
        reader = reader or zlib.decompressobj(bits)
        piece = unread[:_PIECE]  # what stands behind each of many small parts is copied with it
        try:
            found += reader.decompress(piece, most + 1 - len(found))
        except zlib.error:
            if not parts or unread[:2] == _GZIP:
                raise
            return bytes(found)  # what stands behind a whole part is no part
        unread = unread[len(piece) - len(reader.unconsumed_tail) - len(reader.unused_data) :]
        if reader.eof:
            reader = None
            parts += 1
    if reader is not None and len(found) <= most:
        raise ValueError(_CUT_OFF)
    return bytes(found)


def _by_brotli(body: bytes, most: int) -> bytes:
    import brotli  # type: ignore[import-untyped]  # only here: few servers compress by it. It ships no types

    reader = brotli.Decompressor()
    found = bytearray()
    try:
        while len(found) <= most and not reader.is_finished():
            # With a limit it wants to be asked again, for what is left of what it has got. A small one is the fastest.
            piece = reader.process(body, output_buffer_limit=min(_AT_ONCE, most + 1 - len(found)))
            found += piece
            if not piece and not body:
                raise ValueError(_CUT_OFF)
            body = b""
    except brotli.error as error:
        raise _not("brotli", error) from None
    return bytes(found[: most + 1])


def _by_zstd(body: bytes, most: int) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd  # as above

    found = bytearray()
    parts = 0
    try:
        while body and len(found) <= most:
            if parts and body[:4] != _ZSTD:
                break  # what stands behind a whole part is no part
            if parts == _PARTS:
                raise ValueError(_PARTED)
            reader = zstd.ZstdDecompressor()
            found += reader.decompress(body, most + 1 - len(found))
            if not reader.eof and len(found) <= most:
                raise ValueError(_CUT_OFF)
            body = reader.unused_data if reader.eof else b""
            parts += 1
    except zstd.ZstdError as error:
        raise _not("zstd", error) from None
    return bytes(found)


def _not(codec: str, error: Exception) -> ValueError:
    return ValueError(f"the reply is said to be compressed by {codec!r}, and is not: {error}")
