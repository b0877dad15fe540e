"""What rows are that have no format of their own: lines of text, or of whatever comes through a pipe.

Text that is no format with columns is rows of one column, a line each. What tells them apart is what the prompt asks
for: a file whose first line has those columns is a table, any other one is lines if `text` is all that is asked.
"""

import difflib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError
from rowmill.files import remote
from rowmill.files.input import delimited, inputs
from rowmill.files.input.conversion import DELIMITERS
from rowmill.files.input.encodings import as_utf8, is_utf8, is_wide, wide
from rowmill.files.input.formats import BOM, compression_of, named, recognized, refuse_foreign
from rowmill.files.input.jsonl import LineSplitter
from rowmill.files.input.streams import head_of, open_stream
from rowmill.tasks.factory import open_task

TEXT: Final = "text"  # the column of rows that are lines of text; as a format, what such rows are called
_BLOCK = 1 << 18  # bytes that are read at a time
_LONGEST = 64 << 20  # bytes of a row; after them a quote was none that hides line breaks
_LINES = (".txt", ".text", ".lst", ".list")  # names of files that are lines of text


def is_lines(path: str) -> bool:
    """Tell whether a file is named as lines of text, whatever is in them."""
    return not remote.is_remote(path) and named(path)[0] is None and path.lower().endswith(_LINES)


def is_named_as_rows(path: str) -> bool:
    """Tell whether a file is named as one of rows, whatever is in it."""
    return named(path)[0] is not None


def columns_of(path: str) -> list[str]:
    """Return the columns of a file of rows. Raises `InputError` where it is none."""
    return [column.name for column in inputs.find(InputConfig(path=path)).columns()]


def blocks_of(source: BinaryIO) -> Iterator[bytes]:
    """Yield what a stream has, as it comes."""
    read = getattr(source, "read1", source.read)
    while block := read(_BLOCK):
        yield block


def first_rows(blocks: Iterator[bytes], limit: int, config: Config, shown: str, *, text: bool) -> Iterator[bytes]:
    """Yield what a pipe has up to the end of so many rows, for it may have no end; all where a row is no line.

    The same rows are the same bytes, however they come. text: they are lines, whatever they look like. Raises
    `InputError` as `format_of_rows` does.
    """
    held: list[bytes] = []
    for block in blocks:
        held.append(block)
        if b"\n" not in block:
            continue
        held = [head := b"".join(held)]
        if (wanted := _wanted(head, limit, config, shown, text=text)) is not None:
            blocks = chain([head], blocks)
            yield from blocks if wanted.lines is None else _up_to(wanted, blocks)
            return
    yield from held


class _Wanted(NamedTuple):
    lines: int | None  # that are not blank; None: all there are
    quoted: bool  # there may be line breaks in quotes


def _wanted(head: bytes, limit: int, config: Config, shown: str, *, text: bool) -> _Wanted | None:
    """Return what has so many rows, by the first bytes; None where they do not tell yet."""
    format_: str = TEXT if text else config.input.format
    if is_wide(config.input.codec) or wide(head) is not None or compression_of("", head) is not None:
        return _Wanted(None, quoted=False)
    first, ended, rest = head.removeprefix(BOM).lstrip().partition(b"\n")
    if not ended:
        return None
    if format_ == "auto" and recognized(first) == "jsonl" and not _is_json(first):
        second, ended, _ = rest.lstrip().partition(b"\n")
        if not second.startswith(b"{"):  # one object over many lines; else the first one is broken
            return _Wanted(None, quoted=False) if ended else None
    if format_ == "auto" and first.count(b'"') % 2 and recognized(first) is None:
        if set(open_task(config.task, config.input).columns or ()) != {TEXT}:
            return _Wanted(None, quoted=False)  # a header may go on in the next line
        format_ = TEXT
    if format_ == "auto":
        format_ = recognized(first) or _format_of(head, partial(BytesIO, first + b"\n"), config, shown)
    if format_ in {TEXT, "jsonl", "batch"}:
        return _Wanted(limit, quoted=False)
    return _Wanted(limit + 1, quoted=True) if format_ in DELIMITERS else _Wanted(None, quoted=False)


def _is_json(line: bytes) -> bool:
    with suppress(msgspec.DecodeError):
        msgspec.json.decode(line, type=msgspec.Raw)
        return True
    return False


