"""A board of the rows that are in flight in a worker, to be read after the worker's death.

Each slot has one 64-bit cell in a file that is mapped into memory. A store into the map costs no system call and
outlives the process that made it, SIGKILL included. It is never synced: after a power loss the board says nothing, and
then the rows in flight are simply done again, uncounted.
"""

import mmap
import os
from array import array
from pathlib import Path
from typing import NamedTuple

from rowmill.core import private_files
from rowmill.store.durable import machine_errors


class InflightBoard:
    """Says which row is in which slot, and how many outcomes are not yet on the disk. One writer.

    cells: one number a slot, 0 for an empty one (as a new file has it) and row + 1 for a row; behind them one for the
    outcomes, negative. Written in place: the hot path has no time for calls.
    """

    __slots__ = ("_map", "_path", "cells")

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self._path = path
        self._map = mapped
        self.cells = memoryview(mapped).cast("q")

    @classmethod
    def create(cls, path: Path, slots: int) -> "InflightBoard":
        """Make the file for `slots` slots, all empty. What an earlier board left at `path` is replaced."""
        with machine_errors(f"make the in-flight board {path}"):
            fd = private_files.make_file(path)
            try:
                size = (slots + 1) * 8
                os.posix_fallocate(fd, 0, size)  # a store into a hole of a full disk would be a SIGBUS
                return cls(path, mmap.mmap(fd, size))
            finally:
                os.close(fd)

    @classmethod
    def unseen(cls) -> "InflightBoard":
        """Make one that nobody reads: where nothing is lost with a process that has been paid for."""
        return cls(Path(os.devnull), mmap.mmap(-1, 16))

    def note_unsynced(self, rows: int) -> None:
        """Note that so many rows have an outcome that a crash would lose."""
        self.cells[-1] = -rows

    def close(self) -> None:
        """Remove the board: whoever closes it has nothing in flight. A second call does nothing."""
        if not self._map.closed:
            self.cells.release()
            self._map.close()
            self._path.unlink(missing_ok=True)


class BoardReading(NamedTuple):
    """What a board said when its worker ended."""

    in_flight: list[int]  # rows, by slot
    unsynced: int  # rows whose outcome was lost with the worker's memory

    @property
    def maybe_billed(self) -> int:
        """Requests that the server may have answered, and that have to be sent again."""
        return len(self.in_flight) + self.unsynced


def read_board(path: Path) -> BoardReading:
    """Read a board; an empty reading where there is none."""
    try:
        data = path.read_bytes()
    except OSError:  # none, or what lies there is no board: it only counts what may be billed twice
        return BoardReading([], 0)
    cells = array("q", data[: len(data) // 8 * 8])
    return BoardReading([row - 1 for row in cells if row > 0], -sum(cell for cell in cells if cell < 0))
