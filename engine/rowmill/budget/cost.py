"""What spending comes to: the price of every line, and the figures of the report and the progress.

A line has the price of the model that its provider is asked for. A model that only replies have named is looked for
once, at the end. What a provider has cost that the configuration calls by another name now, or has no more, has the
price of the same model elsewhere: a cap over several sessions needs one, and the models of a run never change.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from rowmill.budget import prices as money
from rowmill.budget.ledger import Spending, SpendingLine
from rowmill.core.amounts import Amount, Price, Spent
from rowmill.core.config import Config
from rowmill.core.counts import Totals
from rowmill.core.errors import RowmillError
from rowmill.core.reports import Cost, CostLine
from rowmill.ipc.messages import BatchHeartbeat


class CostCalculator:
    """The prices of one run."""

    def __init__(
        self,
        config: Config,
        prices: Sequence[Price | None],
        steps: Sequence[tuple[Config, Sequence[Price | None]]] = (),
    ) -> None:
        """`prices`: of the model that each provider is asked for; in each of several steps, `steps` says both."""
        self._config = config
        self._prices = [price for _, each in steps for price in each] or prices
        self._asked: dict[tuple[str, str], Price | None] = {}  # by provider and the model that it is asked for
        self._elsewhere: dict[str, Price] = {}  # by model, at the first provider that has a price of it
        self._named: dict[tuple[str, str], Price | None] = {}  # by provider and the model that replies name
        for asked, priced in steps or ((config, prices),):
            for provider, price in zip(asked.provider, priced, strict=True):
                if (model := money.asked_model(asked, provider)) is not None:
                    self._asked[provider.name, model] = price
                    if price is not None:
                        self._elsewhere.setdefault(model, price)
        self._providers = {provider.name for provider in config.provider}
        self._batch_price = None if steps else prices[config.provider.index(config.batch_provider)]

    def find(self, lines: Iterable[SpendingLine]) -> None:
        """Look for the prices of models that replies have named."""
        names = [(line.provider, line.model) for line in lines if line.model]
        names = [name for name in names if name not in self._asked]
        if names:
            with suppress(RowmillError):  # the report says then that their price is unknown
                self._named = dict(zip(names, money.find_models(self._config, names), strict=True))

    def amount(self, line: SpendingLine) -> Amount:
        """Return what a line counts as in the budget. Requests that may be lost are among those that were sent."""
        price = self._price(line)
        usd = 0.0 if price is None else price.usd(line.spent) + price.usd(line.lost)
        return Amount(line.spent.requests, line.spent.tokens + line.lost.tokens, usd)

    def batch_amount(self, batch: BatchHeartbeat) -> Amount:
        """Return what batches count as."""
        spent, price = batch.spent, self._batch_price
        usd = 0.0 if price is None else price.usd(spent, batch=True)
        return Amount(spent.requests, spent.tokens, usd) + batch.reserved + batch.doubtful

    def cost(self, spending: Spending, batch: BatchHeartbeat | None, totals: Totals, total_rows: int | None) -> Cost:
        """Return what a run has cost that has spent so much, and done so many rows of so many."""
        lines = tuple(self._line(line) for line in spending.lines) + self._batch_lines(batch)
        known = [line.usd for line in lines if line.usd is not None]
        usd = sum(known, 0.0) if len(known) == len(lines) else None
        tokens, requests = sum(line.spent.tokens for line in lines), sum(line.spent.requests for line in lines)
        lost, lost_usd = self._lost(spending, Amount(requests, tokens, usd or 0.0))
        if batch is not None:
            lost.add(Spent(round(batch.doubtful.requests), round(batch.doubtful.tokens)))
            lost_usd += batch.doubtful.usd
        budget = self._config.budget
        # Nobody knows which provider would have been asked: savings have the first price that there is.
        first = next((price for price in self._prices if price is not None), None)
        return Cost(
            usd=usd,
            tokens=tokens,
            requests=requests,
            lines=lines,
            retries_usd=self._wasted(spending, batch) if usd is not None else None,
            lost_usd=lost_usd if usd is not None else None,
            lost=lost,
            reserved_usd=batch.reserved.usd if batch is not None else 0.0,
            spared_usd=None if first is None else first.usd(spending.spared),
            packed_usd=None if first is None else first.usd(Spent(0, spending.packed_tokens)),
            batch_usd=self._saved_by_batches(batch),
            projected_usd=_projected(usd, requests, totals, total_rows),
            max_usd=budget.max_usd,
            max_tokens=budget.max_tokens,
            max_requests=budget.max_requests,
            unpriced=tuple(sorted({line.model for line in lines if line.usd is None})),
        )

    def _price(self, line: SpendingLine) -> Price | None:
        key = (line.provider, line.model)
        if key in self._asked:
            return self._asked[key]
        if line.provider not in self._providers:
            return self._elsewhere.get(line.model)
        return self._named.get(key)

    def _line(self, line: SpendingLine) -> CostLine:
        price = self._price(line)
        usd = None if price is None else price.usd(line.spent)
        if not line.model and not line.spent.tokens:
            usd = 0.0  # of requests that brought no reply to name a model
        return CostLine(
            provider=line.provider, model=line.model, mode=line.mode, spent=line.spent, usd=usd, step=line.step
        )

    def _batch_lines(self, batch: BatchHeartbeat | None) -> tuple[CostLine, ...]:
        if batch is None or not batch.spent.requests:
            return ()
        provider, price = self._config.batch_provider, self._batch_price
        usd = None if price is None else price.usd(batch.spent, batch=True)
        model = self._config.model_of(provider) or ""
        return (CostLine(provider=provider.name, model=model, mode="batch", spent=batch.spent, usd=usd),)

    def _wasted(self, spending: Spending, batch: BatchHeartbeat | None) -> float:
        wasted = 0.0
        for line in spending.lines:
            price = self._price(line)
            wasted += price.usd(line.wasted) if price is not None else 0.0
        if batch is not None and self._batch_price is not None:
            wasted += self._batch_price.usd(batch.wasted, batch=True)
        return wasted

    def _lost(self, spending: Spending, whole: Amount) -> tuple[Spent, float]:
        """Return what may be billed beside the lines, and its dollars.

        Credit is handed out of what is limited only. In what is not, what went with it is as much as was usual.
        """
        gone = spending.lost
        tokens = max(gone.tokens, gone.requests * whole.tokens / whole.requests if whole.requests else 0.0)
        usd = max(gone.usd, tokens * whole.usd / whole.tokens if whole.tokens else 0.0)
        lost = Spent(round(gone.requests), round(tokens))
        for line in spending.lines:
            lost.add(line.lost)
            price = self._price(line)
            usd += price.usd(line.lost) if price is not None else 0.0
        return lost, usd

    def _saved_by_batches(self, batch: BatchHeartbeat | None) -> float | None:
        price = self._batch_price
        if batch is None or price is None:
            return None
        return price.usd(batch.spent) - price.usd(batch.spent, batch=True)


def _projected(usd: float | None, requests: int, totals: Totals, total_rows: int | None) -> float | None:
    """Return what all rows will cost, if those to come cost what those cost that are done.

    A session that has just begun does not know all rows that are done: there were about as many as requests.
    """
    done = max(totals.rows, min(requests, total_rows or 0))
    if usd is None or not done or not total_rows:
        return None
    return usd / done * total_rows
