"""Distributions as counts in buckets that grow with the value: they add up, whatever they were taken over.

Each power of two is cut into 16 buckets, as in an HDR histogram, so that a value is known to within 6%; below 32 every
value has a bucket of its own. A bucket is a number, and means the same everywhere.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import msgspec

from rowmill.core.sums import Sums

_BITS = 4  # a power of two has so many of 2 buckets
_EXACT = 1 << (_BITS + 1)  # values below are buckets themselves

_LAST = (61 << _BITS) - 1  # has what needs 64 bits, and what is larger

# bucket -> how many values were in it. A spoiled file may name buckets whose least values would not fit into memory.
Buckets: TypeAlias = dict[Annotated[int, msgspec.Meta(ge=0, le=_LAST)], Annotated[int, msgspec.Meta(ge=0)]]


def bucket_of(value: int) -> int:
    """Return the bucket of a value; one below 0 counts as 0."""
    if value < _EXACT:
        return max(0, value)
    shift = value.bit_length() - _BITS - 1
    return min(_LAST, (shift << _BITS) + (value >> shift))


def least_of(bucket: int) -> int:
    """Return the least value of a bucket."""
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _BITS) - 1
    return (bucket - (shift << _BITS)) << shift


def counted(values: Iterable[int]) -> Buckets:
    """Return the counts of values."""
    buckets: Buckets = {}
    for value, count in Counter(values).items():  # which are few, and counted in C
        bucket = bucket_of(value)
        buckets[bucket] = buckets.get(bucket, 0) + count
    return buckets


def quantile(buckets: Mapping[int, int], part: float) -> float | None:
    """Return the value that so large a part of all is at most, the middle of its bucket; None where there is none."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted = part * total
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            break
    return (least_of(bucket) + least_of(bucket + 1) - 1) / 2


class Distributions(Sums, omit_defaults=True):
    """How what a run measures of single requests and rows is distributed, as `Buckets`."""

    latency_ms: Buckets = msgspec.field(default_factory=dict)  # of valid replies, until they were whole
    slot_wait_ms: Buckets = msgspec.field(default_factory=dict)  # of rows, from when they were read to their first try
    rate_wait_ms: Buckets = msgspec.field(default_factory=dict)  # of it, of rows that were the next to go
    prompt_tokens: Buckets = msgspec.field(default_factory=dict)  # of valid replies
    completion_tokens: Buckets = msgspec.field(default_factory=dict)
    sums: dict[str, float] = msgspec.field(default_factory=dict)  # what the values of each of these add up to
