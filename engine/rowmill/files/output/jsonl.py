"""JSON Lines: the canonical lines, and the same with the vectors of embeddings as lists of numbers."""

from collections.abc import Iterable, Iterator
from itertools import islice

from rowmill.core.output_codec import OutputCodec
from rowmill.files.output import vectors

_OUTPUT = b',"output":'  # first found, it is the member: in the id before it every quote is escaped
_ROWS = 64  # whose vectors are converted at once


class Lines(OutputCodec):
    """The lines as they are."""

    key = "jsonl"
    end = b"\n"

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Leave them as they are."""
        return lines


class VectorLines(Lines):
    """Lines whose output is a vector: as a list of numbers, which has twice the bytes, but which anybody can read."""

    key = "jsonl:vectors"

    def load(self) -> None:
        """Import numpy."""
        vectors.load()

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Yield each line with its vector as a list."""
        while batch := list(islice(lines, _ROWS)):
            places = [line.index(_OUTPUT) + len(_OUTPUT) for line in batch]
            ends = [
                line.index(b'"', place + 1) + 1 if line.startswith(b'"', place) else 0
                for line, place in zip(batch, places, strict=True)
            ]
            coded = [
                line[place + 1 : end - 1] if end else None for line, place, end in zip(batch, places, ends, strict=True)
            ]
            for line, place, end, text in zip(batch, places, ends, vectors.texts(vectors.decoded(coded)), strict=True):
                yield line if text is None else b"%b%b%b" % (line[:place], text, line[end:])
