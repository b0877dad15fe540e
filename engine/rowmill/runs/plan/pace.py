"""How long requests take that only the configured limits hold back, and how they are cut into batches."""

from collections.abc import Sequence
from math import ceil, inf

from rowmill.core.config import ProviderConfig
from rowmill.core.config.sections import BatchConfig

WINDOW_S = 86_400.0  # in which the Batch API promises its results
_MINUTE, _DAY = 60.0, 86_400.0
_STEPS = 60  # of halving: below a microsecond in a year
_ENVELOPE = 100  # bytes of a batch file's line around the body


def seconds(providers: Sequence[ProviderConfig], requests: float, tokens: float) -> float | None:
    """Return the time for so many requests with so many tokens in all; None where a provider has no limit.

    Each provider takes as much as its limits allow. A day's budget is there at the start, and comes back evenly.
    """
    if not requests:
        return 0.0
    each = tokens / requests
    limits = [(_rate(provider, each), _daily(provider, each)) for provider in providers if provider.weight > 0]
    if any(limit == (inf, inf) for limit in limits):
        return None

    def done(time: float) -> float:
        return sum(min(rate * time if rate < inf else inf, day * (1.0 + time / _DAY)) for rate, day in limits)

    if done(0.0) >= requests:
        return 0.0
    late = 1.0
    while done(late) < requests:
        late *= 2
    early = 0.0
    for _ in range(_STEPS):
        middle = (early + late) / 2
        early, late = (early, middle) if done(middle) >= requests else (middle, late)
    return late


def _rate(provider: ProviderConfig, each: float) -> float:
    """Return requests a second, by the limits a minute."""
    return min(_of(provider.requests_per_minute, 1.0), _of(provider.tokens_per_minute, each)) / _MINUTE


def _daily(provider: ProviderConfig, each: float) -> float:
    return min(_of(provider.requests_per_day, 1.0), _of(provider.tokens_per_day, each))


def _of(limit: float | None, each: float) -> float:
    return inf if limit is None or not each else limit / each


def parts(batch: BatchConfig, requests: float, body_bytes: float) -> int:
    """Return into how many batches so many requests are cut."""
    by_size = (body_bytes + requests * _ENVELOPE) / (batch.max_mb * 1e6)
    return max(1, ceil(requests / batch.max_requests), ceil(by_size)) if requests else 0


def waves(batch: BatchConfig, prompt_tokens: float) -> int:
    """Return how often the limit of enqueued tokens has to be filled."""
    return 1 if batch.enqueued_tokens is None else max(1, ceil(prompt_tokens / batch.enqueued_tokens))
