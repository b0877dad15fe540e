"""What a batch answered: its output and error files, found by custom_id.

The files have the requests' results in any order, and each may be 200 MB. They are read once, in blocks, and only where
a line stands is kept of it; a line is read again where it is asked for.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, TypeVar

import msgspec

from rowmill.store import durable
from rowmill.tasks.mended import mended
from rowmill.transport.reply_size import LONGEST

_BLOCK_BYTES = 1 << 20
_OK = range(200, 300)
_ID = re.compile(
    rb'"custom_id"\s*:\s*"([rx0-9]{1,64})"'
)  # where it is looked for in a line that is too long to be read
_NULL = msgspec.Raw(b"null")
Line = TypeVar("Line")


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


class _ResultResponse(msgspec.Struct):
    status_code: int | None = None
    body: msgspec.Raw = _NULL


class _ResultHead(msgspec.Struct):
    """What is looked at to find a line again."""

    custom_id: str
    response: _ResultResponse | None = None


class _ResultError(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None


class _ResultLine(_ResultHead):
    error: _ResultError | str | None = None


# Not strict: a status may be written as a text.
_decode_head = msgspec.json.Decoder(_ResultHead, strict=False).decode
_decode_line = msgspec.json.Decoder(_ResultLine, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _ResultPlace(NamedTuple):
    """Where a result stands, and whether its request was answered."""

    file: BinaryIO
    offset: int
    length: int  # bytes
    answered: bool


class Results:
    """The results of one batch, as long as `read` has its files open."""

    def __init__(self) -> None:
        self._places: dict[str, _ResultPlace] = {}  # by custom_id

    @classmethod
    @asynccontextmanager
    async def read(cls, paths: Sequence[Path]) -> AsyncIterator[Self]:
        """Find the results in a batch's files. Raises `MachineError` where they cannot be read."""
        results = cls()
        with ExitStack() as files:
            for path in paths:
                with durable.machine_errors(f"read {path}"):
                    await results._scan(files.enter_context(path.open("rb", buffering=0)))
            yield results

    def __repr__(self) -> str:
        return f"<Results of {len(self)} requests>"

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """Return the custom_ids, as they stand in the files."""
        return iter(self._places)

    def __getitem__(self, custom_id: str) -> RequestResult:
        """Read a request's result again. Raises `KeyError` where there is none."""
        place = self._places[custom_id]
        if place.length > LONGEST:
            message = f"the result has {place.length >> 20} MiB, more than the {LONGEST >> 20} that a reply may have"
            return RequestResult(0, b"", None, message)
        try:
            return _result(_read(_decode_line, os.pread(place.file.fileno(), place.length, place.offset)))
        except _UNREADABLE as error:
            return RequestResult(0, b"", None, f"the batch's result cannot be read: {error}")

    async def _scan(self, file: BinaryIO) -> None:
        offset = 0  # of the line that is being read
        pieces: list[bytes] = []  # of it, where it is longer than a block
        before = 0  # bytes of it in earlier blocks, of which only the first is kept once they are too many
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            lines = block.split(b"\n")
            for line in lines[:-1]:
                self._note_pieces([*pieces, line], before + len(line), file, offset)
                offset += before + len(line) + 1
                pieces, before = [], 0
            before += len(lines[-1])
            if before > LONGEST:
                del pieces[1:]
            elif lines[-1]:
                pieces.append(lines[-1])
        self._note_pieces(pieces, before, file, offset)

    def _note_pieces(self, pieces: list[bytes], length: int, file: BinaryIO, offset: int) -> None:
        if length <= LONGEST:
            self._note(pieces[0] if len(pieces) == 1 else b"".join(pieces), file, offset)
        elif found := _ID.search(pieces[0]):
            self._places.setdefault(found[1].decode(), _ResultPlace(file, offset, length, answered=False))

    def _note(self, line: bytes, file: BinaryIO, offset: int) -> None:
        """Note where a line stands, unless it is the result of no request. Of several results an answer counts."""
        try:
            head = _read(_decode_head, line)
        except _UNREADABLE:
            return
        answered = head.response is not None and head.response.status_code in _OK
        before = self._places.get(head.custom_id)
        if head.custom_id and (before is None or (answered and not before.answered)):
            self._places[head.custom_id] = _ResultPlace(file, offset, len(line), answered)


def _read(decode: Callable[[bytes], Line], line: bytes) -> Line:
    """Decode a line; one with a few broken bytes was paid for as any other (see `mended`)."""
    try:
        if not line.isascii():
            line.decode()  # a body is passed on unread
        return decode(line)
    except _UNREADABLE:
        return decode(mended(line))


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
