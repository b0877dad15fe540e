"""Which format and compression a file has: by its name, by its first bytes, and what is refused and why."""

import codecs
import os
import re
from pathlib import PurePath
from typing import Literal

from rowmill.core.errors import InputError
from rowmill.files.input.encodings import is_wide, wide

Format = Literal["jsonl", "json", "csv", "tsv", "xlsx", "parquet", "arrow", "batch"]
Compression = Literal["gzip", "zstd"]

HEAD = 4096  # first bytes that are looked at
BOM = codecs.BOM_UTF8

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json-lines": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xlsb": "xlsx",
    ".xls": "xlsx",
    ".ods": "xlsx",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_PACKED: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_TABLES: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_JSON: dict[bytes, Format] = {b"{": "jsonl", b"[": "json"}
TABLES = frozenset(_TABLES.values())  # their rows are read by their numbers
WHOLE = TABLES | {"xlsx"}  # their readers jump to and fro, so they are not compressed once more
_ALIKE = {"batch": "jsonl", "json": "jsonl"}  # formats that look the same from outside
_ZIP = b"PK\x03\x04"
_ZIPS = (_ZIP, b"PK\x05\x06")  # an empty one
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of Excel before 2007, and of Word: its reader tells
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_DOCUMENTS = frozenset({".docx", ".pptx", ".odt", ".odp", ".epub", ".pages", ".key"})
# What people have under any name: how it begins, what it is, what to do.
_FOREIGN = (
    (re.compile(rb"BZh[1-9]1AY&SY|\xfd7zXZ\0|\x04\x22\x4d\x18"), "is compressed by other means; use gzip or zstd"),
    (re.compile(rb"7z\xbc\xaf\x27|Rar!\x1a"), "is an archive; unpack it first"),
    (re.compile(rb"(?s).{257}ustar"), "is a tar archive; unpack it first"),
    (re.compile(rb"SQLite format 3\0"), "is an SQLite database; export the table as CSV"),
    (re.compile(rb"Obj\x01|ORC[\0-\x1f]"), "is an Avro or ORC file; write it as Parquet"),
    (
        re.compile(
            rb"(?s)\x89HDF|\x93NUMPY|FEA1|.{8}DUCK|<stata_dta>|\$FL[23]@"
            rb"|\0\x01\0\0Standard (Jet|ACE)|.{12}\xc2\xea\x81\x60"
        ),
        "is a table of another program; write it as CSV or Parquet",
    ),
    (
        re.compile(rb"%PDF-|\{\\rtf|\x89PNG|\xff\xd8\xff|GIF8"),
        "is a document or an image; rows are wanted: save its table as CSV",
    ),
)
# What lies in the place of data, of any format, that was not fetched.
_POINTER = re.compile(rb"version https://(git-lfs|hawser)\.github\.com/spec/")
_PAGE = re.compile(rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)")


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
        refuse_instead(path, head)
        raise InputError(
            f"{path}: is named as {by_name}-compressed, but is not; write it anew, or drop the suffix from its name"
        )
    return found


def recognized(head: bytes) -> Format | None:
    """Return the format that the first bytes (not compressed) tell; None where they tell nothing."""
    for magic, what in _TABLES.items():
        if head.startswith(magic):
            return what
    if head.startswith(_OLD_WORKBOOK) or (head.startswith(_ZIP) and (b"xl/" in head or _OPEN_DOCUMENT in head[:200])):
        return "xlsx"
    return _JSON.get(head.removeprefix(BOM).lstrip()[:1])


def refuse_instead(path: str, head: bytes, *, workbook: bool = False) -> None:
    """Raise `InputError` where the first bytes are those of what stands for data that was not fetched.

    workbook: it is called one; then a page may be a table that some program wrote so.
    """
    if _POINTER.match(head):
        raise InputError(
            f"{path}: is a pointer of Git LFS, and the data is not here; run `git lfs pull` where the repository lies"
        )
    if _PAGE.match(head) and not workbook:
        raise InputError(f"{path}: is HTML or XML, as an error page that was saved for the data; load it anew")


def refuse_foreign(path: str, head: bytes, format_: Format, codec: str = "utf-8") -> None:
    """Raise `InputError` where the first bytes, not compressed, cannot be those of a file of this format."""
    if format_ == "xlsx" and not head:
        raise InputError(f"{path}: is empty; copy or write it anew")
    refuse_instead(path, head, workbook=format_ == "xlsx")
    if format_ == "xlsx" and not head.startswith((_ZIP, _OLD_WORKBOOK)):
        raise InputError(
            f'{path}: is no workbook, whatever its name; set input.format to what it is, as "csv" or "tsv"'
        )
    if format_ in WHOLE:
        return  # their readers know better
    if (what := recognized(head)) in WHOLE:
        if what == "xlsx":
            raise InputError(f'{path}: is a workbook, as Excel writes it; name it .xlsx, or set input.format = "xlsx"')
        raise InputError(f"{path}: is a file of format {what}; set input.format to it, or leave it out")
    if head.startswith(_ZIPS):
        raise InputError(f"{path}: {_in_zip(path, head)}")
    for begins, words in _FOREIGN:
        if begins.match(head):
            raise InputError(f"{path}: {words}")
    if (name := wide(head)) is not None and not is_wide(codec):
        raise InputError(
            f'{path}: is {name[:6].upper()}; set input.encoding = "{name}", or write the file anew as UTF-8'
        )


def _in_zip(path: str, head: bytes) -> str:
    """Say what a zip archive is, and what to do."""
    suffix = PurePath(path).suffix.lower()
    if suffix == ".numbers" or b"Index/Document.iwa" in head:
        return "is a spreadsheet of Numbers; export it as CSV or Excel"
    if suffix in _DOCUMENTS or b"mimetypeapplication/" in head or b"word/" in head or b"ppt/" in head:
        return "is a document; rows are wanted: save its table as CSV"
    return "is a zip archive; unpack it first"


def same(one: Format, other: Format) -> bool:
    """Tell whether files of these formats can be one input."""
    return _ALIKE.get(one, one) == _ALIKE.get(other, other)