def _up_to(wanted: _Wanted, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks, the last one up to the end of the last line that is wanted."""
    left, blank, within, size = wanted.lines or 0, True, False, 0
    for block in blocks:
        end = 0
        *whole, rest = block.split(b"\n")
        for piece in whole:
            end, size = end + len(piece) + 1, size + len(piece) + 1
            blank = blank and not piece.strip()
            within ^= wanted.quoted and piece.count(b'"') % 2 == 1
            if within and size < _LONGEST:
                continue
            left -= not blank
            if not left:
                yield block[:end]
                return
            blank, within, size = True, False, 0
        blank = blank and not rest.strip()
        within ^= wanted.quoted and rest.count(b'"') % 2 == 1
        size += len(rest)
        yield block


def format_of_rows(path: Path, config: Config, shown: str) -> Literal["auto", "csv", "text"]:
    """Return the format of rows whose name tells nothing: "auto" where their first bytes tell it, "csv" or "text".

    shown: what the rows are called in messages. Raises `InputError` where they lack a column that is asked for.
    """
    return _format_of(head_of(str(path)).data, partial(open_stream, str(path)), config, shown)


def _format_of(
    head: bytes, opened: Callable[[], AbstractContextManager[BinaryIO]], config: Config, shown: str
) -> Literal["auto", "csv", "text"]:
    codec = config.input.codec
    if recognized(head) is None:
        _refuse_foreign(shown, head, codec)
    if not is_utf8(codec):
        head = head.decode(codec, "ignore").encode(errors="ignore")
    if not head.strip() or recognized(head) is not None:
        return "auto" if head.strip() else TEXT
    asked = open_task(config.task, config.input).columns
    names = _first_names(opened, config.input)
    if not asked:  # nothing, or whatever there is
        return "csv" if len(names) > 1 else TEXT
    if set(asked) <= set(names):
        return "csv"
    if set(asked) <= {TEXT}:
        return TEXT
    lacking = next(name for name in asked if name not in names)
    nearest = difflib.get_close_matches(lacking, names, n=1)
    hint = f"did you mean {{{nearest[0]}}}?" if nearest else "lines of text have the one column {text}"
    first = f"is {', '.join(names)}" if names else "names none"
    raise InputError(f"{shown}: no column {lacking!r}; its first line {first}; {hint}")


def _refuse_foreign(shown: str, head: bytes, codec: str) -> None:
    """Raise `InputError` where the first bytes are no text, or one of another encoding. Lines may be pieces of XML."""
    if not head.removeprefix(BOM).lstrip().startswith(b"<"):
        refuse_foreign(shown, head, "csv", codec)


def _first_names(opened: Callable[[], AbstractContextManager[BinaryIO]], config: InputConfig) -> list[str]:
    """Return the names in a first line; none where it is no header."""
    try:
        with opened() as stream:
            names = delimited.header(stream, "", encoding=config.codec, delimiter=config.separator)[0].names
    except InputError:
        return []
    return list(names)


def text_rows(path: Path, codec: str, shown: str) -> Iterator[bytes]:
    """Return each line of a text as a row of JSON; a blank one stays blank, and is a failed row that costs nothing.

    Raises `InputError` where it is not of that encoding: at once where the first bytes tell it, else as it is read.
    """
    _refuse_foreign(shown, head_of(str(path)).data, codec)
    return _rows_of(path, codec, shown)


def _rows_of(path: Path, codec: str, shown: str) -> Iterator[bytes]:
    number = 0
    splitter = LineSplitter()
    with open_stream(str(path)) as stream:
        blocks = blocks_of(stream)
        for block in blocks if is_utf8(codec) else as_utf8(blocks, shown, codec):
            lines = splitter.take(block)
            yield b"".join(_row(line, number + place, codec, shown) for place, line in enumerate(lines, 1))
            number += len(lines)
        # One that has not ended stays so: it may have only begun, and is another row when the text has grown.
        yield b"".join(_row(line, number + 1, codec, shown).removesuffix(b"\n") for line in splitter.end())


def _row(line: bytes, number: int, codec: str, shown: str) -> bytes:
    if line.startswith(b"\0"):  # too long: the line itself says so
        return line + b"\n"
    try:
        text = line.decode().removesuffix("\r")
    except UnicodeDecodeError:
        raise InputError(
            f"{shown}: line {number} is not {codec} text; set input.encoding, as in --set input.encoding=cp1252"
        ) from None
    if number == 1:
        text = text.removeprefix("\ufeff")
    return msgspec.json.encode({TEXT: text}) + b"\n" if text.strip() else b"\n"
