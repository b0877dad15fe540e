"""What a run spends, what that costs, and the arithmetic of three things at a time: requests, tokens, dollars.

What is not limited is infinite only in a cap, in what is left of a cap, and in the credit of a worker. Nothing is ever
subtracted from that but finite figures, so that no NaN comes of it.
"""

from collections.abc import Callable
from math import inf, isfinite
from typing import Self

import msgspec

from rowmill.core.sums import Sums


class Spent(Sums):
    """What requests have cost, in tokens."""

    requests: int = 0
    prompt_tokens: int = 0  # the cached ones included
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens that are paid for."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: Self) -> None:
        """Add the other's figures to these. Called for rows, and so spelled out: ten times as fast as for all sums."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


class Price(msgspec.Struct, frozen=True):
    """What one model of one provider costs, in dollars a million tokens."""

    input: float
    output: float
    cached_input: float
    batch_discount: float = 0.5  # part of the price that the Batch API takes off

    def usd(self, spent: Spent, *, batch: bool = False) -> float:
        """Return what this costs, in dollars."""
        whole = (
            (spent.prompt_tokens - spent.cached_tokens) * self.input
            + spent.cached_tokens * self.cached_input
            + spent.completion_tokens * self.output
        ) / 1e6
        return whole * (1.0 - self.batch_discount) if batch else whole


class Amount(msgspec.Struct, frozen=True, array_like=True):
    """Some of each thing that a budget can limit: what is spent, reserved, allowed or needed."""

    requests: float = 0.0
    tokens: float = 0.0
    usd: float = 0.0

    def __repr__(self) -> str:
        return f"<{self.requests:g} requests, {self.tokens:g} tokens, ${self.usd:g}>"

    def __add__(self, other: "Amount") -> "Amount":
        """Return both together."""
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: "Amount") -> "Amount":
        """Return what is left without the other."""
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.usd - other.usd)


NOTHING = Amount()


def each(how: Callable[..., float], *amounts: Amount) -> Amount:
    """Return what `how` makes of the amounts' requests, of their tokens and of their dollars."""
    return Amount(
        how(*[amount.requests for amount in amounts]),
        how(*[amount.tokens for amount in amounts]),
        how(*[amount.usd for amount in amounts]),
    )


def times(factor: float, amount: Amount) -> Amount:
    """Return so many times the amount."""
    return each(lambda value: value * factor, amount)


def above(amount: Amount) -> Amount:
    """Return what is above 0 of it."""
    return each(lambda value: max(0.0, value), amount)


def limited(cap: Amount, amount: Amount) -> Amount:
    """Return the amount without that which the cap does not limit."""
    return each(lambda most, value: value if isfinite(most) else 0.0, cap, amount)


def unlimited(cap: Amount, amount: Amount) -> Amount:
    """Return the amount with an infinity in the place of that which the cap does not limit."""
    return each(lambda most, value: value if isfinite(most) else inf, cap, amount)


def covers(there: Amount, need: Amount) -> bool:
    """Tell whether there is as much of everything."""
    return there.requests >= need.requests and there.tokens >= need.tokens and there.usd >= need.usd
