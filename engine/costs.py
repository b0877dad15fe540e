"""What a run has cost and may still cost: the figures of all sessions, and the budget that is handed out.

What is spent live is kept in the run directory (`store.spending`), written before credit goes out and about once a
second; what is spent by batches, the journal of batches knows. A session that was killed may have spent what it had
handed out: that counts as spent, the safe side of what nobody knows.
"""

from collections.abc import Iterable
from math import inf

import msgspec

from engine import messages
from engine.config import Config
from engine.errors import BudgetError
from engine.flow.budget.allowances import Allowances
from engine.messages import Allow, BatchBeat, Beat, Recall, Short
from engine.money import prices as money
from engine.pool import Member
from engine.preparation import Prepared
from engine.records import Amount, BatchView, Price, ProviderReport, Spent, Totals
from engine.reports import Cost, CostLine
from engine.store import spending as files
from engine.store.batch_journal import BatchJournal
from engine.store.spending import Spending, SpendingLine

_WRITE_S = 1.0


class Costs:
    """The money of one session and of those before it.

    batch: what the worker of batches has told last; None where there is none.
    """

    def __init__(self, prepared: Prepared, *, mode: str, workers: int) -> None:
        """`mode`: "live" or "batch"."""
        self._config = prepared.config
        self._prices = prepared.prices
        self._path = prepared.directory.spending
        self._mode = mode
        self._before = files.resumed(files.load(self._path))
        self._ended: list[ProviderReport] = [ProviderReport() for _ in self._config.provider]
        self._members: dict[int, Member] = {}
        self._spared = Spent()
        self._packed = 0
        self._by_name: dict[tuple[str, str], Price | None] = {}  # of models that replies name
        self._written = 0.0
        self.batch = _told_by(prepared) if mode == "live" else None
        limited = self._config.budget.limited
        spent = self._spent_before()
        self.left = _cap(self._config) - spent if limited else None
        self._allowances = (
            Allowances(_cap(self._config), spent, workers=workers) if limited and mode == "live" else None
        )

    # What workers say

    def join(self, member: Member, now: float) -> None:
        """Count in a worker that is ready."""
        self._members[member.incarnation] = member
        if self._allowances is not None:
            self._allowances.join(member.incarnation, now)

    def beat(self, member: Member, beat: Beat) -> None:
        """Take in what a worker has spent."""
        if self._allowances is not None:
            self._allowances.report(member.incarnation, beat.spent, beat.reserved)

    def short(self, member: Member, message: Short) -> None:
        """Take back what a worker has left."""
        if self._allowances is not None:
            self._allowances.short(member.incarnation, message.left, message.need)

    def leave(self, member: Member, billed: int) -> None:
        """Keep the figures of a worker that has ended; `billed` requests that may have been answered went with it."""
        self._members.pop(member.incarnation, None)
        if self._allowances is not None:
            self._allowances.leave(member.incarnation)
        if member.beat is None:
            return
        for ended, report in zip(self._ended, member.beat.providers, strict=True):
            _add(ended, report)
        self._spared.add(member.beat.counters.spared)
        self._packed += member.beat.counters.tokens_saved
        self._count_doubtful(member.beat.providers, billed)

    @property
    def pressing(self) -> bool:
        """Whether credit should go out now rather than at the next tick."""
        return self._allowances is not None and self._allowances.pressing

    def tick(self, now: float, *, due: bool) -> None:
        """Hand out credit, and write down what was spent. `due`: a tick of the loop, no answer to a worker.

        Raises `BudgetError` once nothing more is covered, `MachineError` where it cannot be written.
        """
        granted: list[tuple[int, Amount | None]] = []
        if self._allowances is not None:
            granted = self._allowances.grants(now)
        if granted or (due and now - self._written >= _WRITE_S):
            # Before the credit goes out: what a killed session may have spent is known to the next one.
            self.write(sync=due and self._allowances is not None)
            self._written = now
        for holder, amount in granted:
            messages.send(self._members[holder].child.pipe, Recall() if amount is None else Allow(amount))
        if self._allowances is not None and self._allowances.exhausted is not None:
            raise BudgetError(self._allowances.exhausted)

    def write(self, *, sync: bool) -> None:
        """Write down what was spent so far."""
        files.save(self._path, self._spending(), sync=sync)

    # What it comes to

    @property
    def batches(self) -> tuple[BatchView, ...]:
        """The batches that are not collected."""
        return () if self.batch is None or self._mode == "live" else tuple(self.batch.batches)

    @property
    def parts(self) -> tuple[int, int] | None:
        """In a run by batches: parts collected, parts so far."""
        if self._mode == "live":
            return None
        return (0, 0) if self.batch is None else (self.batch.collected, self.batch.parts)

    def final(self, totals: Totals, total_rows: int | None) -> Cost:
        """Return what the run has cost, with the prices of all models that replies have named."""
        names = [(line.provider, line.model) for line in self._spending().lines if self._number(line) is None]
        if names:
            self._by_name = dict(zip(names, money.find_models(self._config, names), strict=True))
        return self.cost(totals, total_rows)

    def cost(self, totals: Totals, total_rows: int | None) -> Cost:
        """Return what the run has cost."""
        spending = self._spending()
        lines = tuple(self._line(line) for line in spending.lines) + self._batch_lines()
        known = [line.usd for line in lines if line.usd is not None]
        usd = sum(known) if len(known) == len(lines) else None
        doubtful, wasted = Spent(), 0.0
        doubtful_usd = spending.lost.usd
        for line in spending.lines:
            doubtful.add(line.lost)
            price = self._price(line)
            wasted += price.usd(line.wasted) if price is not None else 0.0
            doubtful_usd += price.usd(line.lost) if price is not None else 0.0
        first = next((price for price in self._prices if price is not None), None)
        batch_price = self._batch_price()
        if self.batch is not None and batch_price is not None:
            wasted += batch_price.usd(self.batch.wasted, batch=True)
        budget = self._config.budget
        return Cost(
            usd=usd if lines else 0.0,
            tokens=sum(line.spent.tokens for line in lines),
            requests=sum(line.spent.requests for line in lines),
            lines=lines,
            retries_usd=wasted if usd is not None else None,
            lost_usd=doubtful_usd if usd is not None else None,
            lost=doubtful,
            reserved_usd=self.batch.reserved.usd if self.batch is not None else 0.0,
            spared_usd=None if first is None else first.usd(spending.spared),
            packed_usd=None if first is None else first.usd(Spent(0, spending.packed_tokens)),
            batch_usd=self._saved_by_batches(),
            projected_usd=_projected(usd, totals, total_rows),
            max_usd=budget.max_usd,
            max_tokens=budget.max_tokens,
            max_requests=budget.max_requests,
            unpriced=tuple(sorted({line.model for line in lines if line.usd is None})),
        )

    def _spending(self) -> Spending:
        """Add this session's figures to those of the sessions before."""
        lines = {(line.provider, line.model): msgspec.structs.replace(line) for line in self._before.lines}
        beats = [member.beat for member in self._members.values() if member.beat is not None]
        for number, provider in enumerate(self._config.provider):
            whole = ProviderReport()
            for report in (self._ended[number], *(beat.providers[number] for beat in beats)):
                _add(whole, report)
            if self._mode == "live":
                self._count(lines, provider.name, self._config.model_of(provider) or "", whole)
        spared = _sum([self._before.spared, self._spared, *(beat.counters.spared for beat in beats)])
        allowances = self._allowances
        return Spending(
            lines=list(lines.values()),
            outstanding=Amount() if allowances is None else allowances.outstanding + allowances.reserved,
            lost=self._before.lost + (Amount() if allowances is None else allowances.lost),
            spared=spared,
            packed_tokens=self._before.packed_tokens + self._packed + sum(b.counters.tokens_saved for b in beats),
        )

    def _count(
        self, lines: dict[tuple[str, str], SpendingLine], provider: str, model: str, report: ProviderReport
    ) -> None:
        if not report.requests:
            return
        models = report.models or {
            model: Spent(report.requests, report.prompt_tokens, report.cached_tokens, report.completion_tokens)
        }
        for place, (name, spent) in enumerate(models.items()):
            line = lines.setdefault((provider, name), SpendingLine(provider=provider, model=name, mode="live"))
            wasted, doubtful = (report.wasted, report.doubtful) if place == 0 else (Spent(), Spent())
            line.spent = _sum([line.spent, spent])
            line.wasted = _sum([line.wasted, wasted])
            line.lost = _sum([line.lost, doubtful])

    def _count_doubtful(self, reports: Iterable[ProviderReport], billed: int) -> None:
        """Count requests that went with a worker that died, at what its others have cost on average."""
        for ended, report in zip(self._ended, reports, strict=True):
            if report.answered:
                prompt, completion = report.prompt_tokens / report.answered, report.completion_tokens / report.answered
                ended.doubtful.add(Spent(billed, round(billed * prompt), 0, round(billed * completion)))
                return

    def _spent_before(self) -> Amount:
        """Return what counts as spent when this session begins, but for what batches take in their own session."""
        spent = self._before.lost
        for line in self._before.lines:
            price = self._price(line)
            for part in (line.spent, line.lost):
                spent += Amount(part.requests, part.tokens, 0.0 if price is None else price.usd(part))
        if self.batch is not None:
            own, price = self.batch.spent, self._batch_price()
            usd = 0.0 if price is None else price.usd(own, batch=True)
            spent += Amount(own.requests, own.tokens, usd) + self.batch.reserved
        return spent

    # Prices

    def _line(self, line: SpendingLine) -> CostLine:
        price = self._price(line)
        usd = None if price is None else price.usd(line.spent)
        return CostLine(provider=line.provider, model=line.model, mode=line.mode, spent=line.spent, usd=usd)

    def _price(self, line: SpendingLine) -> Price | None:
        number = self._number(line)
        return self._by_name.get((line.provider, line.model)) if number is None else self._prices[number]

    def _number(self, line: SpendingLine) -> int | None:
        """Return the place of the provider that is asked for the line's model; None where replies have named it."""
        for number, provider in enumerate(self._config.provider):
            if provider.name == line.provider and self._config.model_of(provider) == line.model:
                return number
        return None

    def _batch_price(self) -> Price | None:
        return self._prices[self._config.provider.index(self._config.batch_provider)]

    def _batch_lines(self) -> tuple[CostLine, ...]:
        if self.batch is None or not self.batch.spent.requests:
            return ()
        provider, price = self._config.batch_provider, self._batch_price()
        usd = None if price is None else price.usd(self.batch.spent, batch=True)
        model = self._config.model_of(provider) or ""
        return (CostLine(provider=provider.name, model=model, mode="batch", spent=self.batch.spent, usd=usd),)

    def _saved_by_batches(self) -> float | None:
        price = self._batch_price()
        if self.batch is None or price is None:
            return None
        return price.usd(self.batch.spent) - price.usd(self.batch.spent, batch=True)


