"""How a rate that is let through is used: whether it is what limits, and how many requests in flight use it up."""

from math import ceil

from rowmill.core.counts import ProviderSums
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.flow.traffic import Traffic

_FEW = 4  # replies, before which their time says nothing
_ROOM = 1.5  # times the requests in flight that a rate takes: reply times vary
_SPENT = 0.98  # of a rate, the share from which on it is used up


def limits(rates: ProviderLimits, traffic: Traffic, now: float) -> bool:
    """Whether the rate is what limits: rows wait for it, and it is used up.

    Rows of one worker may wait for its share while others lack slots to use theirs; then slots are what limits.
    """
    if not traffic.wants_rate:
        return False
    shares = (("requests", rates.requests(now)), ("tokens", rates.tokens(now)))
    return any(share is not None and traffic.rate(name, now) >= _SPENT * share.rate for name, share in shares)


def needed(rates: ProviderLimits, total: ProviderSums, now: float) -> int:
    """Return how many requests in flight use up the rate that is let through; 0 where that cannot be told yet."""
    if total.answered < _FEW:
        return 0
    requests, tokens = rates.requests(now), rates.tokens(now)
    per_s = [] if requests is None else [requests.rate]
    if tokens is not None and total.tokens > 0:
        per_s.append(tokens.rate * total.requests / total.tokens)
    return ceil(_ROOM * min(per_s) * total.reply_s / total.answered) if per_s else 0
