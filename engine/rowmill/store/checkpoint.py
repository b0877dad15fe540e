"""The checkpoint of one shard: an append-only file that holds the outcome of every row done so far.

Rows are appended in memory and written in groups: one write and one sync for all rows of about a tenth of a second,
because a sync costs milliseconds and a row must cost microseconds. **A row is acknowledged only when the sync of its
group has returned.** What the file looks like, and how it is read after a crash, is said in `recovery`.

One object is the only writer of its file. It runs in one event loop; `append` and `is_done` never wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core.counts import Totals
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.append_log import AppendLog, Carry
from rowmill.store.recovery import (
    CheckpointReading,
    EndedReply,
    StoredReply,
    group_record,
    header_record,
    recover,
    reply_record,
    retry_record,
)
from rowmill.store.row_index import FAILED, MISSING, RESULT
from rowmill.store.seal import Sealed, write_sealed

_NEWLINE = ord("\n")

T = TypeVar("T")


class _Pending:
    """What pending records add up to, as `Totals`: to add to a struct takes ten times as long."""

    __slots__ = Totals.__struct_fields__
    rows: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    requests: int

    def __init__(self) -> None:
        self.rows = self.failed = self.prompt_tokens = self.completion_tokens = self.requests = 0

    def totals(self) -> Totals:
        """Return the same as others know it."""
        return Totals(**{name: getattr(self, name) for name in self.__slots__})


class Checkpoint:
    """The outcomes of one shard's rows, in memory until `commit`, on the disk after it.

    shard: the rows that it is about.
    acknowledged: what the synced rows add up to. Only grows.
    cut_bytes: bytes of a torn group, or of salvaged damage, that opening it dropped.
    repeated: records that opening it ignored because their row was recorded before.
    replies: of rows without an outcome, what was replied and is no valid answer, as opening it found it.
    """

    def __init__(self, path: Path, log: AppendLog, reading: CheckpointReading) -> None:
        self.path = path
        self.shard = reading.index.shard
        self.acknowledged = reading.totals
        self.cut_bytes = reading.broken_bytes
        self.repeated = reading.repeated
        self.replies: dict[int, list[StoredReply]] = reading.replies
        self._log = log
        self._index = reading.index
        self._states = reading.index.states
        self._offsets = reading.index.offsets
        self._lengths = reading.index.lengths
        self._first_row = reading.index.shard.first_row
        self._group = reading.groups  # number of the next group
        self._proven = log.end == reading.proven_end  # the file ends with a group record
        self._end = log.end  # offset after all records, the pending ones included
        self._written = log.end  # offset after the records that were handed to the kernel, or are being
        self._pending: list[bytes] = []  # records
        self._pending_totals = _Pending()
        self._providers: dict[str, bytes] = {}  # name -> JSON
        self._lock = asyncio.Lock()  # one group at a time is on its way to the disk

    @classmethod
    async def open(cls, path: Path, shard: Shard, *, salvage: bool = False, carry: Carry | None = None) -> Self:
        """Open the checkpoint at `path`, or make an empty one there.

        `carry`: brings each group to where it counts, where that is not this machine's disk.

        Raise RunDirectoryError where the file is damaged (and `salvage` is False) or is another shard's, MachineError
        where it cannot be read or written.
        """
        with durable.machine_errors(f"open the checkpoint {path}"):
            log, reading = await asyncio.to_thread(_open, path, shard, salvage)
        log.carry = carry
        return cls(path, log, reading)

    @property
    def complete(self) -> bool:
        """Whether every row of the shard has an acknowledged outcome."""
        return self.acknowledged.rows == self.shard.rows

    @property
    def recorded(self) -> bool:
        """Whether every row of the shard has an outcome, which the next commit acknowledges at the latest."""
        return self.acknowledged.rows + self._pending_totals.rows == self.shard.rows

    @property
    def pending_bytes(self) -> int:
        """Bytes that the next commit would write."""
        return self._end - self._written

    def is_done(self, index: int) -> bool:
        """Whether the row has an outcome here, acknowledged or still pending."""
        return self._states[index - self._first_row] != MISSING

    def lacks(self, first: int, rows: int) -> bool:
        """Whether none of so many rows has an outcome here; the same as `is_done` of each, at once."""
        place = first - self._first_row
        return self._states.count(MISSING, place, place + rows) == rows

    def append(  # noqa: PLR0917 - called once a row: names cost more than the reader of one call gains
        self,
        index: int,
        attempts: int,
        requests: int,
        ms: int,
        provider: str,
        line: bytes,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        failed: bool = False,
    ) -> None:
        """Record the outcome of row `index`, to be written by the next commit.

        `line` is its output line without newline; `ms` its latency. Nothing is checked against a broken disk here:
        the commit says so. A row that has an outcome already is a defect and raises ValueError.
        """
        place = index - self._first_row
        if place < 0 or self._states[place] or _NEWLINE in line:
            raise ValueError(f"row {index} is recorded already, not of shard {self.shard.number}, or not one line")
        json = b'{"row":%d,"attempts":%d,"requests":%d,"ms":%d,"provider":%b,"failed":%b,"usage":[%d,%d],"line":%b}' % (
            index,
            attempts,
            requests,
            ms,
            self._providers.get(provider) or self._encode_provider(provider),
            b"true" if failed else b"false",
            prompt_tokens,
            completion_tokens,
            line,
        )
        record = b"%08x %b\n" % (crc32(json), json)  # as `framed`, without the cost of a call
        if not self._pending:
            self._begin_group()
        self._pending.append(record)
        self._end = end = self._end + len(record)
        length = self._lengths[place] = len(line)
        self._offsets[place] = end - 2 - length
        totals = self._pending_totals
        totals.rows += 1
        totals.prompt_tokens += prompt_tokens
        totals.completion_tokens += completion_tokens
        totals.requests += requests
        if failed:
            totals.failed += 1
            self._states[place] = FAILED
        else:
            self._states[place] = RESULT

    def append_reply(
        self,
        index: int,
        requests: int,
        usage: tuple[int, int],
        problem: str,
        output: bytes,
        *,
        ended: EndedReply | None = None,
    ) -> int:
        """Record a reply that is no valid answer to row `index`; returns the bytes of its record.

        `output` is its content as a JSON string, `usage` its prompt and completion tokens.
        """
        return self._append_record(reply_record(index, requests, usage, problem, output, ended=ended))

    def forget_failed(self) -> None:
        """Take the rows that failed for missing from now on: they are to be done again."""
        if self.acknowledged.failed:
            self._append_record(retry_record(self.acknowledged.failed))
            self._index.forget_failed(self.acknowledged)
            self._states = self._index.states

    def failed_before(self) -> frozenset[int]:
        """Return the rows without an outcome that had failed before: the other ones were never asked to an end."""
        index = self._index
        return frozenset(self._first_row + place for place in index.again if index.states[place] == MISSING)

    def _append_record(self, record: bytes) -> int:
        if not self._pending:
            self._begin_group()
        self._pending.append(record)
        self._end += len(record)
        return len(record)

    def _encode_provider(self, provider: str) -> bytes:
        name = self._providers[provider] = msgspec.json.encode(provider)
        return name

    def _begin_group(self) -> None:
        # It is written only after the sync of everything before its offset: groups go to the disk one after another.
        record = group_record(self._group, self._end)
        self._pending.append(record)
        self._end += len(record)
        self._group += 1

    async def commit(self) -> Totals:
        """Bring all pending rows to the disk and return what they add up to.

        Rows appended meanwhile wait for the next commit. After a failed write or sync, this and every later commit
        raises MachineError and nothing is ever written again: what the disk has is found out by opening the file anew.
        A cancelled commit still runs to its end; that it failed is raised by the next call.
        """
        return await _to_its_end(self._commit)

    async def _commit(self) -> Totals:
        async with self._lock:
            self._log.check()
            return await self._commit_pending()

    async def _commit_pending(self) -> Totals:
        records, totals = self._pending, self._pending_totals.totals()
        if records:
            self._pending, self._pending_totals = [], _Pending()
            self._written = self._end
            await self._log.append_in_thread(b"".join(records))
            self._proven = len(records) == 1  # the group record of `close`, which nothing follows
            self.acknowledged.add(totals)
        return totals

    async def seal(self, directory: Path, codec: OutputCodec) -> Sealed:
        """Write the sealed shard file into `directory`. Every row must be acknowledged (else ValueError)."""
        if not self.complete:
            raise ValueError(f"shard {self.shard.number} has {self.acknowledged.rows} of {self.shard.rows} rows")
        return await _to_its_end(lambda: self._seal(directory, codec))

    async def _seal(self, directory: Path, codec: OutputCodec) -> Sealed:
        async with self._lock:
            return await asyncio.to_thread(write_sealed, directory, self.path, self._index, self.acknowledged, codec)

    async def close(self) -> None:
        """Commit what is pending, prove the file to its end with a last group record, and close it.

        Raise MachineError where something could not be written, now or by a commit before: then it is only closed.
        A second call does nothing.
        """
        await _to_its_end(self._close)

    async def _close(self) -> None:
        async with self._lock:
            if self._log.closed:
                return
            try:
                self._log.check()
                await self._commit_pending()
                if not self._proven:
                    self._begin_group()
                    await self._commit_pending()
            finally:
                self._log.close()


def _open(path: Path, shard: Shard, salvage: bool) -> tuple[AppendLog, CheckpointReading]:
    return AppendLog.open("checkpoint", path, header_record(shard), lambda: recover(path, shard, salvage=salvage))


async def _to_its_end(step: Callable[[], Awaitable[T]]) -> T:
    """Run a step that must not be broken off in the middle, whatever becomes of the caller."""
    task = asyncio.ensure_future(step())
    task.add_done_callback(_see)
    return await asyncio.shield(task)


def _see(task: asyncio.Future[T]) -> None:
    """Look at a failure whose caller is gone, or asyncio logs it as lost. It is not: see `Checkpoint.close`."""
    if not task.cancelled():
        task.exception()
