"""What a run has cost and may still cost: the figures of all sessions, and the budget that is handed out.

What is spent live is kept in the run directory (`budget.ledger`), written before credit goes out and about once a
second; what is spent by batches, the journal of batches knows. A session that was killed may have spent what it had
handed out: that counts as spent, the safe side of what nobody knows. So does what replies do not say: a server that
tells no usage is taken at the estimates.
"""

from collections.abc import Callable, Iterable
from math import inf

import msgspec

from rowmill.budget import ledger as files
from rowmill.budget.allocator import BudgetAllocator
from rowmill.budget.ledger import Spending, SpendingLine, count
from rowmill.core import tallies
from rowmill.core.amounts import NOTHING, Amount, Spent, above, each, times
from rowmill.core.config import Config
from rowmill.core.counts import BatchView, ProviderSums, Totals
from rowmill.core.errors import BudgetError
from rowmill.core.reports import Cost, SessionReport
from rowmill.core.tallies import Figures
from rowmill.ipc import messages
from rowmill.ipc.messages import Allow, BatchHeartbeat, Heartbeat, Recall, Short
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.batch_records import doubtful
from rowmill.supervisor.aftermath import known
from rowmill.supervisor.pool import Member
from rowmill.supervisor.prepared import Prepared

_WRITE_S = 1.0
_DUST = 1e-9  # of a sum: what it is rounded by


