"""Which format and compression a file has: by its name, by its first bytes, and what is refused and why."""

import codecs
import os
from pathlib import PurePath
from typing import Literal

from rowmill.core.errors import InputError

Format = Literal["jsonl", "csv", "tsv", "parquet", "arrow", "batch"]
Compression = Literal["gzip", "zstd"]

HEAD = 4096  # first bytes that are looked at
BOM = codecs.BOM_UTF8

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json-lines": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_PACKED: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_TABLES: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "arrow"}
TABLES = frozenset(_TABLES.values())  # their rows are read by their numbers
_ALIKE = {"batch": "jsonl"}  # formats that look the same from outside
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def named(path: str) -> tuple[Format | None, Compression | None]:
    """Return format and compression as the file's name has them."""
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 - a Path for each of 100,000 files takes seconds
    compression = _COMPRESSIONS.get(suffix.lower())
    if compression is not None:
        suffix = os.path.splitext(stem)[1]  # noqa: PTH122 - as above
    return _FORMATS.get(suffix.lower()), compression


def compression_of(path: str, head: bytes) -> Compression | None:
    """Return how a file is compressed, by its first bytes. Raises `InputError` where its name says otherwise."""
    found = next((what for magic, what in _PACKED.items() if head.startswith(magic)), None)
    by_name = named(path)[1]
    if found is None and by_name is not None:
        raise InputError(
            f"{path}: is named as {by_name}-compressed, but is not; write it anew, or drop the suffix from its name"
        )
    return found


def recognized(head: bytes) -> Format | None:
    """Return the format that the first bytes (not compressed) tell; None where they tell nothing."""
    for magic, what in _TABLES.items():
        if head.startswith(magic):
            return what
    return "jsonl" if head.removeprefix(BOM).lstrip()[:1] == b"{" else None


def refuse_foreign(path: str, head: bytes, format_: Format, encoding: str = "utf-8") -> None:
    """Raise `InputError` where the first bytes, not compressed, cannot be those of a file of this format."""
    if format_ in TABLES:
        return  # their readers know better
    if head.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: is a zip archive; unpack it first")
    if (what := recognized(head)) in TABLES:
        raise InputError(f"{path}: is a file of format {what}; set input.format to it, or leave it out")
    if head.startswith(_UTF16):
        if format_ in {"jsonl", "batch"}:
            raise InputError(f"{path}: is UTF-16; convert it to UTF-8 first")
        if not encoding.lower().replace("_", "-").startswith(("utf-16", "utf16", "utf-32", "utf32")):
            raise InputError(f'{path}: is UTF-16; set input.encoding = "utf-16"')
    if format_ == "jsonl" and PurePath(path).suffix.lower() == ".json" and head.removeprefix(BOM).lstrip()[:1] == b"[":
        raise InputError(f"{path}: is one JSON array; write one object a line first, as `jq -c '.[]'` does")


def same(one: Format, other: Format) -> bool:
    """Tell whether files of these formats can be one input."""
    return _ALIKE.get(one, one) == _ALIKE.get(other, other)
