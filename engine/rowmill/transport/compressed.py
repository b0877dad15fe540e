"""Replies in what the openai package cannot read, from servers that compress unasked: Brotli and Zstandard."""

import io

_CODECS = {"br": "brotli", "zstd": "zstd"}
_KNOWN = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})  # what the package has read, or need not
_MOST = 64 << 20  # bytes of a reply; a small one can hold any number


class Undecodable(Exception):
    """A body that is not what its encoding says; the text says why."""


def content(body: bytes, encodings: str) -> bytes:
    """Return the content of a body that is left in these encodings, as the header names them. Raises `Undecodable`."""
    for encoding in reversed(encodings.lower().split(",")):
        name = encoding.strip()
        if name in _KNOWN:
            continue
        if name not in _CODECS:
            raise Undecodable(f"the reply is compressed by {name!r}, which nobody asked for and nothing here reads")
        body = _decompressed(body, name)
    return body


def _decompressed(body: bytes, name: str) -> bytes:
    import pyarrow as pa  # type: ignore[import-untyped]  # only here: few servers compress unasked

    try:
        with pa.CompressedInputStream(io.BytesIO(body), _CODECS[name]) as stream:
            found: bytes = stream.read(_MOST + 1)
    except (pa.ArrowException, OSError) as error:
        raise Undecodable(f"the reply is said to be compressed by {name!r}, and is not: {error}") from None
    if len(found) > _MOST:
        raise Undecodable(f"the reply is compressed, and more than {_MOST >> 20} MiB")
    return found
