"""Where in a checkpoint each row's output line is: 13 bytes a row, no object for any."""

from array import array
from collections.abc import Iterator

from rowmill.core.counts import Totals
from rowmill.core.rows import Shard

MISSING, RESULT, FAILED = 0, 1, 2


class RowIndex:
    """The recorded rows of one shard. All arrays are by the row's place in the shard, from 0."""

    __slots__ = ("again", "lengths", "offsets", "shard", "states")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.states = bytearray(shard.rows)  # MISSING, RESULT or FAILED
        self.again: set[int] = set()  # places of rows whose failure was taken back at any time
        self.offsets = array("Q", bytes(8 * shard.rows))  # of the output line in the file
        self.lengths = array("I", bytes(4 * shard.rows))  # of the output line

    def forget_failed(self, totals: Totals) -> None:
        """Take the failed rows for missing, here and in what the rows add up to. What they have cost stays counted."""
        place = self.states.find(FAILED)
        while place >= 0:
            self.again.add(place)
            place = self.states.find(FAILED, place + 1)
        self.states = self.states.replace(bytes([FAILED]), bytes([MISSING]))
        totals.rows -= totals.failed
        totals.failed = 0

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of rows without a record: first and last row index of the input."""
        place = self.states.find(MISSING)
        while place >= 0:
            end = place
            while end < len(self.states) and self.states[end] == MISSING:
                end += 1
            yield self.shard.first_row + place, self.shard.first_row + end - 1
            place = self.states.find(MISSING, end)
