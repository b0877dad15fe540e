"""When a run by the Batch API must go over to the live API to have its answers by a deadline.

What is left takes the live API some time; before that, batches under way are cancelled, which takes some as well. The
moment to switch is so long before the deadline, and it moves: the more has come back, the later it is.

Where the live API would take more than half of the whole time, batches have the first half all the same: what comes
back by then is what makes the rest feasible, and without it the deadline would be missed by live requests alone.
"""

from collections.abc import Iterable

from rowmill.core.config import ProviderConfig

_UNKNOWN_PART = 0.25  # of the whole time, where no limit tells how fast the live API is
_SLACK = 1.25  # times what the limits say: retries, slow replies, the last ones
_MOST_LIVE = 0.5  # of the whole time, that is kept free of batches
_SETUP_S = 10.0  # workers start, the output is put together
_CANCEL_PART = 0.05  # of the whole time, until cancelled batches are over,
_CANCEL_S = 600.0  # and no longer: OpenAI cancels within ten minutes


def live_seconds(requests: float, tokens: float, providers: Iterable[ProviderConfig], whole_s: float) -> float:
    """Return how long the live API takes for so many requests, of so many tokens in all.

    whole_s: from the start of the run to its deadline.
    """
    if requests <= 0:
        return 0.0
    per_minute: list[float] = []
    for provider in providers:
        if provider.weight <= 0:
            continue
        rates = [] if provider.requests_per_minute is None else [provider.requests_per_minute]
        if provider.tokens_per_minute is not None and tokens > 0:
            rates.append(provider.tokens_per_minute * requests / tokens)
        if not rates:
            return whole_s * _UNKNOWN_PART
        per_minute.append(min(rates))
    return requests / sum(per_minute) * 60 * _SLACK + min(_SETUP_S, whole_s * _CANCEL_PART)


def cancel_seconds(whole_s: float) -> float:
    """Return how long cancelled batches are waited for."""
    return min(_CANCEL_S, whole_s * _CANCEL_PART)


def switches_at(deadline: float, whole_s: float, live_s: float) -> float:
    """Return the moment to cancel what is under way, on the clock of `deadline`; that itself where nothing is left."""
    if live_s <= 0:
        return deadline
    return deadline - min(live_s, whole_s * _MOST_LIVE) - cancel_seconds(whole_s)
