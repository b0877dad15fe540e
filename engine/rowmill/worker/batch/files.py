"""The files of batches: made of the shards that the supervisor assigns, taken in as outcomes when they come back."""

from collections.abc import Callable
from math import inf
from pathlib import Path

from rowmill.core.amounts import Amount
from rowmill.core.config import Config
from rowmill.core.counts import Counters
from rowmill.core.request_form import RequestForm
from rowmill.store.batch_journal import Try
from rowmill.tasks.batch_file import url_of
from rowmill.tasks.forms import former, rewriting
from rowmill.worker.batch.collect import collect
from rowmill.worker.batch.collected import Collected, Rules
from rowmill.worker.batch.parts import Built, PartLimits, PartWriter
from rowmill.worker.batch.reservations import BatchReservations
from rowmill.worker.batch.results import Results
from rowmill.worker.batch.shards import ShardAccess
from rowmill.worker.finish_rules import FinishRules

_MOST_INPUTS = 50_000  # texts in one batch of embeddings, whatever its requests; OpenAI's guide to the Batch API


class BatchFiles:
    """Builds and collects, of whatever part. counters: what this process has done."""

    def __init__(
        self,
        *,
        shards: ShardAccess,
        config: Config,
        reservations: BatchReservations,
        ask_model: Callable[[bytes], bytes] | None,
        secrets: tuple[str, ...],
    ) -> None:
        """`ask_model`: makes a body ask the provider's own model."""
        self.counters = Counters()
        self.odd_usage = 0  # results whose usage was taken as an estimate
        self.url = url_of(config.task.api)
        self._shards = shards
        self._config = config
        self._reservations = reservations
        provider = config.batch_provider
        # Nothing is tried in batches, which take hours: only what the configuration says. Their replies come whole.
        by = former(config.task, RequestForm(schema=provider.form.schema))
        self._rewrite = rewriting(ask_model, by)
        self._rules = Rules(
            provider=provider.name,
            attempts=config.retry.attempts,
            asks=config.retry.invalid_output,
            secrets=secrets,
            former=by,
            finish=FinishRules.of_config(config),
        )

    def __repr__(self) -> str:
        return f"<BatchFiles {self._shards!r}>"

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
            finish=self._rules.finish,
        )
        return await writer.build(first_row, end_row)

    async def collect(
        self, t: Try, earlier: list[int], file: Path, files: list[Path], once: frozenset[int] = frozenset()
    ) -> Collected:
        """Record what came of a try whose `file` was sent; `files` hold its results. For the rest see `collect`."""
        await self._shards.reach(t.end_row)
        async with Results.read(files) as results:
            found = await collect(self._shards, t, results, self._rules, file=file, earlier=earlier, once=once)
        counters = self.counters
        counters.replies += found.spent.requests
        counters.reasked += found.reasked
        counters.packed += found.packed
        self.odd_usage += found.odd_usage
        counters.tokens_saved += found.tokens_saved
        for name, count in found.faults.items():
            counters.faults[name] = counters.faults.get(name, 0) + count
        return found

    async def seal(self, t: Try) -> None:
        """Seal what is complete of a part whose try is collected, and noted as that."""
        await self._shards.seal_range(t.first_row, t.end_row)
