"""Arithmetic on amounts of requests, tokens and dollars, each of its own.

What is not limited is infinite only in a cap, in what is left of a cap, and in the credit of a worker. Nothing is ever
subtracted from that but finite figures, so that no NaN comes of it.
"""

from collections.abc import Callable
from math import inf, isfinite

from rowmill.core.amounts import Amount

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
