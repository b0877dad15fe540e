"""Reads what a server says of its limits: the `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` headers.

This module only reads them. Whether they can be believed is judged over many of them, in `flow.limits.learned`.
"""

import re
from typing import Final

from rowmill.core.leases import LimitSample
from rowmill.core.wire import HeaderLookup

# Beyond these a number is a mistake, or means something else, and is counted as making no sense.
_MOST_UNITS: Final = 1e12  # a period; ten thousand times the largest token limit that is sold
_LONGEST_S: Final = 32 * 86_400.0  # a month's bucket; larger ones are Unix times, as some gateways write them
_LONGEST_TEXT: Final = 40  # characters

# Digits alone: float() would also take "nan", "inf", "1_000" and digits of other scripts.
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?")
# As Go's time.Duration prints itself, and with days.
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:d|h|ms|m|s|us|\u00b5s|ns))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(d|h|ms|m|s|us|\u00b5s|ns)")
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}

_REQUESTS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


def read(header: HeaderLookup) -> tuple[LimitSample | None, LimitSample | None, int]:
    """Return what a reply says of the limit on requests, of that on tokens, and how many headers make no sense.

    A sample is None where one of its three headers is absent or makes no sense. Makes no sense: what is no number or
    duration above or at 0, a limit of 0, and what is larger than any real limit or period; a remainder above its
    limit counts as one. Absent headers are not counted. Never raises.
    """
    requests, odd_of_requests = _triple(header, _REQUESTS)
    tokens, odd_of_tokens = _triple(header, _TOKENS)
    return requests, tokens, odd_of_requests + odd_of_tokens


def seconds(text: str) -> float | None:
    """Read a duration such as `12ms`, `8.64s`, `6m0s`, `1h2m3s` or `90`; None where it is none, or above a month."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return None
    if _NUMBER.fullmatch(text):
        total = float(text)
    elif _DURATION.fullmatch(text):
        total = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        return None
    return total if total <= _LONGEST_S else None


def _triple(header: HeaderLookup, names: tuple[str, str, str]) -> tuple[LimitSample | None, int]:
    limit_text, remaining_text, reset_text = (header(name) for name in names)
    limit = remaining = reset_s = None
    odd = 0
    if limit_text is not None:
        limit = _units(limit_text)
        if limit == 0:  # nothing would ever pass; some gateways write it for "no limit"
            limit = None
        odd += limit is None
    if remaining_text is not None:
        remaining = _units(remaining_text)
        odd += remaining is None
    if reset_text is not None:
        reset_s = seconds(reset_text)
        odd += reset_s is None
    if limit is None or remaining is None or reset_s is None:
        return None, odd
    if remaining > limit:
        return None, odd + 1
    return LimitSample(limit, remaining, reset_s), odd


def _units(text: str) -> float | None:
    text = text.strip()
    if len(text) > _LONGEST_TEXT or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if number <= _MOST_UNITS else None
