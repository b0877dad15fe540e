"""The user's files, whatever their format, as blocks of JSON lines that end with a newline, file after file."""

import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from rowmill.core.config.sections import InputConfig
from rowmill.core.rows import Shard
from rowmill.files.input import delimited, json_values, jsonl
from rowmill.files.input.batch_lines import CustomIds
from rowmill.files.input.copies import Copies
from rowmill.files.input.dialect import Columns
from rowmill.files.input.discovery import Found
from rowmill.files.input.encodings import as_utf8, is_utf8
from rowmill.files.input.formats import HEAD, TABLES, Format, refuse_foreign
from rowmill.files.input.streams import open_stream, shown

DELIMITERS = {"csv": ",", "tsv": "\t"}


class _TableFormat(Protocol):
    """What the modules of Parquet and Arrow have: see there."""

    def check(self, path: Path) -> None: ...
    def schema(self, path: Path) -> Any: ...
    def lines(self, path: Path) -> Iterator[list[bytes]]: ...
    def shard_lines(self, path: str, shard: Shard, columns: list[str] | None) -> Iterator[list[bytes]]: ...
    def plan(self, path: Path, shard_rows: int) -> Iterator[Shard]: ...


def table(format_: Format) -> _TableFormat:
    """Return the module that reads files of a table's format."""
    if format_ == "parquet":
        from rowmill.files.input import parquet

        return parquet
    from rowmill.files.input import arrow

    return arrow


def header(found: Found, config: InputConfig, *, plain: bool) -> tuple[Columns, str]:
    """Return the columns of a CSV or TSV file, and its delimiter. Raises `InputError`."""
    path = found.file.path
    with open_stream(path) as stream:
        return delimited.header(
            stream,
            shown(path),
            encoding=config.codec,
            delimiter=config.separator,
            default=DELIMITERS[found.format],
            plain=plain,
        )


class Conversion:
    """Makes lines of the files of one input. They are to be asked for in their order.

    plain: by what they are called alone, see `inputs.find`.
    """

    def __init__(self, format_: Format, config: InputConfig, copies: Copies, *, plain: bool) -> None:
        self._format = format_
        self._config = config
        self._copies = copies
        self._plain = plain
        self._ids = CustomIds() if format_ == "batch" else None

    def blocks(self, files: list[Found], on_read: Callable[[int], None]) -> Generator[bytes]:
        """Yield the files' lines. Raises `InputError`.

        on_read: told how many bytes of the user's files were read since its last call.
        """
        for found in files:
            if self._format == "xlsx":
                yield from self._workbook(found, on_read)
            else:
                yield from self._table(found, on_read) if self._format in TABLES else self._text(found, on_read)

    def _table(self, found: Found, on_read: Callable[[int], None]) -> Iterator[bytes]:
        with self._copies.local(found.file.path) as path:
            for lines in table(self._format).lines(path):
                if lines:
                    yield b"\n".join(lines) + b"\n"
        on_read(found.file.size)

    def _workbook(self, found: Found, on_read: Callable[[int], None]) -> Iterator[bytes]:
        from rowmill.files.input.workbook import Workbook

        with self._copies.local(found.file.path) as path:
            yield from Workbook(path, self._config.sheet).blocks()
        on_read(found.file.size)

    def _text(self, found: Found, on_read: Callable[[int], None]) -> Iterator[bytes]:
        path = shown(found.file.path)
        with open_stream(found.file.path, on_read) as stream:
            assert isinstance(stream, io.BufferedReader)
            codec = self._config.codec
            if not self._plain:
                refuse_foreign(path, stream.peek(HEAD), self._format, codec)
            if self._format in DELIMITERS:
                default = DELIMITERS[self._format]
                blocks = delimited.blocks(
                    stream, path, encoding=codec, delimiter=self._config.separator, default=default, plain=self._plain
                )
            elif self._format == "json":
                blocks = json_values.blocks(stream, path, codec)
            else:
                blocks = jsonl.read_blocks(stream)
                if not self._plain:
                    blocks = jsonl.without_blank_end(blocks if is_utf8(codec) else as_utf8(blocks, path, codec))
                blocks = jsonl.whole_lines(blocks)
                blocks = jsonl.bounded_lines(blocks) if self._ids is None else self._ids.blocks(blocks, path)
            yield from blocks
