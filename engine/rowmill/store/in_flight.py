"""A board of what is in flight in a worker, and of what it has counted, to be read after the worker's death.

Each slot has one 64-bit cell in a file that is mapped into memory. A store into the map costs no system call and
outlives the process that made it, SIGKILL included. It is never synced: after a power loss the board says nothing, and
then the rows in flight are simply done again, uncounted.

A worker leaves its board where it is. Who has read it removes it, but not before the counts are on the disk elsewhere.
"""

import mmap
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from rowmill.core import private_files
from rowmill.store.durable import machine_errors
from rowmill.store.framing import framed, unframed

_ALIGNED = 64  # bytes: no cell lies across two lines of the cache


class BoardHead(msgspec.Struct, frozen=True):
    """What the first record of a board says of the cells behind it."""

    board: str  # which it is, among those of all sessions
    slots: int
    providers: list[str]  # names, in the order of their numbers
    counts: list[str]  # what is counted, as `core.tallies` names it
    step: str | msgspec.UnsetType = msgspec.UNSET  # of the run, that its worker is at work on, where there are several


class InflightBoard:
    """Says which row is in which slot, and how many outcomes are not yet on the disk. One writer.

    cells: one number a slot, 0 for an empty one (as a new file has it) and row + 1 for a row; behind them one for the
    outcomes, negative. Written in place: the hot path has no time for calls.
    counts: what was counted so far, where the board has a head that names it; else empty.
    """

    __slots__ = ("_map", "_path", "cells", "counts")

    def __init__(self, path: Path, mapped: mmap.mmap, *, start: int = 0, counts: int = 0) -> None:
        """`start`: where the cells begin, in bytes. `counts`: how many of them are counts, the last ones."""
        self._path = path
        self._map = mapped
        end = len(mapped) - 8 * counts
        self.cells = memoryview(mapped)[start:end].cast("q")
        self.counts = memoryview(mapped)[end:].cast("q")

    @classmethod
    def create(cls, path: Path, slots: int, head: BoardHead | None = None) -> "InflightBoard":
        """Make the file for `slots` slots, all empty. What an earlier board left at `path` is replaced."""
        record = b"" if head is None else _record(head)
        counts = 0 if head is None else len(head.counts)
        with machine_errors(f"make the in-flight board {path}"):
            fd = private_files.make_file(path)
            try:
                size = len(record) + (slots + 1 + counts) * 8
                os.posix_fallocate(fd, 0, size)  # a store into a hole of a full disk would be a SIGBUS
                mapped = mmap.mmap(fd, size)
                mapped[: len(record)] = record
                return cls(path, mapped, start=len(record), counts=counts)
            finally:
                os.close(fd)

    @classmethod
    def unseen(cls) -> "InflightBoard":
        """Make one that nobody reads: where nothing is lost with a process that has been paid for."""
        return cls(Path(os.devnull), mmap.mmap(-1, 16))

    def note_unsynced(self, rows: int) -> None:
        """Note that so many rows have an outcome that a crash would lose."""
        self.cells[-1] = -rows

    def leave(self) -> None:
        """Let go of the board, for whoever reads it. A second call does nothing."""
        if not self._map.closed:
            self.cells.release()
            self.counts.release()
            self._map.close()

    def close(self) -> None:
        """Remove the board: whoever closes it has nothing in flight. A second call does nothing."""
        if not self._map.closed:
            self.leave()
            self._path.unlink(missing_ok=True)


class BoardReading(NamedTuple):
    """What a board said when its worker ended."""

    in_flight: list[int]  # rows, by slot
    unsynced: int  # rows whose outcome was lost with the worker's memory
    name: str = ""  # of the board; empty where it has no head
    providers: tuple[str, ...] = ()
    counts: Mapping[str, int] = MappingProxyType({})
    step: str = ""

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
    start = data.find(b"\n") + 1
    head = _head(data[:start])
    if head is None:  # of an earlier version, or one that was killed before it had written it
        return _reading(_cells(data))
    cells = _cells(data[start:])
    counts = dict(zip(head.counts, cells[head.slots + 1 :], strict=False))
    return _reading(cells[: head.slots + 1])._replace(
        name=head.board,
        providers=tuple(head.providers),
        counts=MappingProxyType(counts),
        step=head.step or "",
    )


def _record(head: BoardHead) -> bytes:
    """Return the record of a head, filled up so that the cells behind it are aligned."""
    json = msgspec.json.encode(head)
    return framed(json + b" " * (-len(framed(json)) % _ALIGNED))


def _head(record: bytes) -> BoardHead | None:
    json = unframed(record)
    try:
        return None if json is None else msgspec.json.decode(json, type=BoardHead)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _cells(data: bytes) -> "array[int]":
    return array("q", data[: len(data) // 8 * 8])


def _reading(cells: "array[int]") -> BoardReading:
    return BoardReading([row - 1 for row in cells if row > 0], -sum(cell for cell in cells if cell < 0))