def _told_by(prepared: Prepared) -> BatchBeat | None:
    """Return what the batches of earlier sessions have cost, as their journal has it; None where there were none."""
    tries = BatchJournal.read(prepared.directory.batches / "journal")
    if not tries:
        return None
    reserved = [t.reserved for t in tries if t.maybe_billed]
    return BatchBeat(
        batches=[],
        parts=len({t.part for t in tries}),
        collected=0,
        spent=_sum(t.spent for t in tries),
        wasted=_sum(t.wasted for t in tries),
        reserved=sum(reserved, Amount()),
    )


def _cap(config: Config) -> Amount:
    budget = config.budget
    return Amount(*(inf if cap is None else cap for cap in (budget.max_requests, budget.max_tokens, budget.max_usd)))


def _projected(usd: float | None, totals: Totals, total_rows: int | None) -> float | None:
    if usd is None or not totals.rows or not total_rows:
        return None
    return usd / totals.rows * total_rows


def _sum(parts: Iterable[Spent]) -> Spent:
    whole = Spent()
    for part in parts:
        whole.add(part)
    return whole


def _add(whole: ProviderReport, report: ProviderReport) -> None:
    """Add what a report says of money."""
    whole.requests += report.requests
    whole.answered += report.answered
    whole.prompt_tokens += report.prompt_tokens
    whole.cached_tokens += report.cached_tokens
    whole.completion_tokens += report.completion_tokens
    whole.wasted.add(report.wasted)
    whole.doubtful.add(report.doubtful)
    for model, spent in report.models.items():
        whole.models.setdefault(model, Spent()).add(spent)
