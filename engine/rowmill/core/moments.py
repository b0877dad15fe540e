"""What a run did, second by second: the figures of its time series."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from rowmill.core.histograms import Distributions

_Number = TypeVar("_Number", int, float)

# A file may have been spoiled: what lies beyond these was never measured, and no page could draw it.
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]
_Figure: TypeAlias = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]

RESOLUTION = 200  # a moment that is so old is as long as this part of its age: what is long ago need not be so fine


class ProviderMoment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was done with one provider in a moment."""

    requests: _Count = 0
    answered: _Count = 0
    limited: _Count = 0  # 429s
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    in_flight: _Figure = 0.0  # on average
    allowed: _Figure = 0.0  # requests that the leases allowed at a time
    requests_per_s: _Figure | None = None  # that the leases allowed; None: no limit
    tokens_per_s: _Figure | None = None
    state: str = "open"  # as in `ProviderView`: the worst of the moment


class Moment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A second of a session, or several of them that are long ago."""

    at: Annotated[
        float, msgspec.Meta(ge=0, lt=253_402_300_800)
    ]  # seconds since 1970, of its end; before the year 10000
    seconds: Annotated[float, msgspec.Meta(gt=0, le=1e10)]
    session: str
    rows: _Count = 0  # that came to an outcome on disk
    failed: _Count = 0  # of them, failed ones
    requests: _Count = 0
    retries: _Count = 0
    faults: dict[str, _Count] = {}  # failures of requests, by class
    usd: _Figure = 0.0  # spent; 0 where a price is unknown
    usd_by: dict[str, _Figure] = {}  # the same by model, where the run has several
    in_flight: _Figure = 0.0  # on average
    allowed: _Figure = 0.0
    waiting: _Figure = 0.0  # rows in backoff
    workers: _Figure = 0.0
    cpu: _Figure = 0.0  # cores that workers used
    rss_mb: _Figure = 0.0  # of all workers together, at most
    lag_ms: _Figure = 0.0  # of the worker whose loop was latest
    providers: dict[str, ProviderMoment] = {}
    spread: Distributions = msgspec.field(default_factory=Distributions)


_WORST = ("closed", "failing", "holding", "recovering", "open")


def joined(first: Moment, second: Moment) -> Moment:
    """Return two moments of a session, one after the other, as one."""
    length = first.seconds + second.seconds
    share = second.seconds / length

    def mean(a: float, b: float) -> float:
        return round(a + (b - a) * share, 3)

    return Moment(
        at=second.at,
        seconds=round(length, 3),
        session=second.session,
        rows=first.rows + second.rows,
        failed=first.failed + second.failed,
        requests=first.requests + second.requests,
        retries=first.retries + second.retries,
        faults=_added(first.faults, second.faults),
        usd=first.usd + second.usd,
        usd_by=_added(first.usd_by, second.usd_by),
        in_flight=mean(first.in_flight, second.in_flight),
        allowed=mean(first.allowed, second.allowed),
        waiting=mean(first.waiting, second.waiting),
        workers=mean(first.workers, second.workers),
        cpu=mean(first.cpu, second.cpu),
        rss_mb=max(first.rss_mb, second.rss_mb),
        lag_ms=max(first.lag_ms, second.lag_ms),
        providers={
            name: _joined_provider(first.providers.get(name), second.providers.get(name), share)
            for name in first.providers | second.providers
        },
        spread=Distributions.total((first.spread, second.spread)),
    )


def _joined_provider(first: ProviderMoment | None, second: ProviderMoment | None, share: float) -> ProviderMoment:
    a, b = first or ProviderMoment(), second or ProviderMoment()
    return ProviderMoment(
        requests=a.requests + b.requests,
        answered=a.answered + b.answered,
        limited=a.limited + b.limited,
        prompt_tokens=a.prompt_tokens + b.prompt_tokens,
        completion_tokens=a.completion_tokens + b.completion_tokens,
        in_flight=round(a.in_flight + (b.in_flight - a.in_flight) * share, 3),
        allowed=round(a.allowed + (b.allowed - a.allowed) * share, 3),
        requests_per_s=b.requests_per_s,
        tokens_per_s=b.tokens_per_s,
        state=min((each.state for each in (first, second) if each is not None), key=_rank),
    )


def _rank(state: str) -> int:
    return _WORST.index(state) if state in _WORST else len(_WORST)  # another version's


def _added(first: dict[str, _Number], second: dict[str, _Number]) -> dict[str, _Number]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in first | second}


def coarser(moments: Sequence[Moment], now: float) -> list[Moment]:
    """Join what is long ago, so that few are left of a long run: some 1,500 of a day.

    now: seconds since 1970.
    """
    kept: list[Moment] = []
    for moment in moments:
        last = kept[-1] if kept else None
        if last is not None and last.session == moment.session:
            length = last.seconds + moment.seconds
            if length <= (now - moment.at) / RESOLUTION:
                kept[-1] = joined(last, moment)
                continue
        kept.append(moment)
    return kept
