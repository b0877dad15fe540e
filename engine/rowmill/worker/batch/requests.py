"""How many requests a run's batches have come to, as its journal has them: those that the provider has worked on."""

from collections.abc import Iterable

from rowmill.core.counts import Counters
from rowmill.store.batch_journal import Try


def request_counts(tries: Iterable[Try]) -> Counters:
    """Count the requests of those of these tries that are done with.

    Retries are those that were not their rows' first; maybe billed twice, those that were given up and are asked again.
    """
    whole = Counters()
    asked: dict[int, int] = {}  # part -> the row up to which all were asked for before
    for t in sorted(tries, key=lambda t: (t.part, t.number)):
        requests = _worked_on(t)
        whole.requests += requests
        if t.number == t.counted_from:
            asked[t.part] = t.first_row
        before = asked[t.part]
        first = max(t.asked_to - before, 0)  # rows at most that were not asked for before
        whole.retries += round(requests * max(t.rows - first, 0) / t.rows) if t.rows else 0
        if t.maybe_billed:
            whole.maybe_billed_twice += requests
        if t.maybe_billed or (t.phase == "collected" and t.status == "completed"):
            asked[t.part] = max(before, t.asked_to)
    return whole


def _worked_on(t: Try) -> int:
    if t.maybe_billed:
        return t.requests
    if t.phase != "collected" or t.status == "failed":
        return 0
    # An expired or cancelled batch has left the rest alone.
    rest = 0 if t.status == "completed" else round(t.left * t.requests / t.rows)
    return max(t.requests - rest, t.spent.requests)
