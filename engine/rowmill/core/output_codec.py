"""What an output format is to everybody who is not one: a codec, whose sections are joined.

A worker has its codec encode the lines of each shard into a section as it is sealed, the supervisor joins the sections
to files. They are made so that joining them copies bytes and looks at no row: the supervisor keeps up with any number
of workers. `files.output` has the codecs, `store` seals and merges with any of them, and neither knows the other.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol


class Section(Protocol):
    """A shard's share of the output, where it lies."""

    @property
    def size(self) -> int:
        """Bytes of it."""

    def read(self, offset: int, count: int) -> bytes:
        """Read from an offset of the section, never beyond its end."""


class Join:
    """What an output file holds beside bytes of its sections: a header, an index of what is where. One for each file.

    It decides what is written and writes nothing itself. This one has a header, and its sections one after the other.
    """

    def __init__(self, header: bytes = b"") -> None:
        self._header = header

    def begin(self) -> bytes:
        """Return what the file begins with."""
        return self._header

    def add(self, section: Section, /) -> tuple[int, int]:
        """Take in the next section, and return the offset and the count of those of its bytes that are copied.

        Raise ValueError where it is no section of this format, or one that does not go with those before.
        """
        return 0, section.size

    def end(self) -> bytes:
        """Return what the file ends with, all sections having been added."""
        return b""


class OutputCodec(ABC):
    """An output format, for one run. Holds no state of any shard or file: it is used in threads, several at a time.

    key: names the format and all that its sections depend on; sections of two keys never come into one output.
    directory_suffix: of the files, where the output is a directory of them; None where it is one file.
    end: what is written behind each piece of a section.

    What has a body here is as most formats have it.
    """

    key: str
    directory_suffix: str | None = None
    end: bytes = b""

    def load(self) -> None:  # noqa: B027 - most formats need nothing
        """Import what encoding needs, so that it holds up no request later. For workers, before their first row."""

    @abstractmethod
    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Turn the output lines of a shard into its section, in pieces of any size.

        A section that is not empty ends with a newline: that is how the footer behind it is found.
        """

    def chosen(self, lines: Iterator[bytes], left_out: Counter[str]) -> Iterable[bytes]:  # noqa: ARG002 - for those who choose
        """Do as `encode` does of the lines that are to be in the output, and count the others, by why they are not."""
        return self.encode(lines)

    def failed(self, line: bytes, attempts: int) -> bytes | None:  # noqa: ARG002 - for those who have lines of their own
        """Return the errors-file line of a failed row, made from its output line; None for the usual one."""
        return None

    def join(self) -> Join:
        """Begin an output file."""
        return Join()
