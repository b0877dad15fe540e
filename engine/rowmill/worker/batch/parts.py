"""The file of a part: a line for each request, of rows without an outcome, in their order.

The file depends on the input, on the checkpoints and on the limits alone. It is written in blocks of about 1 MiB and
held in no other way; what a killed process has left of one is written over.

Rows that share a request (task.rows_per_request) are neighbours: a row that has its outcome, that cannot become a
request, or that is to be asked alone ends a pack, and so do a shard and a part. A row is asked alone where a reply to
it is stored: it was asked in a pack, or alone, and the reply was no valid answer. Rows of a pack that may have failed
for one of them are stored so too (see `collect`).
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Literal

import aiofiles
import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core import private_files
from rowmill.core.amounts import Amount
from rowmill.core.errors import InvalidRow
from rowmill.core.rows import Shard
from rowmill.core.wire import Failure, Request
from rowmill.store import durable
from rowmill.store.recovery import StoredReply
from rowmill.tasks.caps import with_cap
from rowmill.transport import faults
from rowmill.worker.batch.custom_ids import custom_id
from rowmill.worker.batch.shards import ShardAccess
from rowmill.worker.defects import SameDefect, defect
from rowmill.worker.documents import with_documents
from rowmill.worker.failures import failure_of
from rowmill.worker.finish_rules import FinishRules
from rowmill.worker.job import Job, OpenShard
from rowmill.worker.packs import Packer
from rowmill.worker.stored_replies import ended_in, invalid_in, invalid_output, tokens_of

_BLOCK_BYTES = 1 << 20  # gathered before a write

Full = Literal["requests", "size", "rows", "tokens", "amount"]


class PartLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one part may hold.

    tokens and amount change from one part to the next. A first request is never too large for `tokens`: there would be
    no end to waiting for it.
    """

    requests: int
    size: int  # bytes of the file
    rows: float  # inf: as many as there are
    tokens: float  # prompt tokens that may still be enqueued
    amount: Amount  # what the budget has left; inf where it has no end


class Built(msgspec.Struct, kw_only=True):
    """A part's file.

    end_row: exclusive; rows up to it were looked at. reserved: what the requests may cost. full: what had no room for
    the next request, None where the range came to its end. need: what that request may cost; of interest where `full`
    is "amount".
    """

    first_row: int
    end_row: int
    requests: int = 0
    rows: int = 0
    size: int = 0  # bytes
    crc: int = 0  # CRC-32
    tokens: int = 0  # of the prompts, estimated
    reserved: Amount = Amount()
    full: Full | None = None
    need: Amount = Amount()


