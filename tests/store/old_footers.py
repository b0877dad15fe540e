"""Sealed shards as they were before their footers counted the failed rows by class."""

from pathlib import Path

import msgspec

from rowmill.store.framing import framed
from rowmill.store.seal import read_sealed


def make_old(path: Path) -> None:
    """Give a sealed shard the footer that it would have had."""
    sealed = read_sealed(path)
    assert sealed is not None
    footer = b'{"rowmill":2,"shard":%b,"output_bytes":%d,"error_bytes":%d,"totals":%b,"format":%b}' % (
        msgspec.json.encode(sealed.shard),
        sealed.output_bytes,
        sealed.error_bytes,
        msgspec.json.encode(sealed.totals),
        msgspec.json.encode(sealed.format),
    )
    sections = path.read_bytes()[: sealed.output_bytes + sealed.error_bytes]
    path.write_bytes(sections + framed(footer))
