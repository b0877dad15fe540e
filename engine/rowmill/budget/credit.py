"""What this worker may still spend: the other end of the supervisor's `BudgetAllocator`.

Always: what was allowed - what was given back - `spent` = the credit. A request takes its estimate at the moment of
sending; its end corrects that by what was used. So `spent` counts what is in flight as it was estimated, and the credit
falls below 0 only by what settlements take above their estimates: a debt, which stays here and is paid by the next
grant.

What is not limited is allowed as infinity: it stays infinite, is never given back, and what is spent of it is counted.
"""

from math import inf

from rowmill.core.amounts import Amount

_ROUNDING = 1.0 + 1e-12  # a debt and what was asked for to pay it are not to miss the estimate by a last binary digit


class Credit:
    """The credit of one worker. Before the first grant it covers nothing."""

    __slots__ = ("_in_flight", "_requests", "_reserved_tokens", "_reserved_usd", "_sent", "_spent_tokens", "_spent_usd",
                 "_tokens", "_usd")  # fmt: skip

    def __init__(self) -> None:
        # The credit
        self._requests = self._tokens = self._usd = 0.0
        # All that was spent, and of it what is reserved for requests in flight
        self._sent = 0
        self._spent_tokens = self._spent_usd = 0.0
        self._in_flight = 0
        self._reserved_tokens = self._reserved_usd = 0.0

    def __repr__(self) -> str:
        return (
            f"<{Amount(self._requests, self._tokens, self._usd)} left, {self.spent} spent, {self.reserved} in flight>"
        )

    def allow(self, amount: Amount) -> None:
        """Take in what the supervisor allows beside what is there."""
        self._requests += amount.requests
        self._tokens += amount.tokens
        self._usd += amount.usd

    def covers(self, tokens: float, usd: float) -> bool:
        """Tell whether the next request, of this estimate, may be sent."""
        return self._requests >= 1.0 and self._tokens >= tokens and self._usd >= usd

    def reserve(self, tokens: float, usd: float) -> None:
        """Take the estimate of a request that is being sent."""
        self._requests -= 1.0
        self._tokens -= tokens
        self._usd -= usd
        self._sent += 1
        self._spent_tokens += tokens
        self._spent_usd += usd
        self._in_flight += 1
        self._reserved_tokens += tokens
        self._reserved_usd += usd

    def settle(self, reserved_tokens: float, reserved_usd: float, tokens: float, usd: float) -> None:
        """Put what a request has used in the place of what was reserved for it. To be called once at its end.

        What was surely not billed has used nothing; what may have been, what was reserved. It counts as a request.
        """
        self._tokens += reserved_tokens - tokens
        self._usd += reserved_usd - usd
        self._spent_tokens += tokens - reserved_tokens
        self._spent_usd += usd - reserved_usd
        self._in_flight -= 1
        if self._in_flight:
            self._reserved_tokens -= reserved_tokens
            self._reserved_usd -= reserved_usd
        else:  # the rounding of millions of sums and differences ends here
            self._reserved_tokens = self._reserved_usd = 0.0

    def need(self, tokens: float, usd: float) -> Amount:
        """Return what a grant must bring for a request of this estimate: the estimate, and a debt if there is one.

        To be asked after `give_back`: for a credit it asks nothing less.
        """
        return Amount(1.0, _with_debt(tokens, self._tokens), _with_debt(usd, self._usd))

    def give_back(self) -> Amount:
        """Hand over all that is left of what is limited. A debt stays."""
        left = Amount(_left(self._requests), _left(self._tokens), _left(self._usd))
        self._requests -= left.requests
        self._tokens -= left.tokens
        self._usd -= left.usd
        return left

    @property
    def spent(self) -> Amount:
        """All that was spent since the start of the process, with what is reserved for requests in flight."""
        return Amount(float(self._sent), self._spent_tokens, self._spent_usd)

    @property
    def reserved(self) -> Amount:
        """Of what is spent, what requests in flight may still correct."""
        return Amount(float(self._in_flight), self._reserved_tokens, self._reserved_usd)


def _with_debt(estimate: float, credit: float) -> float:
    return (estimate - credit) * _ROUNDING if credit < 0 else estimate


def _left(credit: float) -> float:
    return credit if 0 < credit < inf else 0.0
