"""The shards of the worker of batches: opened one at a time, to build parts and to collect results.

A live worker keeps a shard open until it is complete. Here the rows of one wait for days, and those of thousands may
wait at once, so a shard is open only while its rows are looked at: its checkpoint is read when it is opened, what is
recorded goes to the disk in groups of about 1 MiB and at the end, and a shard that is complete then is sealed.

Failures are taken back (`rowmill retry`) when a process opens a shard for the first time, before any of its rows is
looked at; what fails later in the same process stays failed. A batch that an earlier process has sent may be collected
after that: its results give their rows the outcomes that they would have had anyway, and rows that it was not asked
for are left to the next one.
"""

import asyncio
from bisect import bisect_right, insort
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter

from rowmill.core.counts import Totals
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import InputPart, Shard
from rowmill.files.input.shard_readers import open_reader
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks import Task
from rowmill.worker.job import OpenShard
from rowmill.worker.outcome_writer import GROUP_BYTES, OutcomeWriter

_STEP_ROWS = 256  # that are looked at before the loop may turn to polls and heartbeats: some 10 ms
_first_row = attrgetter("first_row")


class ShardAccess:
    """All shards that are this worker's, one of them open at a time.

    task, writer: what builds their rows, and records them. added: all so far, in the order of their rows. no_more:
    whether that is every shard of the input. acknowledged: what the rows on disk add up to, by number, of those that
    are not sealed.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[InputPart],
        directory: RunDirectory,
        task: Task,
        columns: list[str] | None,
        codec: OutputCodec,
        writer: OutcomeWriter,
        salvage: bool = False,
        retry_failed: bool = False,
        want: Callable[[], None],
        may_seal: Callable[[Shard], bool] = lambda _: True,
        on_sealed: Callable[[int, Totals], None],
        on_synced: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        """`columns`: of a row that are needed, None for all; `codec`: of the output.

        `want` asks the supervisor for another shard, and `assigned` is its answer.

        `may_seal` says of a complete shard whether nothing is still to be noted of its rows, so that it may be sealed.

        `on_synced` is called after each group, `on_sealed` with each shard's number and totals.
        """
        self.task = task
        self.writer = writer
        self.added: list[Shard] = []
        self.no_more = False
        self.acknowledged: dict[int, Totals] = {}
        self._inputs = inputs
        self._directory = directory
        self._columns = columns
        self._codec = codec
        self._salvage = salvage
        self._retry_failed = retry_failed
        self._want = want
        self._wanting = asyncio.Lock()
        self._arrived: asyncio.Queue[Shard | None] = asyncio.Queue()
        self._may_seal = may_seal
        self._on_sealed = on_sealed
        self._on_synced = on_synced
        self._note = note
        self._sealed: set[int] = set()
        self._seen: set[int] = set()  # shards whose failures have been taken back, where they were to be
        self._free = asyncio.Lock()
        self._open: OpenShard | None = None
        self._rows = self._failed = 0

    def __repr__(self) -> str:
        is_open = "none" if self._open is None else self._open.shard.number
        more = "" if self.no_more else ", more to come"
        return f"<ShardAccess {len(self.added)} shards, sealed {sorted(self._sealed)}, open {is_open}{more}>"

    def assigned(self, shard: Shard | None) -> None:
        """Hear of another shard; None: there are no more."""
        self._arrived.put_nowait(shard)

    async def reach(self, end_row: float) -> None:
        """Take shards until all those of rows below this one are there; inf: all of the input."""
        while not self.no_more and not (self.added and self.added[-1].first_row + self.added[-1].rows >= end_row):
            await self._take_next()

    async def shard_from(self, row: int) -> Shard | None:
        """Return the shard with this row, or the next one; None where there is none."""
        while True:
            for shard in self.added:
                if shard.first_row + shard.rows > row:
                    return shard
            if self.no_more:
                return None
            await self._take_next()

    async def _take_next(self) -> None:
        async with self._wanting:
            if self.no_more:
                return
            self._want()
            shard = await self._arrived.get()
            if shard is None:
                self.no_more = True
                return
            self.add(shard)
            await self.seal_if_complete(shard)

    def add(self, shard: Shard) -> None:
        """Take a shard that the supervisor has assigned."""
        insort(self.added, shard, key=_first_row)

    async def seal_if_complete(self, shard: Shard) -> None:
        """Look at what an earlier session has left of a shard that was added; one that is complete is sealed."""
        if self._directory.checkpoint_path(shard).exists():
            async with self.open(shard):
                pass
        else:
            self.acknowledged[shard.number] = Totals()

    async def seal_range(self, first_row: int, end_row: int) -> None:
        """Seal the complete shards of a range that were held back."""
        for shard, _, _ in list(self.stretches(first_row, end_row)):
            # Not there: sealed meanwhile, for another part that ends in it too, or just being looked at.
            known = None if shard is None else self.acknowledged.get(shard.number)
            if shard is not None and known is not None and known.rows == shard.rows:
                await self.seal_if_complete(shard)

    @property
    def rows(self) -> int:
        """Rows that this process has brought to an outcome on disk."""
        return self._rows + (self._open.new_rows if self._open is not None else 0)

    @property
    def rows_failed(self) -> int:
        """Of them, failed ones."""
        return self._failed + (self._open.new_failed if self._open is not None else 0)

    @property
    def unsealed(self) -> list[Shard]:
        """The shards that have rows without an outcome, or whose batches are not over."""
        return [shard for shard in self.added if shard.number not in self._sealed]

    def sealed(self, shard: Shard) -> bool:
        """Whether this process has sealed the shard: all of its rows have their outcome."""
        return shard.number in self._sealed

    def stretches(self, first_row: int, end_row: int) -> Iterator[tuple[Shard | None, int, int]]:
        """Yield the stretches of a range: the shard, and first and end row of what is in it.

        None where no row can be without an outcome: the shard is sealed, by this process or by an earlier one, in
        which case it was never added.
        """
        place = max(bisect_right(self.added, first_row, key=_first_row) - 1, 0)
        row = first_row
        for shard in self.added[place:]:
            if shard.first_row >= end_row:
                break
            if (shard_end := shard.first_row + shard.rows) <= row:
                continue
            if shard.first_row > row:
                yield None, row, shard.first_row
                row = shard.first_row
            yield None if self.sealed(shard) else shard, row, min(shard_end, end_row)
            row = min(shard_end, end_row)
        if row < end_row:
            yield None, row, end_row

    @asynccontextmanager
    async def open(self, shard: Shard) -> AsyncIterator[OpenShard]:
        """Open a shard once the one before is closed. At the end it is sealed if it is complete.

        Raises what `Checkpoint` raises. Where the body raises, what was recorded until then still goes to the disk.
        """
        async with self._free:
            path = self._directory.checkpoint_path(shard)
            checkpoint = await Checkpoint.open(path, shard, salvage=self._salvage)
            if checkpoint.cut_bytes:
                self._note(f"{path.name}: cut {checkpoint.cut_bytes} bytes of a torn group; its rows are redone")
            if self._retry_failed and shard.number not in self._seen:
                checkpoint.forget_failed()
            self._seen.add(shard.number)
            only = checkpoint.failed_before() if self._retry_failed else None
            opened = OpenShard(shard, checkpoint, frozenset(), frozenset(), only)
            self._open = opened
            if not self.sealed(shard):
                self.acknowledged[shard.number] = checkpoint.acknowledged
            sealed = None
            try:
                yield opened
                await self._commit()
                if checkpoint.complete and not self.sealed(shard) and self._may_seal(shard):
                    sealed = await checkpoint.seal(self._directory.sealed, self._codec)
            finally:
                await _to_its_end(self._close(opened))
        if sealed is not None:
            self._sealed.add(shard.number)
            del self.acknowledged[shard.number]
            self._on_sealed(shard.number, sealed.totals)

    async def read(
        self, opened: OpenShard, first_row: int, end_row: int
    ) -> AsyncGenerator[tuple[int, list[bytes]], None]:
        """Yield the lines of a range of an open shard's rows with the index of their first, some hundred at a time.

        To be read to its end, for only there is it known that the input is still the one that was planned: else
        `RunDirectoryError`. What was recorded is kept up with, and the loop turns to other things in between.
        """
        shard = opened.shard
        input_ = self._inputs[shard.part]
        async with open_reader(input_, shard, self._columns) as reader:
            row = shard.first_row
            while lines := await reader.read():
                for start in range(0, len(lines), _STEP_ROWS):
                    first = max(first_row, row + start)
                    end = min(end_row, row + start + _STEP_ROWS, row + len(lines))
                    if first < end:
                        yield first, lines[first - row : end - row]
                        await self._keep_up()
                row += len(lines)
                if row >= end_row and input_.kind != "lines":
                    return  # those are checked before their first row

    async def _close(self, opened: OpenShard) -> None:
        pending = self.writer.pending_bytes, self.writer.pending_rows
        try:
            await opened.checkpoint.close()
            self.writer.synced(*pending)
        finally:
            self._rows += opened.new_rows
            self._failed += opened.new_failed
            self._open = None

    async def _keep_up(self) -> None:
        if self.writer.pending_bytes >= GROUP_BYTES:
            await self._commit()
        else:
            await asyncio.sleep(0)  # the loop may turn to other things

    async def _commit(self) -> None:
        assert self._open is not None
        checkpoint = self._open.checkpoint
        if not checkpoint.pending_bytes:
            return
        pending = self.writer.pending_bytes, self.writer.pending_rows
        await checkpoint.commit()
        self.writer.synced(*pending)
        self._on_synced()


async def _to_its_end(step: Coroutine[None, None, None]) -> None:
    """Run a step, and have the caller wait for its end even where it is cancelled: no other shard is opened before."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
