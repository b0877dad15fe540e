"""Why a run is not faster: the one thing that holds it back most, as far as that can be told."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rowmill.core.counts import ProviderReport
from rowmill.core.reports import Cause, ProviderView, WorkerView
from rowmill.ipc.messages import Heartbeat
from rowmill.supervisor.machine.monitor import Condition

_WHOLE_CORE = 0.9  # of a core that a worker used over the last second
_MOST = 0.5  # of the workers, from which on what they lack is what the run lacks
_MINUTE = 60


class Bottleneck(NamedTuple):
    """What holds a run back, both empty where nothing is known to."""

    cause: Cause = ""
    words: str = ""


def slowed_by(
    condition: Condition,
    providers: Sequence[ProviderView],
    workers: Sequence[WorkerView],
    heartbeats: Sequence[Heartbeat],
    *,
    auto: bool,
    asked: Sequence[Sequence[int]] | None = None,
) -> Bottleneck:
    """Return what does. `auto`: requests in flight are found, not configured.

    `asked`: of a run of several steps the numbers of the providers that each of the workers asks whose heartbeats these
    are. One step that is held back holds back the others.
    """
    at_work = [worker for worker in workers if worker.state == "working"]
    if not at_work:
        return Bottleneck()
    if condition.paused:
        return Bottleneck("disk", "a disk is nearly full")
    if condition.factor < 1.0:
        return Bottleneck("memory", "memory is short")
    usable = [each for each in providers if each.state not in ("closed", "failing", "holding")]
    if providers and not usable:
        states = ", ".join(f"{each.name}: {each.state}" for each in providers)
        return Bottleneck("providers", f"providers that take no requests now ({states})")
    busy = sum(worker.cpu_share >= _WHOLE_CORE for worker in at_work)
    if condition.saturated or busy > _MOST * len(at_work):
        words = f"CPU: {busy or len(condition.lagging)} of {len(at_work)} workers use a core each"
        return Bottleneck("cpu", words)
    reports = [_reports(heartbeats, asked, number) for number in range(len(providers))]
    wanting = [
        provider
        for provider, each in zip(providers, reports, strict=True)
        if provider in usable and _share(report.wants_rate for report in each) >= _MOST
    ]
    if wanting and (asked is not None or len(wanting) == len(usable)):
        return Bottleneck("rate", "; ".join(f"the rate of {each.name}: {_rates(each)}" for each in wanting))
    if any(beat.retries_short for beat in heartbeats):
        return Bottleneck("retries", "the budget for retries is used up (retry.share)")
    lacking = [
        provider
        for provider, each in zip(providers, reports, strict=True)
        if provider in usable and _share(report.wants_slots for report in each) >= _MOST
    ]
    if lacking and (asked is not None or len(lacking) == len(usable)):
        how = "as many as answer well" if auto else "workers.concurrency"
        words = f"requests in flight: {sum(each.allowed for each in lacking):,}, {how}"
        return Bottleneck("concurrency", words)
    return Bottleneck()


def _reports(
    heartbeats: Sequence[Heartbeat], asked: Sequence[Sequence[int]] | None, number: int
) -> list[ProviderReport]:
    """Return what the workers that ask a provider tell of it."""
    if asked is None:
        return [beat.providers[number] for beat in heartbeats]
    pairs = zip(heartbeats, asked, strict=True)
    return [beat.providers[theirs.index(number)] for beat, theirs in pairs if number in theirs]


def _share(values: Iterable[bool]) -> float:
    found = [*values]
    return sum(found) / len(found) if found else 0.0


def _rates(provider: ProviderView) -> str:
    requests, tokens = provider.requests_per_s, provider.tokens_per_s
    words = [] if requests is None else [f"{requests * _MINUTE:,.0f} requests a minute"]
    words += [] if tokens is None else [f"{tokens * _MINUTE:,.0f} tokens a minute"]
    return ", ".join(words) or "it asks for silence"
