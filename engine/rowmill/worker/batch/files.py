"""The files of batches: made of the shards that the supervisor assigns, taken in as outcomes when they come back."""

import asyncio
from collections.abc import Callable
from math import inf
from pathlib import Path

from rowmill.core.amounts import Amount
from rowmill.core.config import Config
from rowmill.core.counts import Counters
from rowmill.core.rows import Shard
from rowmill.store.batch_journal import Try
from rowmill.tasks.batch_file import url_of
from rowmill.worker.batch.collect import Collected, Rules, collect
from rowmill.worker.batch.parts import Built, PartLimits, PartWriter
from rowmill.worker.batch.reservations import BatchReservations
from rowmill.worker.batch.results import Results
from rowmill.worker.batch.shards import ShardAccess

_MOST_INPUTS = 50_000  # texts in one batch of embeddings, whatever its requests; OpenAI's guide to the Batch API


class BatchFiles:
    """Builds and collects, of whatever part.

    counters: what this process has done. no_more: whether every shard of the input has come in.
    """

    def __init__(
        self,
        *,
        shards: ShardAccess,
        config: Config,
        reservations: BatchReservations,
        rewrite: Callable[[bytes], bytes] | None,
        secrets: tuple[str, ...],
        want: Callable[[], None],
    ) -> None:
        """`rewrite`: makes a body ask the provider's own model; `want`: asks the supervisor for another shard."""
        self.counters = Counters()
        self.no_more = False
        self.url = url_of(config.task.api)
        self._shards = shards
        self._config = config
        self._reservations = reservations
        self._rewrite = rewrite
        self._rules = Rules(
            provider=config.batch_provider.name,
            attempts=config.retry.attempts,
            asks=config.retry.invalid_output,
            secrets=secrets,
        )
        self._want = want
        self._wanting = asyncio.Lock()
        self._arrived: asyncio.Queue[Shard | None] = asyncio.Queue()

    def __repr__(self) -> str:
        return f"<BatchFiles {self._shards!r}{'' if self.no_more else ', more to come'}>"

    def assigned(self, shard: Shard | None) -> None:
        """Hear of another shard; None: there are no more."""
        self._arrived.put_nowait(shard)

    async def build(self, first_row: int, end_row: int | None, path: Path, tokens: float, amount: Amount) -> Built:
        """Write the requests of the rows without an outcome, of so many tokens and so much of the budget at most.

        `end_row`: exclusive; None: as far as the limits and the input go.
        """
        batch = self._config.batch
        limits = PartLimits(
            requests=batch.max_requests,
            size=int(batch.max_mb * 1e6),
            rows=_MOST_INPUTS if self._config.task.api == "embeddings" else inf,
            tokens=tokens,
            amount=amount,
        )
        writer = PartWriter(
            self._shards,
            path,
            limits,
            url=self.url,
            estimate=self._reservations.estimator(),
            asks=self._config.retry.invalid_output,
            rewrite=self._rewrite,
        )
        return await writer.build(first_row, end_row, self._shard_from)

    async def collect(self, t: Try, earlier: list[int], file: Path, files: list[Path]) -> Collected:
        """Record what came of a try whose `file` was sent; `files` hold its results. `earlier`: see `collect`."""
        await self.reach(t.end_row)
        async with Results.read(files) as results:
            found = await collect(self._shards, t, results, self._rules, file=file, earlier=earlier)
        counters = self.counters
        counters.replies += found.spent.requests
        counters.reasked += found.reasked
        counters.packed += found.packed
        counters.tokens_saved += found.tokens_saved
        for name, count in found.faults.items():
            counters.faults[name] = counters.faults.get(name, 0) + count
        return found

    async def seal(self, t: Try) -> None:
        """Seal what is complete of a part whose try is collected, and noted as that."""
        await self._shards.seal_range(t.first_row, t.end_row)

    async def _shard_from(self, row: int) -> Shard | None:
        """Return the shard with this row, or the next one; None where there is none."""
        while (shard := self._shards.shard_from(row)) is None and not self.no_more:
            await self._take_next()
        return shard

    async def reach(self, end_row: float) -> None:
        """Take shards until all those of rows below this one are there; inf: all of the input."""
        while not self.no_more:
            last = self._shards.added[-1] if self._shards.added else None
            if last is not None and last.first_row + last.rows >= end_row:
                return
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
            self._shards.add(shard)
            await self._shards.seal_if_complete(shard)
