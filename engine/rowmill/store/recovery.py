"""Reading a checkpoint back after whatever happened to it.

The file is a sequence of records (see `framing`), appended in groups:

    header   {"rowmill":2,"shard":[number,first_row,rows,start,end,crc,part]}         once, first
    group    {"group":n,"synced":offset}                                              first in every group
    row      {"row":index,"attempts":..,"requests":..,"ms":..,"provider":..,"failed":..,"usage":[..],"line":{..}}
    reply    {"reply":index,"requests":..,"usage":[..],"problem":"..","output":".."}  paid for, but no valid answer;
             with "ended":{..} one that ended too soon, for which the row is asked once more
    retry    {"retry":n}                     the n rows that had failed until here are to be done again, as if missing

A reply record is written before its row is asked again, so that a crash in between asks no question twice.

The header is on the disk before anything is appended. A group record is written only after a sync of everything before
it has returned, so it proves that all bytes before its own offset once were on the disk, whole. From that:

- A broken record **before** the last group record's offset is **damage**: a disk or a foreign hand changed what was
  acknowledged. It is refused, and salvaged only when the user asks for it.
- A broken record **after** it is a **torn group**, what a crash leaves: the file is cut at the first broken record. The
  group was never acknowledged, or no later group record says so. `Checkpoint.close` appends a last group record, so a
  checkpoint that was closed is proven to its end.
- A group record that is not at the offset it names means that bytes before it are missing or were added: damage.

Known gap: a file that was cut short at its end looks like a torn group. Its rows are done again, which costs money but
no correctness.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Self

import msgspec

from rowmill.core import private_files
from rowmill.core.counts import Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.framing import FORMAT, FRAME_BYTES, framed, unframed, unframed_at_end
from rowmill.store.row_index import FAILED, MISSING, RESULT, RowIndex

_BUFFER_BYTES = 1 << 20
_NAMED_RANGES = 20  # ranges of rows that an error names before it only counts

LINE_MEMBER = b',"line":'  # first found, it is the member itself: in the strings before it every quote is escaped
_REPLY, RETRY = b'{"reply"', b'{"retry"'  # what the records begin with


class _CheckpointHeader(msgspec.Struct):
    rowmill: int
    shard: msgspec.Raw


class _GroupRecord(msgspec.Struct):
    group: int
    synced: int


class EndedReply(msgspec.Struct):
    """What is kept beside the content of a reply that ended too soon; see `wire.Answer`."""

    valid: bool  # it is an answer but for its end
    finish_reason: msgspec.Raw
    model: msgspec.Raw
    usage: msgspec.Raw
    cached: int = 0
    more: msgspec.Raw | None = None  # an object


class StoredReply(msgspec.Struct):
    """A reply that was paid for, but whose content was no valid answer to its row."""

    reply: int  # index of the row
    requests: int  # that the row had taken by then
    usage: tuple[int, int]
    problem: str
    output: msgspec.Raw  # the content as it came, a JSON string; of one that only ended too soon, the output
    ended: EndedReply | None = None  # it ended too soon, for which a row is asked once more at most


class _RetryRecord(msgspec.Struct):
    retry: int


class RowRecord(msgspec.Struct):
    """A row record without its line."""

    row: int
    attempts: int
    requests: int
    failed: bool
    usage: tuple[int, int]


_decode_header = msgspec.json.Decoder(_CheckpointHeader).decode
_decode_shard = msgspec.json.Decoder(Shard).decode
_decode_group = msgspec.json.Decoder(_GroupRecord).decode
_decode_row = msgspec.json.Decoder(RowRecord).decode
_decode_reply = msgspec.json.Decoder(StoredReply).decode
_decode_retry = msgspec.json.Decoder(_RetryRecord).decode


def header_record(shard: Shard) -> bytes:
    """Return the first record of a shard's checkpoint."""
    return framed(b'{"rowmill":%d,"shard":%b}' % (FORMAT, msgspec.json.encode(shard)))


def group_record(group: int, synced: int) -> bytes:
    """Return the first record of a group that starts at the offset `synced`, all bytes before it being synced."""
    return framed(b'{"group":%d,"synced":%d}' % (group, synced))


def reply_record(
    index: int, requests: int, usage: tuple[int, int], problem: str, output: bytes, *, ended: EndedReply | None = None
) -> bytes:
    """Return the record of a reply that is no valid answer; `output` is its content as a JSON string."""
    text = msgspec.json.encode(problem)
    more = b"" if ended is None else b',"ended":%b' % msgspec.json.encode(ended)
    return framed(
        b'{"reply":%d,"requests":%d,"usage":[%d,%d],"problem":%b,"output":%b%b}'
        % (index, requests, *usage, text, output, more)
    )


