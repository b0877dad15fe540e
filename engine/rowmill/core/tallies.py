"""What a worker has counted, as numbers with names: as its board has them, and as it has told them.

So the one can be held against the other when a process has been killed, and what was not told is added to the sums.
A name begins with the number of a provider, as "0.wasted.requests", or with nothing for the whole worker: ".rows",
".fault.timeout" for failures of a class.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, ProviderSums

Figures = dict[str, int]


def _spent(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{field}" for field in Spent.__struct_fields__)


# Of a provider. Those first that are written for every request: their places are the constants.
REQUESTS, PROMPT_TOKENS, COMPLETION_TOKENS, CACHED_TOKENS, RETRIES = range(5)
OF_PROVIDER = (
    *("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "retries"),
    *("answered", "limited", "lost", "unhealthy"),
    *_spent("wasted"),
    *_spent("doubtful"),
)
OF_WORKER = (
    *("rows", "failed", "replies", "maybe_billed_twice", "cached", "duplicates", "reasked", "packed", "tokens_saved"),
    *_spent("spared"),
)
ROWS, FAILED = ".rows", ".failed"
_FAULT = ".fault."
_of_provider = attrgetter(*OF_PROVIDER)
_of_worker = attrgetter(*OF_WORKER)


def names(providers: int, faults: Iterable[str]) -> list[str]:
    """Return the names of all numbers, in their order: of each provider, of the worker, of failures by class."""
    return [
        *(f"{number}.{name}" for number in range(providers) for name in OF_PROVIDER),
        *(f".{name}" for name in OF_WORKER),
        *(_FAULT + fault for fault in faults),
    ]


def values(counters: Counters, providers: Iterable[ProviderSums], faults: Iterable[str]) -> list[int]:
    """Return the numbers in the same order."""
    found: list[int] = []
    for provider in providers:
        found += _of_provider(provider)
    found += _of_worker(counters)
    found += [counters.faults.get(fault, 0) for fault in faults]
    return found


def told(counters: Counters, providers: Sequence[ProviderSums]) -> Figures:
    """Return what a worker has told, by name."""
    faults = list(counters.faults)
    return dict(zip(names(len(providers), faults), values(counters, providers, faults), strict=True))


def beyond(counted: Figures, known: Figures) -> Figures:
    """Return what was counted and is not known."""
    return {name: value - known.get(name, 0) for name, value in counted.items() if value > known.get(name, 0)}


def add(more: Figures, counters: Counters, providers: Mapping[int, ProviderSums]) -> None:
    """Add these figures to a worker's. A provider that is not among them is passed over."""
    for name, value in more.items():
        if name.startswith(_FAULT):
            fault = name.removeprefix(_FAULT)
            counters.faults[fault] = counters.faults.get(fault, 0) + value
            continue
        number, _, path = name.partition(".")
        if number:
            if path in ("requests", "retries"):  # which the worker's are the sum of
                setattr(counters, path, getattr(counters, path) + value)
            if int(number) not in providers:
                continue
        target: msgspec.Struct = providers[int(number)] if number else counters
        *above, field = path.split(".")
        for step in above:
            target = getattr(target, step)
        if hasattr(target, field):
            setattr(target, field, getattr(target, field) + value)
