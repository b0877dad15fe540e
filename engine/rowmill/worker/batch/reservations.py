"""What the budget has left for batches: reserved when a part is built, settled by what its results say.

The journal knows all of it: what is collected cost what it cost, what is under way counts as it was reserved, and so
does what was given up with a batch, which may be billed.
"""

from collections.abc import Callable
from math import inf

from rowmill.core.amounts import Amount, Price, Spent
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.batch_records import doubtful

_UNLIMITED = Amount(inf, inf, inf)
_KEYS = (("requests", "max_requests"), ("tokens", "max_tokens"), ("usd", "max_usd"))
_FEW = 8  # results, until what they cost is gone by
_FIRST_OUTPUT = 1024  # tokens of a reply, where neither results nor the request say: on the safe side


class BatchReservations:
    """What a run by batches has spent and reserved of its budget."""

    def __init__(self, journal: BatchJournal, left: Amount | None, price: Price | None, most_output: int) -> None:
        """`left`: of the budget, for all batches of the run; `most_output`: tokens of a reply, 0 where unknown."""
        self._journal = journal
        self._left = left
        self._price = price
        self._most_output = most_output

    def room(self) -> Amount:
        """Return what may still be reserved; inf where nothing is limited."""
        if self._left is None:
            return _UNLIMITED
        spent = self.spent
        return self._left - Amount(spent.requests, spent.tokens, self._usd(spent)) - self.reserved - self.doubtful

    @property
    def spent(self) -> Spent:
        """What is collected has cost."""
        return Spent.total(t.spent for t in self._journal.tries.values())

    @property
    def wasted(self) -> Spent:
        """Of it, replies that were no use."""
        return Spent.total(t.wasted for t in self._journal.tries.values())

    @property
    def reserved(self) -> Amount:
        """For what is under way."""
        return sum((t.reserved for t in self._journal.tries.values() if t.open), Amount())

    @property
    def doubtful(self) -> Amount:
        """For what was given up, and may be billed."""
        return doubtful(self._journal.tries.values())

    def estimator(self) -> Callable[..., Amount]:
        """Return what tells the cost of a request by the tokens of its prompt, as its characters say.

        A second number is of tokens that its reply may well have.
        """
        spent = self.spent
        guessed = sum(t.tokens * t.spent.requests / t.requests for t in self._journal.tries.values() if t.requests)
        ratio, output, cached = 1.0, float(self._most_output or _FIRST_OUTPUT), 0.0
        if spent.requests >= _FEW and guessed and spent.prompt_tokens:
            ratio = spent.prompt_tokens / guessed
            output = spent.completion_tokens / spent.requests
            cached = spent.cached_tokens / spent.prompt_tokens

        # Of a million, for prices are by tokens in whole numbers: a request's own would be rounded, each the same way.
        prompt_usd = self._usd(Spent(0, 1_000_000, round(1_000_000 * cached))) / 1e6
        output_usd = self._usd(Spent(0, 0, 0, 1_000_000)) / 1e6

        def estimate(prompt: int, reply: int = 0) -> Amount:
            tokens, most = prompt * ratio, max(output, reply)
            return Amount(1.0, tokens + most, tokens * prompt_usd + most * output_usd)

        return estimate

    def refusal(self, need: Amount) -> str:
        """Say why a request that needs so much is not covered, and what to raise."""
        assert self._left is not None, "without a budget nothing is refused"
        room = self.room()
        scarce = [(getattr(room, name), getattr(need, name), key) for name, key in _KEYS if getattr(room, name) < inf]
        left, needed, key = min(scarce, key=lambda each: each[0] / each[1] if each[1] else inf)
        if left >= needed:
            why = f"{left:.6g} is left, which is too little for another one"
        else:
            why = f"{max(left, 0.0):.6g} is left, and a request needs {needed:.6g}"
        if not self._journal.tries:
            why += "; that is below what one request costs"
        return f"budget.{key} covers no further batch: {why}; raise it, and run the same command again"

    def _usd(self, spent: Spent) -> float:
        return 0.0 if self._price is None else self._price.usd(spent, batch=True)
