"""What a batch answered: its output and error files, found by custom_id.

The files have the requests' results in any order, and each may be 200 MB. They are read once, in blocks, and only where
a line stands is kept of it; a line is read again where it is asked for.
"""

import asyncio
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from rowmill.store import durable

_BLOCK_BYTES = 1 << 20
_OK = range(200, 300)
_NULL = msgspec.Raw(b"null")


class RequestResult(msgspec.Struct, frozen=True):
    """What came of one request."""

    status: int  # HTTP status; 0 where there was no reply
    body: bytes  # of the reply, JSON; empty where there was none
    code: str | None = None  # the batch's own, where there was no reply
    message: str | None = None

    @property
    def unasked(self) -> bool:
        """Whether the request was never made: the batch came to its end before."""
        return not self.status and self.code in ("batch_expired", "batch_cancelled")

    @property
    def ok(self) -> bool:
        """Whether it was answered, and is billed."""
        return self.status in _OK


class _ResultHeadResponse(msgspec.Struct):
    status_code: int | None = None


class _ResultHead(msgspec.Struct):
    """A line, but for what may be large."""

    custom_id: str
    response: _ResultHeadResponse | None = None


class _ResultResponse(msgspec.Struct):
    status_code: int | None = None
    body: msgspec.Raw = _NULL


class _ResultError(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None


class _ResultLine(msgspec.Struct):
    response: _ResultResponse | None = None
    error: _ResultError | str | None = None


# Not strict: a status may be written as a text.
_decode_head = msgspec.json.Decoder(_ResultHead, strict=False).decode
_decode_line = msgspec.json.Decoder(_ResultLine, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Results:
    """The results of one batch. A context manager, whose end closes the files.

    unreadable: lines that are no result of any request.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Open the files. Nothing is known of them until `read`."""
        self.unreadable = 0
        self._files: list[BinaryIO] = []
        with ExitStack() as opened:
            for path in paths:
                with durable.machine_errors(f"read {path}"):
                    self._files.append(opened.enter_context(path.open("rb", buffering=0)))
            self._opened = opened.pop_all()
        self._numbers: dict[str, int] = {}  # custom_id -> place in the arrays
        self._file = array("H")
        self._offset = array("Q")
        self._length = array("I")
        self._ok = bytearray()  # whether the request was answered

    @classmethod
    async def read(cls, paths: Sequence[Path]) -> Self:
        """Find the results in a batch's files. Raises `MachineError` where they cannot be read."""
        results = cls(paths)
        try:
            for number, path in enumerate(paths):
                with durable.machine_errors(f"read {path}"):
                    await results._scan(number)
        except BaseException:
            results.close()
            raise
        return results

    def __repr__(self) -> str:
        return f"<Results {len(self)} in {len(self._files)} files, {self.unreadable} unreadable>"

    def __len__(self) -> int:
        return len(self._numbers)

    def ids(self) -> Iterator[str]:
        """Return the custom_ids, as they stand in the files."""
        return iter(self._numbers)

    def __getitem__(self, custom_id: str) -> RequestResult:
        """Read a request's result again. Raises `KeyError` where there is none."""
        number = self._numbers[custom_id]
        line = os.pread(self._files[self._file[number]].fileno(), self._length[number], self._offset[number])
        try:
            return _result(_decode_line(line))
        except _UNREADABLE as error:
            return RequestResult(0, b"", None, f"the batch's result cannot be read: {error}")

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _scan(self, number: int) -> None:
        file = self._files[number]
        offset = 0  # of the line that is being read
        pieces: list[bytes] = []  # of it, where it is longer than a block
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            lines = block.split(b"\n")
            for line in lines[:-1]:
                whole = b"".join((*pieces, line)) if pieces else line
                pieces = []
                self._note(whole, number, offset)
                offset += len(whole) + 1
            if lines[-1]:
                pieces.append(lines[-1])
        if pieces:
            self._note(b"".join(pieces), number, offset)

    def _note(self, line: bytes, file: int, offset: int) -> None:
        if not line.strip():
            return
        try:
            head = _decode_head(line)
        except _UNREADABLE:
            self.unreadable += 1
            return
        if not head.custom_id:
            self.unreadable += 1
            return
        ok = head.response is not None and head.response.status_code in _OK
        number = self._numbers.setdefault(head.custom_id, len(self._ok))
        if number == len(self._ok):
            self._file.append(file)
            self._offset.append(offset)
            self._length.append(len(line))
            self._ok.append(ok)
        elif ok and not self._ok[number]:
            self._file[number], self._offset[number], self._length[number], self._ok[number] = (
                file, offset, len(line), True,
            )  # fmt: skip


def _result(line: _ResultLine) -> RequestResult:
    response, error = line.response, line.error
    body = b"" if response is None else _body(bytes(response.body))
    if response is not None and response.status_code:
        return RequestResult(response.status_code, body)
    if isinstance(error, _ResultError):
        return RequestResult(0, body, None if error.code is None else str(error.code), error.message)
    return RequestResult(0, body, None, error)


def _body(body: bytes) -> bytes:
    """Return a reply's body; some servers write it as a text that holds the JSON."""
    if body == b"null":
        return b""
    return _decode_text(body).encode() if body[:1] == b'"' else body