class PartWriter:
    """Writes one part's file, shard after shard."""

    def __init__(
        self,
        shards: ShardAccess,
        path: Path,
        limits: PartLimits,
        *,
        url: str,
        estimate: Callable[..., Amount],
        asks: int,
        rewrite: Callable[[bytes], bytes] | None = None,
        finish: FinishRules | None = None,
    ) -> None:
        """`url`: that lines name, such as "/v1/chat/completions". `estimate`: see `BatchReservations.estimator`.

        `asks`: how often a row is asked until its reply is a valid answer. `rewrite`: makes a body ask the provider's
        own model; None where it is the task's. `finish`: where rows are asked again for how their replies end.
        """
        self._shards = shards
        self._task = shards.task
        self._writer = shards.writer
        self._path = path
        self._limits = limits
        self._head = b'","method":"POST","url":%b,"body":' % msgspec.json.encode(url)
        self._estimate = estimate
        self._asks = asks
        self._rewrite = rewrite
        self._finish = finish
        self._same = SameDefect()
        self._packing = shards.task.rows_per_request > 1
        self._packer = Packer(shards.task.rows_per_request)
        self._block: list[bytes] = []
        self._block_size = 0
        self._built = Built(first_row=0, end_row=0)  # so far

    def __repr__(self) -> str:
        built = self._built
        return (
            f"<PartWriter {built.requests} requests, {built.size} bytes, next row {built.end_row}, full {built.full}>"
        )

    async def build(self, first_row: int, end_row: int | None) -> Built:
        """Write the requests of a range, and bring the file to the disk. To be called once.

        `end_row`: exclusive; None: as far as the limits and the input go.
        """
        end = sys.maxsize if end_row is None else end_row
        built = self._built = Built(first_row=first_row, end_row=first_row)
        with durable.machine_errors(self._doing):
            self._file = await aiofiles.open(self._path, "wb", buffering=0, opener=private_files.make_file)
        try:
            while built.full is None and built.end_row < end:
                shard = await self._shards.shard_from(built.end_row)
                if shard is None or shard.first_row >= end:
                    break
                await self._take_shard(shard, end)
            await self._write()
            with durable.machine_errors(self._doing):
                await asyncio.get_running_loop().run_in_executor(None, durable.sync_data, self._file.fileno())
        finally:
            await self._file.close()
        if built.full is None and end_row is not None:
            built.end_row = end_row
        return built

    # Rows

    async def _take_shard(self, shard: Shard, end_row: int) -> None:
        end = min(shard.first_row + shard.rows, end_row)
        if not self._shards.sealed(shard):
            async with self._shards.open(shard) as opened:
                if not opened.checkpoint.complete and opened.only != frozenset():
                    await self._write_rows(opened, max(self._built.end_row, shard.first_row), end)
        if self._built.full is None:
            self._built.end_row = end

    async def _write_rows(self, opened: OpenShard, first_row: int, end_row: int) -> None:
        async with aclosing(self._shards.read(opened, first_row, end_row)) as blocks:
            async for first, lines in blocks:
                if self._built.full is not None:
                    continue
                async for row, ready in with_documents(self._task, opened, first, lines):
                    self._look_at(opened, row, ready)
                    if self._block_size >= _BLOCK_BYTES:
                        await self._write()
                    if self._built.full is not None:
                        break
        self._end_pack()

    def _look_at(self, opened: OpenShard, first_row: int, lines: Sequence[bytes]) -> None:
        is_done, replies, only = opened.checkpoint.is_done, opened.checkpoint.replies, opened.only
        for index, line in enumerate(lines, first_row):
            if is_done(index) or (only is not None and index not in only):
                self._end_pack()
            else:
                self._take(Job(index, line, len(line), opened), replies.get(index, ()))
            if self._built.full is not None:
                return

    def _take(self, job: Job, stored: Sequence[StoredReply]) -> None:
        """Put a row into the file, or into the pack that is being gathered."""
        try:
            job.request = self._task.build(job.line)
        except InvalidRow as error:
            self._end_pack()
            if self._built.full is None:
                self._fail(job, failure_of(error))
            return
        except Exception as error:  # noqa: BLE001 - it is this row's
            self._end_pack()
            if self._built.full is None:
                self._fail(job, defect(error))
            return
        if self._packing and not stored:
            self._put_packs(self._packer.take([job]))
            return
        self._end_pack()
        if self._built.full is None and (not stored or self._taken_up(job, stored)):
            self._put([job])

    def _taken_up(self, job: Job, stored: Sequence[StoredReply]) -> bool:
        """Go on with a row where an earlier try left it, replied to but with no valid answer; False where it fails."""
        last = stored[-1]
        job.requests = last.requests
        job.spent = tokens_of(stored)
        invalid = invalid_in(stored)
        if self._packing:
            invalid = invalid[1:]  # that was the pack's
        elif len(invalid) >= self._asks:
            job.asked = len(invalid)
            self._fail(job, failure_of(invalid_output(last)))
            return False
        try:
            if self._finish is not None and (found := ended_in(stored)) is not None:
                job.second = self._finish.taken_up(job, *found)
            for each in invalid:
                assert job.request is not None
                job.request = self._task.again(job.request, invalid_output(each))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(job, defect(error))
            return False
        return True

    def _fail(self, job: Job, failure: Failure) -> None:
        now = job.started = monotonic()
        self._writer.failure(job, failure, now)
        self._same.failed(failure)

    # Lines

    def _end_pack(self) -> None:
        """Put what was gathered into the file as it is."""
        self._put_packs(self._packer.flush())

    def _put_packs(self, packs: list[Job]) -> None:
        for pack in packs:
            assert pack.members is not None
            self._put(pack.members)

    def _put(self, jobs: list[Job]) -> None:
        """Put the request of these rows into the file, or say why it has no room; after one that had none, nothing."""
        if self._built.full is not None:
            return
        try:
            request, line = self._line(jobs)
        except Exception as error:  # noqa: BLE001 - it is these rows'
            failure = defect(error)
            for job in jobs:
                self._fail(job, failure)
            return
        if len(line) > self._limits.size:
            self._put_less(jobs, len(line))
            return
        second = jobs[0].second
        need = self._estimate(request.tokens) if second is None else self._estimate(request.tokens, second.cap)
        built = self._built
        built.full = self._over(len(jobs), len(line), request.tokens, need)
        if built.full is not None:
            built.end_row, built.need = jobs[0].index, need
            return
        self._block.append(line)
        self._block_size += len(line)
        built.size += len(line)
        built.requests += 1
        built.rows += len(jobs)
        built.tokens += request.tokens
        built.reserved += need
        self._same.fine()

    def _line(self, jobs: list[Job]) -> tuple[Request, bytes]:
        requests = [job.request for job in jobs if job.request is not None]
        request = self._task.pack(requests) if self._packing else requests[0]
        body = request.body if self._rewrite is None else self._rewrite(request.body)
        if (second := jobs[0].second) is not None and second.cap:
            body = with_cap(body, second.cap)
        name = custom_id(jobs[0].index, len(jobs)).encode()
        return request, b'{"custom_id":"%b%b%b}\n' % (name, self._head, _one_line(body))

    def _put_less(self, jobs: list[Job], size: int) -> None:
        """Put a pack that is larger than a whole file in two halves; a row like that has failed."""
        if len(jobs) == 1:
            message = f"its request of {size} bytes is larger than a batch's file may be"
            self._fail(jobs[0], Failure(fault=faults.INVALID_REQUEST, message=message))
            return
        middle = (len(jobs) + 1) // 2
        self._put(jobs[:middle])
        self._put(jobs[middle:])

    def _over(self, rows: int, size: int, tokens: int, need: Amount) -> Full | None:
        """Return which limit one more request would break."""
        built, limits = self._built, self._limits
        if built.requests >= limits.requests:
            return "requests"
        if built.size + size > limits.size:
            return "size"
        if built.rows + rows > limits.rows and built.rows:
            return "rows"
        if built.tokens + tokens > limits.tokens and built.requests:
            return "tokens"
        after, most = built.reserved + need, limits.amount
        if after.requests > most.requests or after.tokens > most.tokens or after.usd > most.usd:
            return "amount"
        return None

    # The file

    async def _write(self) -> None:
        data = b"".join(self._block)
        self._block, self._block_size = [], 0
        self._built.crc = crc32(data, self._built.crc)
        with durable.machine_errors(self._doing):
            written = 0
            while written < len(data):
                written += await self._file.write(memoryview(data)[written:])

    @property
    def _doing(self) -> str:
        return f"write the batch's file {self._path}"


def _one_line(body: bytes) -> bytes:
    """Return the JSON on one line: the body of a row that is a request already may have been written on several."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
