"""OpenAI batch files: JSON Lines whose rows are told apart by their `custom_id`.

Answers are matched to rows by it, so it must be there, be text, and be there once. A row of which that is not true
becomes a `BROKEN` line that says so; every other line stays as it is, whatever it holds.

To know an id again, 8 bytes of its BLAKE2 and the row's number are kept in a hash table: 16 bytes a slot, at most two
thirds of the slots in use. A million rows take 32 MiB (64 MiB for a moment, as the table grows). Two ids with the same
8 bytes would make the later one a duplicate: for a million rows that is a chance of 1 to 37 million.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from rowmill.core.rows import BROKEN
from rowmill.files.input.jsonl import bounded_lines

_SLOTS = 1 << 12
_SHOWN = 100  # characters of an id in a message


class _Ids(msgspec.Struct, gc=False):
    custom_id: str


_decode = msgspec.json.Decoder(_Ids).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class CustomIds:
    """Checks the ids of one input, whose files come one after the other."""

    def __init__(self) -> None:
        self._seen = _IdTable()
        self._files: list[str] = []
        self._first_rows: list[int] = []  # of each file
        self._rows = 0

    def blocks(self, blocks: Iterable[bytes], path: str) -> Iterator[bytes]:
        """Yield a file's blocks, which end with a newline, with broken lines in the place of rows without a good id."""
        self._files.append(path)
        self._first_rows.append(self._rows)
        for block in bounded_lines(blocks):
            yield b"\n".join([self._checked(line) for line in block[:-1].split(b"\n")]) + b"\n"

    def _checked(self, line: bytes) -> bytes:
        row = self._rows
        self._rows += 1
        if line.startswith(BROKEN):
            return BROKEN + f"{self._place(row)}: ".encode() + line[len(BROKEN) :]
        try:
            custom_id = _decode(line).custom_id
        except _DECODE_ERRORS:
            found = _custom_id_of(line)
            if isinstance(found, bytes):
                return BROKEN + f"{self._place(row)}: ".encode() + found if found else line
            custom_id = found
        before = self._seen.add(custom_id, row)
        if before is None:
            return line
        shown = json.dumps(custom_id[:_SHOWN])
        reason = f"{self._place(row)}: the custom_id {shown} is that of {self._place(before)} too"
        return BROKEN + reason.encode() + BROKEN + line

    def _place(self, row: int) -> str:
        file = bisect_right(self._first_rows, row) - 1
        line = f"line {row - self._first_rows[file] + 1}"
        return line if len(self._files) == 1 else f"{line} of {self._files[file]}"


def looks_like_batch(line: bytes) -> bool:
    """Tell whether a first line is that of a batch file: an object with all four members."""
    try:
        row = json.loads(line)  # NaN in a body is no reason to take it for another file
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"custom_id", "method", "url", "body"} <= row.keys()


def _custom_id_of(line: bytes) -> str | bytes:
    """Return the id of a line that is not as it should be, or what is wrong with it; nothing where it is no object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return b""
    if not isinstance(row, dict):
        return b""
    if "custom_id" not in row:
        return b"the row has no custom_id"
    custom_id: Any = row["custom_id"]
    return custom_id if isinstance(custom_id, str) else b"the custom_id is no text"


class _IdTable:
    """A hash table from ids to row numbers, with open addressing."""

    def __init__(self) -> None:
        self._slots = _SLOTS
        self._used = 0
        self._make()

    def _make(self) -> None:
        self._digests = memoryview(bytearray(8 * self._slots)).cast("Q")  # 0: the slot is free
        self._rows = memoryview(bytearray(8 * self._slots)).cast("Q")

    def add(self, custom_id: str, row: int) -> int | None:
        """Remember the row under its id; return the row that had the id before, if any."""
        digest = int.from_bytes(blake2b(custom_id.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
        digest = digest or 1
        slot = self._slot(digest)
        if self._digests[slot]:
            return self._rows[slot]
        self._digests[slot], self._rows[slot] = digest, row
        self._used += 1
        if self._used * 3 > self._slots * 2:
            self._grow()
        return None

    def _slot(self, digest: int) -> int:
        digests, mask = self._digests, self._slots - 1
        slot = digest & mask
        while (found := digests[slot]) and found != digest:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        digests, rows = self._digests, self._rows
        self._slots *= 2
        self._make()
        for digest, row in zip(digests, rows, strict=True):
            if digest:
                slot = self._slot(digest)
                self._digests[slot], self._rows[slot] = digest, row
