"""The timeline of a report: the moments of a run, joined to so few that a page can draw them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from rowmill.core.histograms import Buckets, Distributions, least_of, quantile
from rowmill.core.moments import Moment, ProviderMoment, joined
from rowmill.runs.report.document import DistributionFacts, ProviderColumns, Timeline

_POINTS = 1_500
_CELLS = 120_000  # of all columns together: some 800 kB of JSON
_LEAST_POINTS = 200
PROVIDERS = 24  # that have columns of their own,
_MODELS, _FAULTS = 12, 12
MORE = "more"  # the column of what has none of its own
_NO_PROVIDER = ProviderMoment()

_TITLES = {
    "latency_ms": ("latency", "Latency of replies", "ms"),
    "slot_wait_ms": ("slot_wait", "Waiting for a slot", "ms"),
    "rate_wait_ms": ("rate_wait", "Waiting for the rate", "ms"),
    "prompt_tokens": ("prompt_tokens", "Tokens of a prompt", "tokens"),
    "completion_tokens": ("completion_tokens", "Tokens of a reply", "tokens"),
}


def timeline(moments: Sequence[Moment], sessions: Sequence[str], model: str) -> Timeline:
    """Return the columns. sessions: ids, in the order of the document; model: what cost nobody has told apart is of."""
    names = _most({name: each.requests for moment in moments for name, each in moment.providers.items()}, moments)
    faults, models = _by_size(each.faults for each in moments), _by_size(each.usd_by for each in moments)
    columns = 18 + 9 * min(len(names), PROVIDERS) + min(len(faults), _FAULTS) + min(len(models), _MODELS)
    bare = [msgspec.structs.replace(each, spread=Distributions()) for each in moments]  # not to be joined in vain
    points = fewer(bare, max(_LEAST_POINTS, min(_POINTS, _CELLS // columns)))
    places = {session: place for place, session in enumerate(sessions)}

    def column(value: Callable[[Moment], float], digits: int = 3) -> list[float]:
        return [round(value(each), digits) for each in points]

    def summed(name: str) -> list[int]:
        return [sum(getattr(one, name) for one in each.providers.values()) for each in points]

    return Timeline(
        at=column(lambda each: each.at),
        seconds=column(lambda each: each.seconds),
        session=[places.get(each.session, -1) for each in points],
        rows=[each.rows for each in points],
        failed=[each.failed for each in points],
        requests=[each.requests for each in points],
        retries=[each.retries for each in points],
        prompt_tokens=summed("prompt_tokens"),
        completion_tokens=summed("completion_tokens"),
        in_flight=column(lambda each: each.in_flight, 1),
        allowed=column(lambda each: each.allowed, 1),
        waiting=column(lambda each: each.waiting, 1),
        workers=column(lambda each: each.workers, 1),
        usd=column(lambda each: each.usd, 9),
        cpu=column(lambda each: each.cpu, 2),
        rss_mb=column(lambda each: each.rss_mb, 1),
        lag_ms=column(lambda each: each.lag_ms, 1),
        usd_by=_usd_by(points, models, model),
        faults={
            name: [round(each) for each in values]
            for name, values in _named([each.faults for each in points], faults, _FAULTS).items()
        },
        providers=[_columns(name, points) for name in names[:PROVIDERS]],
        more_providers=max(0, len(names) - PROVIDERS),
    )


def _most(found: Mapping[str, int], moments: Iterable[Moment]) -> list[str]:
    """Return the names of the providers, those with the most requests first where there are many."""
    if len(found) <= PROVIDERS:
        return list(found)
    requests: Counter[str] = Counter()
    for moment in moments:
        requests.update({name: each.requests for name, each in moment.providers.items()})
    return [name for name, _ in requests.most_common()]


def _by_size(parts: Iterable[Mapping[str, float]]) -> list[str]:
    sums: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            sums[name] = sums.get(name, 0) + value
    return sorted(sums, key=lambda name: -sums[name])


def _named(parts: Sequence[Mapping[str, float]], names: Sequence[str], most: int) -> dict[str, list[float]]:
    """Return a column for each of the first names, and one for all others together."""
    own = names[:most]
    columns = {name: [part.get(name, 0) for part in parts] for name in own}
    if len(names) > most:
        columns[MORE] = [sum(part.values()) - sum(part.get(name, 0) for name in own) for part in parts]
    return columns


def _usd_by(points: Sequence[Moment], models: Sequence[str], model: str) -> dict[str, list[float]]:
    parts = []
    for each in points:
        untold = each.usd - sum(each.usd_by.values())
        part = dict(each.usd_by)
        if untold > 1e-12:  # noqa: PLR2004 - what sums are rounded by
            part[model] = part.get(model, 0.0) + untold
        parts.append(part)
    names = [*models, *([model] if model not in models and any(model in part for part in parts) else [])]
    return {name: [round(each, 9) for each in values] for name, values in _named(parts, names, _MODELS).items()}


def _columns(name: str, points: Sequence[Moment]) -> ProviderColumns:
    own = [each.providers.get(name, _NO_PROVIDER) for each in points]
    return ProviderColumns(
        name=name,
        requests=[each.requests for each in own],
        answered=[each.answered for each in own],
        limited=[each.limited for each in own],
        tokens=[each.prompt_tokens + each.completion_tokens for each in own],
        in_flight=[round(each.in_flight, 1) for each in own],
        allowed=[round(each.allowed, 1) for each in own],
        requests_per_s=[_rounded(each.requests_per_s) for each in own],
        tokens_per_s=[_rounded(each.tokens_per_s) for each in own],
        state=[each.state for each in own],
    )


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)


def fewer(moments: Sequence[Moment], most: int) -> list[Moment]:
    """Join moments until there are no more than so many; those of two sessions only where nothing else helps."""
    kept = list(moments)
    length = sum(each.seconds for each in moments) / most
    across = False
    while len(kept) > most:
        before = len(kept)
        kept = _joined_up_to(kept, length, across=across)
        across = across or len(kept) == before  # every session is one moment by now, or as long
        length *= 2
    return kept


def _joined_up_to(moments: Sequence[Moment], length: float, *, across: bool) -> list[Moment]:
    kept: list[Moment] = []
    for moment in moments:
        last = kept[-1] if kept else None
        if last is not None and (across or last.session == moment.session) and last.seconds + moment.seconds <= length:
            kept[-1] = joined(last, moment)
        else:
            kept.append(moment)
    return kept


def distributions(moments: Iterable[Moment]) -> list[DistributionFacts]:
    """Return how latencies, waits and tokens were distributed, as far as they were measured."""
    spread = Distributions.total(each.spread for each in moments)
    found = ((_TITLES[name], getattr(spread, name)) for name in _TITLES)
    return [_distribution(*titles, buckets) for titles, buckets in found if buckets]


def _distribution(name: str, title: str, unit: str, buckets: Buckets) -> DistributionFacts:
    return DistributionFacts(
        name=name,
        title=title,
        unit=unit,
        count=sum(buckets.values()),
        p50=quantile(buckets, 0.5),
        p90=quantile(buckets, 0.9),
        p99=quantile(buckets, 0.99),
        max=float(least_of(max(buckets) + 1) - 1),
        buckets=[(least_of(bucket), least_of(bucket + 1), buckets[bucket]) for bucket in sorted(buckets)],
    )
