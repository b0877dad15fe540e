"""Some rows of an input, for a trial before the million: the first ones, or any.

Both take blocks of lines that end with a newline, and give such blocks back.
"""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from rowmill.files.input.jsonl import after_newline

_SEED = 0  # the same rows every time: a resume must find them again
_BLOCK = 1 << 20  # bytes that a sample's rows are read and passed on in


def first(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """Yield the first so many lines. Nothing is asked for beyond the block with the last of them."""
    left = count
    if left <= 0:
        return
    for block in blocks:
        found = block.count(b"\n")
        if found >= left:
            yield block[: after_newline(block, 0, len(block), left)]
            return
        left -= found
        yield block


def sample(blocks: Iterable[bytes], count: int, scratch: Path) -> Iterator[bytes]:
    """Yield so many lines, taken at random and given back in their order; all where there are no more.

    Reads everything once. Lines that are chosen on the way are written to a nameless file in the directory `scratch`,
    about `count * (1 + ln(lines / count))` of them; memory holds their places, some 150 bytes a line of the sample.
    Reservoir sampling by Li's algorithm L (ACM TOMS 20, 1994): it draws how many lines to skip, not one by one.
    """
    if count <= 0:
        return
    reservoir = _Reservoir(count)
    with tempfile.TemporaryFile(dir=scratch) as file:
        for number, line in _lines(blocks, reservoir):
            reservoir.put(number, file.tell(), len(line))
            file.write(line)
        file.flush()
        yield from _in_order(file.fileno(), sorted(reservoir.chosen))


class _Reservoir:
    """Which lines are in the sample so far, and which is the next to come in."""

    def __init__(self, count: int) -> None:
        self.chosen: list[tuple[int, int, int]] = []  # number of the line; its offset and length in the file
        self.wanted = 0  # number of the next line
        self._count = count
        self._weight = 1.0
        self._random = Random(_SEED)  # noqa: S311 - a sample, no secret

    def put(self, number: int, offset: int, length: int) -> None:
        """Take in the wanted line."""
        if len(self.chosen) < self._count:
            self.chosen.append((number, offset, length))
        else:
            self.chosen[self._random.randrange(self._count)] = (number, offset, length)
        self.wanted = number + 1
        if len(self.chosen) == self._count:
            self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._count)
            self.wanted += int(math.log(1.0 - self._random.random()) / math.log1p(-self._weight))


def _lines(blocks: Iterable[bytes], reservoir: _Reservoir) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that the reservoir wants, each with its number. It is asked anew after each of them."""
    number = 0  # of the line at `position`
    begun: list[bytes] = []  # its bytes in earlier blocks, where it is wanted
    for block in blocks:
        position = 0
        left = block.count(b"\n")  # from `position` on
        while (skipped := reservoir.wanted - number) < left:
            if skipped:
                position = after_newline(block, position, len(block), skipped)
                number += skipped
                left -= skipped
            end = block.index(b"\n", position) + 1
            line = b"".join([*begun, block[position:end]])
            begun, position, number, left = [], end, number + 1, left - 1
            yield number - 1, line
        if left:
            position = block.rindex(b"\n", position) + 1
            number += left
        if number == reservoir.wanted:
            begun.append(block[position:])


def _in_order(file: int, chosen: list[tuple[int, int, int]]) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for _, offset, length in chosen:
        lines.append(os.pread(file, length, offset))
        size += length
        if size >= _BLOCK:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)
