"""CSV and TSV: rows as Python's csv module reads them, each turned into a JSON object of strings.

The first line that is not blank is the header: its fields are the names of the columns; `dialect` tells the delimiter
and what to call those without a name. A blank line is no row, as for the csv module. A row with too many or too few
fields, or with bytes that the encoding does not have, becomes a `BROKEN` line, which takes its place in the order. What
would swallow rows ends the reading instead: a quote that is never closed, a field beyond all measure.

Undecodable bytes come through the decoder as lone surrogates, which have no UTF-8 form: the JSON encoder finds them, so
that looking for them costs nothing.
"""

import codecs
import contextlib
import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

import msgspec

from rowmill.core.errors import InputError
from rowmill.core.rows import BROKEN
from rowmill.files.input.dialect import NAMES, SAMPLE, Columns, columns_of, declared, rows_of, sniffed
from rowmill.files.input.objects import object_maker

_FIELD_CHARACTERS = 1 << 25  # of one field: the parser holds 4 bytes of each; beyond it a quote was not closed
_LINE_BYTES = 1 << 28  # between two line breaks
_TORN = 0.05  # of the first rows of one column that have more: then it is no single row that is wrong
_SHOWN = 40  # characters of a row in a message
_BLANK = 64  # blank lines in a row, behind which they are passed over by the block
_BLOCK = 1 << 18  # characters of such a block
_BATCH = 1 << 17  # bytes of the file whose rows are encoded together

_encoder = msgspec.json.Encoder()


