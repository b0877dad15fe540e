"""What this worker may spend, where the run has a budget: asked before a request goes out, settled after.

A request that the credit does not cover is not sent: all that is left goes back to the supervisor, and nothing more is
asked for until it answers. What a reply says was used takes the place of what was reserved; a request that surely was
not billed gives its reservation back, one that may have been keeps it.
"""

from collections.abc import Callable, Sequence

from rowmill.budget.cost_estimate import CostEstimate
from rowmill.budget.credit import Credit
from rowmill.core.amounts import Amount, Price, Spent
from rowmill.core.wire import Answer, Failure
from rowmill.worker.job import Job
from rowmill.worker.live.provider import Provider

_OK = 200


class Reservations:
    """The credit of one worker, and what requests are expected to take out of it.

    short: the supervisor was asked for more, and has not answered yet. settled: whose request was settled last.
    """

    def __init__(
        self, credit: Credit, prices: Sequence[Price | None], on_short: Callable[[Amount, Amount], None]
    ) -> None:
        """`prices`: of the providers, by number. `on_short` is told what goes back and what the next request needs."""
        self.credit = credit
        self.short = False
        self.settled: Job | None = None
        self._prices = prices
        self._on_short = on_short
        self._estimates = [CostEstimate() for _ in prices]

    def allow(self, amount: Amount) -> None:
        """Take what the supervisor allows."""
        self.credit.allow(amount)
        self.short = False

    def recalled(self) -> None:
        """Give back what is not spent."""
        self._on_short(self.credit.give_back(), Amount())

    def reserve(self, job: Job, provider: Provider) -> bool:
        """Reserve what the row's request is expected to cost; False where that is not covered: it must not go out."""
        assert job.request is not None
        number = provider.number
        prompt, completion = self._estimates[number].expect(job.request.tokens, provider.most_output)
        if job.second is not None:
            completion = max(completion, job.second.cap)
        usd = self._estimates[number].usd(self._prices[number], prompt, completion)
        tokens = prompt + completion
        if not self.credit.covers(tokens, usd):
            self.short = True
            left = self.credit.give_back()
            self._on_short(left, self.credit.need(tokens, usd))
            return False
        self.credit.reserve(tokens, usd)
        job.reserved = (tokens, usd)
        self.settled = None
        return True

    def answered(self, job: Job, provider: Provider, answer: Answer) -> None:
        """Settle by what a valid reply says; by what was reserved where it says nothing."""
        assert job.request is not None
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        tokens, usd = job.reserved
        if prompt or completion:
            self._estimates[provider.number].learn(job.request.tokens, prompt, completion, answer.cached_tokens)
            tokens = prompt + completion
            price = self._prices[provider.number]
            usd = 0.0 if price is None else price.usd(Spent(1, prompt, answer.cached_tokens, completion))
        self.credit.settle(*job.reserved, tokens, usd)
        self.settled = job

    def failed(self, job: Job, failure: Failure) -> None:
        """Settle a request without a valid reply: by nothing, or by what was reserved where it may be billed.

        A reply in which the model declines is billed as any other.
        """
        billed = failure.maybe_billed or failure.status == _OK
        self.credit.settle(*job.reserved, *(job.reserved if billed else (0.0, 0.0)))
        self.settled = job