class SpendingTracker:
    """The money of one session and of those before it.

    batch: what the worker of batches has told last, and before that what their journal tells; None without batches.
    """

    def __init__(self, prepared: Prepared, *, mode: str, workers: int) -> None:
        """`mode`: "live" or "batch"."""
        self._config = prepared.config
        self._calculator = prepared.calculator
        self._steps = prepared.steps
        self._path = prepared.directory.spending
        self._mode = mode
        self._before = files.resumed(files.load(self._path))
        self._ended = [[ProviderSums() for _ in step.config.provider] for step in self._steps]
        self._members: dict[int, Member] = {}
        self._spared = Spent()
        self._packed = 0
        self._written = 0.0
        self._told: dict[int, Heartbeat] = {}  # by incarnation: the last word of each worker
        self._buried: dict[str, Figures] = {}  # of boards that have been read and are still there: what they say
        self.session: Callable[[], SessionReport] | None = None  # tells how the session stands
        self._wanted = False  # a worker has asked for credit
        self.batch = _told_by(prepared, mode)
        limited = self._config.budget.limited
        # What counts as spent when the session begins; batches count what they take in their own session themselves.
        self._told_at_start = sum(map(self._calculator.amount, self._before.lines), NOTHING)
        self._spent_at_start = self._before.lost + self._told_at_start
        if self.batch is not None and mode == "live":
            self._spent_at_start += self._calculator.batch_amount(self.batch)
        cap = _cap(self._config)
        self.left = cap - self._spent_at_start if limited else None
        self._allocator = (
            BudgetAllocator(cap, self._spent_at_start, workers=workers) if limited and mode == "live" else None
        )

    @property
    def answered_before(self) -> set[str]:
        """Names of the providers whose replies earlier sessions of the run have paid for."""
        return {line.provider for line in self._before.lines if line.spent.prompt_tokens}

    # What workers say

    def join(self, member: Member, now: float) -> None:
        """Count in a worker that is ready."""
        self._members[member.incarnation] = member
        if self._allocator is not None:
            self._allocator.join(member.incarnation, now)

    def heartbeat(self, member: Member, heartbeat: Heartbeat) -> None:
        """Take in what a worker has spent."""
        self._told[member.incarnation] = heartbeat
        if self._allocator is not None:
            self._allocator.report(member.incarnation, heartbeat.spent, heartbeat.reserved)

    def short(self, member: Member, message: Short) -> None:
        """Take back what a worker has left."""
        if self._allocator is not None:
            self._allocator.short(member.incarnation, message.left, message.need)
            self._wanted = self._wanted or message.need != NOTHING

    def leave(self, member: Member, billed: int) -> None:
        """Keep the figures of a worker that has ended; `billed` requests that may have been answered went with it."""
        self._members.pop(member.incarnation, None)
        told = self._told.pop(member.incarnation, None)
        board = member.board
        if board is not None and board.counts:
            self._buried[board.name] = known(board)
            billed = min(billed, len(board.in_flight))  # the tokens of the others are counted
        if self._allocator is not None:
            if member.heartbeat is not None and told is not member.heartbeat:
                self._settle_last(member, told, member.heartbeat)
            self._allocator.leave(member.incarnation)
        if member.heartbeat is None:
            return
        for ended, report in zip(self._ended[member.step], member.heartbeat.providers, strict=True):
            ended.add(report)
        self._spared.add(member.heartbeat.counters.spared)
        self._packed += member.heartbeat.counters.tokens_saved
        if self._allocator is None:  # which counts all that a worker has had in hand
            self._count_doubtful(self._ended[member.step], member.heartbeat.providers, billed)

    def _settle_last(self, member: Member, told: Heartbeat | None, last: Heartbeat) -> None:
        """Count what a worker that was killed has spent since its last word: that much of its credit is not lost."""
        assert self._allocator is not None
        more = NOTHING
        config = self._steps[member.step].config
        for number, provider in enumerate(config.provider):
            for sign, heartbeat in ((1.0, last), (-1.0, told)):
                if heartbeat is not None:
                    line = SpendingLine(provider=provider.name, model=config.model_of(provider) or "", mode="live")
                    count(line, heartbeat.providers[number])
                    line.lost = Spent()
                    more += times(sign, self._calculator.amount(line))
        spent, reserved = (NOTHING, NOTHING) if told is None else (told.spent, told.reserved)
        self._allocator.report(member.incarnation, spent + above(more), reserved)

    def buried(self) -> None:
        """Forget what boards say that are not there any more."""
        self._buried.clear()

    @property
    def pressing(self) -> bool:
        """Whether credit should go out now rather than at the next tick."""
        return self._allocator is not None and self._allocator.pressing and self._at_work

    @property
    def _at_work(self) -> bool:
        """Whether any worker may be given credit. One that drains gives back what it has, once: more would be lost."""
        return any(member.state == "working" for member in self._members.values())

    def tick(self, now: float, *, due: bool) -> None:
        """Hand out credit, and write down what was spent. `due`: a tick of the loop, no answer to a worker.

        Raises `BudgetError` once nothing more is covered, `MachineError` where it cannot be written.
        """
        granted: list[tuple[int, Amount | None]] = []
        if self._allocator is not None and self._at_work:
            granted = self._allocator.grants(now)
        if granted or (due and now - self._written >= _WRITE_S):
            # Before the credit goes out: what a killed session may have spent is known to the next one.
            self.write(sync=due and self._allocator is not None)
            self._written = now
        for holder, amount in granted:
            messages.send(self._members[holder].child.pipe, Recall() if amount is None else Allow(amount))
        # A budget that was used up before is no reason to stop until somebody needs it: the rest may be on disk.
        if self._allocator is not None and self._allocator.exhausted is not None and self._wanted:
            raise BudgetError(self._allocator.exhausted)

    def write(self, *, sync: bool) -> None:
        """Write down what was spent so far."""
        spending = self._spending()
        if self.session is not None:
            spending.session = self.session()
            spending.counted = {
                **self._buried,
                **{
                    f"{spending.session.id}-{incarnation}": tallies.told(heartbeat.counters, heartbeat.providers)
                    for incarnation, heartbeat in self._told.items()
                },
            }
        files.save(self._path, spending, sync=sync)

    def begin(self) -> None:
        """Write down that the session begins, before anything is spent in it."""
        self.write(sync=self._allocator is not None)

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
        self._calculator.find(self._spending().lines)
        spending = self._spending()
        if self.batch is None:
            self._reconcile(spending, totals)
        return self._calculator.cost(spending, self.batch, totals, total_rows)

    def _reconcile(self, spending: Spending, totals: Totals) -> None:
        """Count what the outcomes on the disk have taken and nobody has told, as after the machine has failed."""
        told = Spent.total(line.spent for line in spending.lines)
        less = Spent(
            max(0, totals.requests - told.requests),
            max(0, totals.prompt_tokens - told.prompt_tokens),
            0,
            max(0, totals.completion_tokens - told.completion_tokens),
        )
        if less != Spent():
            line = spending.lines[0] if spending.lines else None
            if line is None:
                step = self._steps[0]
                provider = step.config.provider[0]
                line = spending.line(provider.name, step.config.model_of(provider) or "", "live", step.name)
            line.spent = Spent.total([line.spent, less])

    def cost(self, totals: Totals, total_rows: int | None) -> Cost:
        """Return what the run has cost."""
        return self._calculator.cost(self._spending(), self.batch, totals, total_rows)

    def _spending(self) -> Spending:
        """Add this session's figures to those of the sessions before."""
        lines = {
            (line.step or "", line.provider, line.model): msgspec.structs.replace(line) for line in self._before.lines
        }
        heartbeats = [member.heartbeat for member in self._members.values() if member.heartbeat is not None]
        for place, step in enumerate(self._steps if self._mode == "live" else ()):
            theirs = [
                member.heartbeat
                for member in self._members.values()
                if member.step == place and member.heartbeat is not None
            ]
            for number, provider in enumerate(step.config.provider):
                told = (heartbeat.providers[number] for heartbeat in theirs)
                whole = ProviderSums.total((self._ended[place][number], *told))
                self._count(lines, (step.name, provider.name), step.config.model_of(provider) or "", whole)
        allocator = self._allocator
        return Spending(
            lines=list(lines.values()),
            outstanding=Amount() if allocator is None else allocator.outstanding + allocator.reserved,
            lost=self._before.lost + self._lost(lines.values()),
            spared=Spent.total(
                [self._before.spared, self._spared, *(heartbeat.counters.spared for heartbeat in heartbeats)]
            ),
            packed_tokens=self._before.packed_tokens + self._packed + sum(b.counters.tokens_saved for b in heartbeats),
        )

    def _lost(self, lines: Iterable[SpendingLine]) -> Amount:
        """Return what counts as spent in this session beside the lines: what was lost, and what no reply told."""
        allocator = self._allocator
        if allocator is None:
            return NOTHING
        settled = allocator.spent - self._spent_at_start - allocator.lost - allocator.reserved
        told = sum(map(self._calculator.amount, lines), NOTHING) - self._told_at_start
        return allocator.lost + each(_beyond, settled, told)

    def _count(
        self, lines: dict[tuple[str, str, str], SpendingLine], asked: tuple[str, str], model: str, report: ProviderSums
    ) -> None:
        """`asked`: in which step, and who."""
        if not report.requests:
            return
        models = report.models or {model: Spent()}
        named = Spent.total(models.values())
        unnamed = Spent(
            report.requests - named.requests,
            report.prompt_tokens - named.prompt_tokens,
            report.cached_tokens - named.cached_tokens,
            report.completion_tokens - named.completion_tokens,
        )
        for place, (name, spent) in enumerate(models.items()):
            step, provider = asked
            made = SpendingLine(provider=provider, model=name, mode="live", step=step or msgspec.UNSET)
            line = lines.setdefault((step, provider, name), made)
            line.spent = Spent.total([line.spent, spent])
            if place == 0:  # what named no model, or is not told by model, counts as of the first that was named
                line.spent.add(unnamed)
                line.wasted = Spent.total([line.wasted, report.wasted])
                line.lost = Spent.total([line.lost, report.doubtful])

    @staticmethod
    def _count_doubtful(sums: Iterable[ProviderSums], reports: Iterable[ProviderSums], billed: int) -> None:
        """Count requests that went with a worker that died, at what its others have cost on average."""
        for ended, report in zip(sums, reports, strict=True):
            if report.answered:
                prompt, completion = report.prompt_tokens / report.answered, report.completion_tokens / report.answered
                ended.doubtful.add(Spent(billed, round(billed * prompt), 0, round(billed * completion)))
                return


def _told_by(prepared: Prepared, mode: str) -> BatchHeartbeat | None:
    """Return what the batches of earlier sessions have cost, as their journal has it; None where there were none.

    A session with nothing left to do ends before any worker could tell it.
    """
    journal = BatchJournal.read(prepared.directory.journal)
    tries, newest = journal.tries.values(), journal.current()
    if not tries:
        return None
    # Before a session of live requests what is under way has been taken in.
    under_way = [t for t in newest if t.open and mode == "batch"]
    return BatchHeartbeat(
        batches=[],
        parts=len(newest),
        collected=sum(t.phase == "collected" and not t.left for t in newest),
        spent=Spent.total(t.spent for t in tries),
        wasted=Spent.total(t.wasted for t in tries),
        reserved=sum((t.reserved for t in under_way), Amount()),
        doubtful=doubtful(tries),
    )


def _beyond(settled: float, told: float) -> float:
    """Return what is settled and was not told, unless it is what sums are rounded by."""
    return settled - told if settled - told > _DUST * settled else 0.0


def _cap(config: Config) -> Amount:
    budget = config.budget
    return Amount(*(inf if cap is None else cap for cap in (budget.max_requests, budget.max_tokens, budget.max_usd)))