def retry_record(rows: int) -> bytes:
    """Return the record from which on so many failed rows count as missing."""
    return framed(b'{"retry":%d}' % rows)


def row_records(path: Path) -> Iterator[RowRecord]:
    """Yield the records of rows in a checkpoint that are valid. Of a row that was done again there are several."""
    with path.open("rb", _BUFFER_BYTES) as file:
        for record in file:
            json = unframed(record)
            row = None if json is None else _row_of(json)
            if row is not None:
                yield row


def _row_of(json: bytes) -> RowRecord | None:
    """Return the row that a record is of; None where it is of none. Raise msgspec.DecodeError for another format."""
    at = json.find(LINE_MEMBER)
    return None if at < 0 else _decode_row(json[:at] + b"}")


def row_in(json: bytes) -> int | None:
    """Return the number of the row that a record is of, or the reply in it; None where it is of none."""
    if json.startswith(_REPLY):
        return _decode_reply(json).reply
    row = _row_of(json)
    return None if row is None else row.row


def attempts_of(row: bytes) -> int:
    """Return the attempts that a row took, from its record's JSON up to its line."""
    return _decode_row(row.removesuffix(LINE_MEMBER) + b"}").attempts


class CheckpointReading:
    """What a checkpoint holds. `read` fills it; nothing of it changes the file."""

    def __init__(self, path: Path, shard: Shard) -> None:
        self.path = path
        self.index = RowIndex(shard)
        self.totals = Totals()
        self.replies: dict[int, list[StoredReply]] = {}  # of rows without an outcome
        self.repeated = 0  # valid records of rows that were recorded before: the first one counts
        self.groups = 0  # the number that the next group gets
        self.size = 0  # bytes of the file
        self.end = 0  # offset after the last record that counts
        self.proven = 0  # everything before this offset, the last group record's, is known to have been synced
        self.proven_end = 0  # offset after the last group record
        self.broken_at: int | None = None  # offset of the first broken record
        self.broken_bytes = 0
        self.headed = False
        self.damaged = False

    def read(self, end: int | None = None) -> Self:
        """Read the file, or its records up to an offset. Raise RunDirectoryError for another shard's or format's."""
        with self.path.open("rb", _BUFFER_BYTES) as file:
            for record in file:
                if self.size == end:
                    break
                if not self._take(record):
                    self._note_broken(self.size, len(record))
                    self._take_glued_group(record)
                self.size += len(record)
        if not self.headed:
            self._note_broken(0, 0)
        if self.broken_at is None:
            self.end = self.size
        else:
            self.end = self.broken_at
            self.damaged = self.damaged or not self.headed or self.broken_at < self.proven
        return self

    def _take(self, record: bytes) -> bool:
        json = unframed(record)
        if json is None:
            return False
        at = json.find(LINE_MEMBER)
        try:
            if at >= 0:
                line = at + len(LINE_MEMBER)
                self._take_row(_decode_row(json[:at] + b"}"), self.size + FRAME_BYTES + line, len(json) - line - 1)
            elif self.size == 0:
                self._take_header(json)
            elif json.startswith(_REPLY):
                stored = _decode_reply(json)
                self.replies.setdefault(stored.reply, []).append(stored)
            elif json.startswith(RETRY):
                _decode_retry(json)
                self.index.forget_failed(self.totals)
            else:
                self._take_group(_decode_group(json), len(record))
        except msgspec.DecodeError:
            return False  # its checksum is right, but it is no record of this format
        return True

    def _take_header(self, json: bytes) -> None:
        header = _decode_header(json)
        if header.rowmill != FORMAT:
            msg = (
                f"{self.path} has checkpoint format {header.rowmill}, this version reads {FORMAT}: "
                "resume the run with the Rowmill that started it"
            )
            raise RunDirectoryError(msg)
        shard = _decode_shard(header.shard)
        if shard != self.index.shard:
            msg = (
                f"{self.path} is the checkpoint of another shard (its number {shard.number}, "
                f"rows from {shard.first_row}, CRC {shard.crc:08x}): use the run directory of this input"
            )
            raise RunDirectoryError(msg)
        self.headed = True

    def _take_group(self, group: _GroupRecord, record_bytes: int) -> None:
        self.groups = group.group + 1
        self.proven = self.size
        self.proven_end = self.size + record_bytes
        if group.synced != self.size:
            self.damaged = True
            self._note_broken(min(group.synced, self.size), 0)

    def _take_glued_group(self, broken: bytes) -> None:
        """Find a group record at the end of a broken one, whose newline between them is what broke.

        Without this, one flipped bit before the last group record would make the last row look torn.
        """
        json = unframed_at_end(broken, b'{"group":')
        if json is None:
            return
        try:
            group = _decode_group(json)
        except msgspec.DecodeError:
            return
        end = self.size + len(broken)
        if group.synced == end - len(framed(json)):
            self.groups = group.group + 1
            self.proven = group.synced
            self.proven_end = end

    def _take_row(self, head: RowRecord, offset: int, length: int) -> None:
        index, totals = self.index, self.totals
        place = head.row - index.shard.first_row
        if not 0 <= place < index.shard.rows:
            raise RunDirectoryError(f"{self.path} has a record of row {head.row}, which is not in this shard")
        if index.states[place] != MISSING:
            self.repeated += 1
            return
        self.replies.pop(head.row, None)
        index.states[place] = FAILED if head.failed else RESULT
        index.offsets[place] = offset
        index.lengths[place] = length
        totals.rows += 1
        totals.failed += head.failed
        totals.prompt_tokens += head.usage[0]
        totals.completion_tokens += head.usage[1]
        totals.requests += head.requests

    def _note_broken(self, offset: int, size: int) -> None:
        self.broken_bytes += size
        self.broken_at = offset if self.broken_at is None else min(self.broken_at, offset)