def check_encoding(name: str) -> None:
    """Raise `InputError` where there is no such encoding of text."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=name)
        b"\xff".decode(name, "replace")  # those of names of hosts take no text but a right one
    except (LookupError, ValueError):  # ValueError: a null character in the name
        raise InputError(
            f'input.encoding: there is no encoding {name!r}; set "utf-8", "cp1252", "utf-16" or another that Python has'
        ) from None


def header(
    stream: BinaryIO, path: str, *, encoding: str, delimiter: str | None = None, default: str = ",", plain: bool = False
) -> tuple[Columns, str]:
    """Return the columns, and the delimiter. Raises `InputError` where there are none, or no good ones.

    delimiter: where it is known; otherwise it is told by the first rows, and is `default` where they do not tell.
    plain: they are not asked, as before there was anything to tell.
    """
    parser = _Parser(stream, path, delimiter, default, encoding, plain=plain)
    if not parser.columns.names:
        raise InputError(f"{path}: is empty; its first line must be a header with the names of the columns")
    if parser.torn is not None:
        raise InputError(
            f"{path}: the header has one name, {parser.columns.names[0]!r}, and rows have more fields, the first "
            f"{parser.torn!r}: put texts with {NAMES.get(parser.delimiter, repr(parser.delimiter))} in them in quotes; "
            'or, where each line is one text, set input.delimiter to a sign that none of them has, as "\\t"'
        )
    return parser.columns, parser.delimiter


def blocks(
    stream: BinaryIO, path: str, *, encoding: str, delimiter: str | None = None, default: str = ",", plain: bool = False
) -> Iterator[bytes]:
    """Yield the rows as JSON lines, some at a time. A file without any line has no rows. Raises `InputError`."""
    yield from iter(_Parser(stream, path, delimiter, default, encoding, plain=plain).batch, b"")


class _Parser:
    """Reads one file.

    columns: has no names where it has no line. torn: how the first row begins that has more fields than there is a
    name, where there is one name and one row in twenty has more; None where all is well.
    """

    def __init__(
        self, stream: BinaryIO, path: str, delimiter: str | None, default: str, encoding: str, *, plain: bool
    ) -> None:
        self._path = path
        self._encoding = encoding
        sample = stream.read(SAMPLE)
        self._counted = _Counted(stream, path, sample)
        utf8 = codecs.lookup(encoding).name == "utf-8"
        self._text = io.TextIOWrapper(
            cast(BinaryIO, self._counted), "utf-8-sig" if utf8 else encoding, errors="surrogateescape", newline=""
        )
        self._ended = False
        self.torn: str | None = None
        csv.field_size_limit(max(csv.field_size_limit(), _FIELD_CHARACTERS))
        text = codecs.getincrementaldecoder(encoding)("replace").decode(sample).removeprefix("\ufeff")
        whole = len(sample) < SAMPLE
        if plain:
            delimiter = default
        self.delimiter = sniffed(text, default, whole=whole) if delimiter is None else delimiter
        self._lines_before = 0  # that the reader has not seen
        self._ahead = io.StringIO()  # text that was read behind blank lines, and comes first
        self._reader = csv.reader(chain(self._text, self._end()), delimiter=self.delimiter)
        if text[:1] in ("\r", "\n"):
            self._pass_blank()
        self.columns = self._header(text, whole=whole, plain=plain)
        self._names = self.columns.names
        self._width = len(self._names)
        self._row = object_maker(tuple(self._names))

    def batch(self) -> bytes:
        """Return the next rows as JSON lines; nothing at the end."""
        rows: list[Any] = []
        lines: list[int] = []  # of the file, where each row begins
        reader, row_of, width, counted = self._reader, self._row, self._width, self._counted
        most = width + self.columns.surplus
        stop = counted.read_bytes + _BATCH
        before = self._lines_before + 1
        line = reader.line_num + before
        odd = False
        blank = 0
        try:
            for row in reader:
                if width < len(row) <= most and not any(row[width:]):
                    del row[width:]
                if len(row) == width and not self._ended:
                    rows.append(row_of(*row))
                    lines.append(line)
                elif row:
                    rows.append(self._odd(row, line))
                    lines.append(line)
                    odd = True
                else:
                    blank += 1
                    if blank > _BLANK:
                        self._pass_blank()
                        break
                line = reader.line_num + before
                if counted.read_bytes >= stop and rows:
                    break
            if not rows and blank > _BLANK:
                return self.batch()
        except (csv.Error, UnicodeError) as error:
            raise self._unreadable(error, line) from None
        if not odd:
            with contextlib.suppress(UnicodeEncodeError):
                return _encoder.encode_lines(rows)
        return b"".join(self._line(row, line) + b"\n" for row, line in zip(rows, lines, strict=True))

    def _pass_blank(self) -> None:
        """Go on behind blank lines, where the reader stands between two rows: it takes 100 ns for each."""
        rest = ""
        lines = 0
        while not rest and (text := self._ahead.read() or self._text.read(_BLOCK)):
            rest = text.lstrip("\r\n")
            passed = text[: len(text) - len(rest)]
            lines += passed.count("\n") or passed.count("\r")
        if not rest.endswith("\n"):
            rest += self._text.readline()
        self._lines_before += self._reader.line_num + lines
        self._ahead = io.StringIO(rest, newline="")
        self._reader = csv.reader(chain(self._ahead, self._text, self._end()), delimiter=self.delimiter)

    def _header(self, sample: str, *, whole: bool, plain: bool) -> Columns:
        line = 1
        try:
            names = next((row for row in self._reader if any(row)), [])
            if not plain and declared(self.delimiter.join(names)) is not None:
                names = next((row for row in self._reader if any(row)), [])
        except (csv.Error, UnicodeError) as error:
            raise self._unreadable(error, line) from None
        if names and self._ended:
            self._odd(names, line)
        rows = rows_of(sample, self.delimiter, whole=whole)
        rows = rows[rows.index(names) + 1 :] if names in rows else rows
        columns = columns_of(names, rows)
        torn = [row for row in rows if any(row[1:])] if len(names) == 1 and not plain else []
        if len(torn) > len(rows) * _TORN:
            self.torn = self.delimiter.join(torn[0])[:_SHOWN]
        seen: dict[str, int] = {}
        for place, name in enumerate(columns.names, 1):
            if not _encodable(name):
                raise InputError(f"{self._path}: the header is no {self._encoding}; set input.encoding to what it is")
            if name in seen:
                raise InputError(
                    f"{self._path}: columns {seen[name]} and {place} of the header are both named {name!r}; rename one"
                )
            seen[name] = place
        return columns

    def _odd(self, row: list[str], line: int) -> bytes:
        if self._ended:  # the parser met the end of the file within a row
            raise InputError(
                f"{self._path}: line {line}: a quote opens in the row that begins there and is never closed, so the "
                "rest of the file would be one field; close it, or double it"
            )
        reason = f"line {line}: {len(row)} fields where the header has {self._width}".encode()
        known = dict(zip(self._names, row, strict=False))
        return BROKEN + reason + (BROKEN + _encoder.encode(known) if all(map(_encodable, row)) else b"")

    def _line(self, row: Any, line: int) -> bytes:
        if isinstance(row, bytes):
            return row
        try:
            return _encoder.encode(row)
        except UnicodeEncodeError:
            values = row.values() if isinstance(row, dict) else msgspec.structs.astuple(row)
            name = next(name for name, value in zip(self._names, values, strict=True) if not _encodable(value))
            return BROKEN + f"line {line}: column {name!r} is no {self._encoding}; see input.encoding".encode()

    def _unreadable(self, error: Exception, line: int) -> InputError:
        if isinstance(error, UnicodeError):
            near = self._lines_before + self._reader.line_num + 1
            return InputError(
                f"{self._path}: near line {near}: is no {self._encoding}; set input.encoding to what it is"
            )
        return InputError(
            f"{self._path}: line {line}: the row that begins there cannot be read: {error}; "
            "look for a quote that is not closed"
        )

    def _end(self) -> Iterator[str]:
        self._ended = True
        yield from ()


class _Counted(io.BufferedIOBase):
    """Passes a stream on and counts its bytes. Closes nothing. start: what was read of it before.

    What reads it holds a whole line, before anybody sees how long the fields in it are: one beyond all measure ends
    here.
    """

    def __init__(self, stream: BinaryIO, path: str, start: bytes) -> None:
        super().__init__()
        self._stream: Any = stream
        self._path = path
        self._start = start
        self._line_bytes = 0  # since the last line break
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        if self._start:
            stop = len(self._start) if size < 0 else size
            data, self._start = self._start[:stop], self._start[stop:]
        else:
            data = self._stream.read1(size)
        self.read_bytes += len(data)
        at = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._line_bytes = len(data) - at - 1 if at >= 0 else self._line_bytes + len(data)
        if self._line_bytes > _LINE_BYTES:
            raise InputError(
                f"{self._path}: near byte {self.read_bytes}: a line has more than {_LINE_BYTES >> 20} MiB; look for a "
                "quote that is not closed, or a file that is no CSV"
            )
        return data


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
