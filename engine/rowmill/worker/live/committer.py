"""The shards that a worker has open: outcomes go to the disk in groups, and a shard that is complete is sealed."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from rowmill.core.counts import Totals
from rowmill.core.output_codec import OutputCodec
from rowmill.worker.job import OpenShard
from rowmill.worker.outcome_writer import OutcomeWriter

_OPEN_SHARDS = 64  # each holds a file open; more are only open where rows wait out long backoffs


class Committer:
    """Commits groups, about every `delay_s` or as soon as one is full, and seals.

    open: shards by number. failed: what a shard could not be sealed for.
    """

    def __init__(
        self,
        *,
        sealed: Path,
        codec: OutputCodec,
        delay_s: float,
        on_synced: Callable[[], None],
        on_sealed: Callable[[int, Totals], None],
        on_left: Callable[[int, Totals], None] = lambda _number, _totals: None,
        on_failed: Callable[[], None],
    ) -> None:
        """`sealed`: the directory of sealed shards; `codec`: of the output.

        `on_synced` is called after each group, `on_sealed` with each shard's number and totals, `on_left`
        with those of a shard that keeps rows which are not to be done now.
        """
        self.open: dict[int, OpenShard] = {}
        self.failed: BaseException | None = None
        self._sealed_directory = sealed
        self._codec = codec
        self._delay_s = delay_s
        self._on_synced = on_synced
        self._on_sealed = on_sealed
        self._on_left = on_left
        self._on_failed = on_failed
        self._recorded = asyncio.Event()  # something waits for the disk
        self._group_full = asyncio.Event()
        self._room = asyncio.Event()  # for another shard
        self._room.set()
        self._keeps_up = asyncio.Event()  # the disk does
        self._keeps_up.set()
        self._sealing: set[asyncio.Task[None]] = set()
        self._sealed_rows = self._sealed_failed = 0

    def __repr__(self) -> str:
        return f"<{sorted(self.open.values(), key=lambda each: each.shard.number)}, {self._sealed_rows} rows sealed>"

    @property
    def rows(self) -> int:
        """Rows that this process has brought to an outcome on disk."""
        return self._sealed_rows + sum(opened.new_rows for opened in self.open.values())

    @property
    def rows_failed(self) -> int:
        """Of them, failed ones."""
        return self._sealed_failed + sum(opened.new_failed for opened in self.open.values())

    def add(self, opened: OpenShard) -> None:
        """Take a shard; one that is complete already is sealed."""
        self.open[opened.shard.number] = opened
        self._note_room()
        self._look(opened)

    def _look(self, opened: OpenShard) -> None:
        """Seal a shard that is complete, and let go of one in which nothing else is to be done."""
        if opened.checkpoint.complete:
            self._seal(opened)
        elif opened.left:
            opened.become("left")
            self._end(self._close_shard(opened))

    async def room(self) -> None:
        """Wait until another shard may be opened."""
        await self._room.wait()

    async def keeps_up(self) -> None:
        """Wait until more rows may be read: those that are answered from a cache are recorded as fast as they are."""
        await self._keeps_up.wait()

    def _note_room(self) -> None:
        if len(self.open) >= _OPEN_SHARDS:
            self._room.clear()
        else:
            self._room.set()

    def on_recorded(self, group_full: bool) -> None:
        """Hear that something waits for the disk; see `OutcomeWriter`."""
        self._recorded.set()
        if group_full:
            self._group_full.set()
            self._keeps_up.clear()

    def hasten(self) -> None:
        """Commit what waits at once where nothing can join it: every row of every open shard has its outcome."""
        if self._recorded.is_set() and all(opened.checkpoint.recorded for opened in self.open.values()):
            self._group_full.set()

    async def run(self, writer: OutcomeWriter) -> None:
        """Commit group after group, until cancelled."""
        while True:
            await self._recorded.wait()
            self.hasten()  # it may be the last of what came while the group before was on its way
            try:
                async with asyncio.timeout(self._delay_s):
                    await self._group_full.wait()
            except TimeoutError:
                pass
            await self._commit_group(writer)

    async def close(self, writer: OutcomeWriter) -> None:
        """Put on disk what is left, see the sealing out, and close all checkpoints. After `run` was cancelled.

        Raises the first failure, after all that can be closed is closed.
        """
        try:
            await self._commit_group(writer)
            await asyncio.gather(*self._sealing)
        finally:
            closing = [opened.checkpoint.close() for opened in self.open.values()]
            ended = await asyncio.gather(*closing, return_exceptions=True)
        for failure in ended:
            if failure is not None:
                raise failure

    async def _commit_group(self, writer: OutcomeWriter) -> None:
        self._recorded.clear()
        self._group_full.clear()
        pending, rows = writer.pending_bytes, writer.pending_rows
        dirty = [opened for opened in self.open.values() if opened.checkpoint.pending_bytes]
        await asyncio.gather(*(opened.checkpoint.commit() for opened in dirty))
        writer.synced(pending, rows)
        self._keeps_up.set()
        if dirty:
            self._on_synced()
        if writer.pending_bytes:
            self._recorded.set()
        for opened in dirty:
            self._look(opened)

    def _seal(self, opened: OpenShard) -> None:
        opened.become("sealing")
        self._end(self._seal_shard(opened))

    def _end(self, ending: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending)
        self._sealing.add(task)
        task.add_done_callback(self._sealed)

    async def _seal_shard(self, opened: OpenShard) -> None:
        number = opened.shard.number
        sealed = await opened.checkpoint.seal(self._sealed_directory, self._codec)
        await opened.checkpoint.close()
        opened.become("sealed")
        self._let_go(opened)
        self._on_sealed(number, sealed.totals)

    async def _close_shard(self, opened: OpenShard) -> None:
        await opened.checkpoint.close()
        self._let_go(opened)
        self._on_left(opened.shard.number, opened.checkpoint.acknowledged)

    def _let_go(self, opened: OpenShard) -> None:
        del self.open[opened.shard.number]
        self._sealed_rows += opened.new_rows
        self._sealed_failed += opened.new_failed
        self._note_room()

    def _sealed(self, task: asyncio.Task[None]) -> None:
        self._sealing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = error
            self._on_failed()