def recover(path: Path, shard: Shard, *, salvage: bool) -> CheckpointReading:
    """Read a checkpoint up to the torn group at its end, whose bytes `broken_bytes` of what is returned counts.

    Damage is a RunDirectoryError, or with `salvage` leaves every valid record in a new file and the damaged one beside
    it as `<name>.damaged-<n>`.
    """
    reading = CheckpointReading(path, shard).read()
    broken = reading.size - reading.end
    if reading.damaged:
        if not salvage:
            raise RunDirectoryError(_describe_damage(reading))
        broken = reading.broken_bytes
        _salvage(reading)
        reading = CheckpointReading(path, shard).read()
    elif broken:
        reading = CheckpointReading(path, shard).read(reading.end)
    reading.broken_bytes = broken
    return reading


def _salvage(reading: CheckpointReading) -> None:
    """Replace a damaged checkpoint by one of its valid records. The damaged one stays, under another name."""
    path, shard = reading.path, reading.index.shard
    fresh = path.with_name(f".{path.name}.salvage.tmp")
    written = bytearray(shard.rows)

    def wanted(json: bytes) -> bool:
        if json.startswith(RETRY):
            written[:] = bytes(shard.rows)  # a row may stand a second time from here on
        if json.startswith((_REPLY, RETRY)):
            return True
        row = _row_of(json)
        if row is None or written[row.row - shard.first_row]:
            return False
        written[row.row - shard.first_row] = True
        return True

    write_anew(path, fresh, shard, wanted)
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    durable.set_aside(path, aside, fresh)


def write_anew(path: Path, fresh: Path, shard: Shard, wanted: Callable[[bytes], bool]) -> None:
    """Make a checkpoint of a shard of those valid records of another one that are wanted, told by their JSON."""
    with path.open("rb", _BUFFER_BYTES) as old, os.fdopen(private_files.make_file(fresh), "wb", _BUFFER_BYTES) as new:
        new.write(header_record(shard))
        new.write(group_record(0, new.tell()))
        for record in old:
            json = unframed(record)
            with suppress(msgspec.DecodeError):  # of no format that is known
                if json is not None and wanted(json):
                    new.write(record)
        new.write(group_record(1, new.tell()))
        new.flush()
        durable.sync_file(new.fileno())


def _describe_damage(reading: CheckpointReading) -> str:
    shard = reading.index.shard
    missing = shard.rows - reading.totals.rows
    first_ranges = islice(reading.index.missing(), _NAMED_RANGES + 1)
    ranges = [f"{first}" if first == last else f"{first}-{last}" for first, last in first_ranges]
    if len(ranges) > _NAMED_RANGES:
        ranges[_NAMED_RANGES:] = ["..."]
    affected = (
        f"without a valid record are {missing} of its {shard.rows} rows: {', '.join(ranges)}"
        if missing
        else f"all its {shard.rows} rows still have a valid record"
    )
    return (
        f"{reading.path} is damaged at byte {reading.broken_at} ({reading.broken_bytes} bytes are no valid records); "
        f"{affected}. Run the same command again with --salvage to keep every valid record and do only those rows again"
    )
