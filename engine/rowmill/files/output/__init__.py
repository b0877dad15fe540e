"""Output formats: the lines of a shard become a section as it is sealed, and sections become the output.

A worker calls `encode` and `failed` where a shard is sealed (see `store.seal.Form`), the supervisor joins the sections
(see `store.merge.Joinable`). Sections are made so that joining them copies bytes and looks at no row: the supervisor
keeps up with any number of workers.

jsonl     the lines as they are; the vectors of embeddings as lists of numbers
csv       a header, then a record for each row (columns: see `table`)
parquet   the same columns with their types; in one file, or in a directory of files
batch     what OpenAI's Batch API answers: results in the output, failed requests in the errors file
"""

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import ConfigError
from rowmill.core.rows import Layout


class Section(Protocol):
    """One shard's part of the output, being joined."""

    @property
    def size(self) -> int:
        """Bytes of it."""

    def read(self, offset: int, count: int) -> bytes:
        """Read bytes of it, fewer where it ends."""


class Join(Protocol):
    """What one output file holds beside bytes of its sections; see `store.part.Join`."""

    def begin(self) -> bytes:
        """Return what the file begins with."""

    def add(self, section: Section, /) -> tuple[int, int]:
        """Take in a section; return offset and count of those of its bytes that are copied. Raises ValueError."""

    def end(self) -> bytes:
        """Return what the file ends with."""


class OutputFormat(Protocol):
    """One output format, for one run. Holds no state of any shard or file."""

    @property
    def key(self) -> str:
        """Names the format and all that its sections depend on: sections of two keys never come into one output."""

    @property
    def parts(self) -> str | None:
        """The suffix of the files where the output is a directory of them; None where it is one file."""

    @property
    def end(self) -> bytes:
        """What is written behind each piece of a section."""

    def load(self) -> None:
        """Import what encoding needs, so that it holds up no request later. For workers, before their first row."""

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Turn the output lines of a shard into its section, in pieces; one that is not empty ends with a newline."""

    def failed(self, line: bytes, attempts: int) -> bytes | None:
        """Return the errors-file line of a failed row, made from its output line; None for the usual one."""

    def join(self) -> Join | None:
        """Begin an output file; None where it is its sections one after the other."""


def format_of(config: OutputConfig) -> Literal["jsonl", "csv", "parquet", "batch"]:
    """Return the output's format, where it is "auto" by its name. Raise ConfigError for a directory of another one."""
    name = config.path.lower()
    directory = name.endswith("/")
    if config.format != "auto":
        if directory and config.format != "parquet":
            raise ConfigError(
                f"output.path: only Parquet is written into a directory, not {config.format}: name a file"
            )
        return config.format
    if directory or name.endswith(".parquet"):
        return "parquet"
    return "csv" if name.endswith(".csv") else "jsonl"


def open_format(config: OutputConfig, layout: Layout) -> OutputFormat:
    """Return the format of a run's output. Raise ConfigError where the path does not go with it."""
    match format_of(config):
        case "csv":
            from rowmill.files.output.csv_records import CsvRecords

            return CsvRecords(config, layout)
        case "parquet":
            from rowmill.files.output.parquet import Parquet

            return Parquet(config, layout)
        case "batch":
            from rowmill.files.output.batch_lines import Batch

            return Batch()
        case _ if layout.vectors:
            from rowmill.files.output.jsonl import VectorLines

            return VectorLines()
        case _:
            from rowmill.files.output.jsonl import Lines

            return Lines()
