"""Every way in which the simulator can fail, by name, and which request gets which.

A fault is data: what is sent, and how. The names are the vocabulary of tests, proofs and `[simulator]` settings.

A content fault is one of a reply that is whole and right by all that HTTP and the API say, but whose content is not the
JSON that was asked for (`replies.damage` says how). Other replies it leaves as they are.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from enum import Enum, auto
from itertools import accumulate
from math import ceil
from random import Random
from typing import Any

import msgspec

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import error_body


class FaultDelivery(Enum):
    """How the answer to a request reaches, or does not reach, its sender."""

    WHOLE = auto()  # as HTTP wants it
    HALF = auto()  # valid HTTP around the first half of the reply
    RESET = auto()  # the connection is reset before any byte of the answer
    RESET_IN_BODY = auto()  # the connection is reset after the first half of the announced body
    HANG = auto()  # nothing, for as long as the settings' `hang_s`; then the connection is reset
    DRIP = auto()  # one byte of the body a second


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the catalogue."""

    name: str
    delivery: FaultDelivery = FaultDelivery.WHOLE
    status: int = 200
    body: bytes | None = None  # None: the reply that the request would have had
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    retry_at_s: float | None = None  # send a retry-after with a date this many seconds ahead
    rises_ms: int | None = None  # send a retry-after-ms of this much, twice this much, ... for each in a row
    content: bool = False  # it strikes in the content of the reply, where that is JSON that was asked for
    produced: bool = False  # a model's reply was made, hence latency and tokens that are billed
    valid: bool = False  # the sender gets a valid reply


def _error(name: str, status: int, message: str, *, kind: str, code: str | None, **how: Any) -> Fault:
    return Fault(name=name, status=status, body=error_body(message, kind=kind, code=code), **how)


def _limited(name: str, **how: Any) -> Fault:
    message = "Rate limit reached for requests. This one was scripted."
    return _error(name, 429, message, kind="requests", code="rate_limit_exceeded", **how)


_NONSENSE_LIMITS = {
    "x-ratelimit-limit-requests": "plenty",
    "x-ratelimit-remaining-requests": "-7",
    "x-ratelimit-reset-requests": "tomorrow",
    "x-ratelimit-limit-tokens": "",
    "x-ratelimit-remaining-tokens": "NaN",
    "x-ratelimit-reset-tokens": "1x2y",
}
_HUGE_LIMITS = {
    "x-ratelimit-limit-requests": "9" * 400,
    "x-ratelimit-remaining-requests": "1e300",
    "x-ratelimit-reset-requests": "0ms",
    "x-ratelimit-limit-tokens": "-60000",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "99999999999h",
}
_HTML_502 = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
_HTML_200 = b"<!doctype html><title>Sign in</title><p>Please sign in to this network.</p>\n"
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_TOO_FAST = "Your traffic grew too fast. Please slow down."
_ARRAY = b'[{"error":{"code":400,"message":"Request contains an invalid argument.","status":"INVALID_ARGUMENT"}}]'

CATALOGUE: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(name="ok", produced=True, valid=True),
        _limited("429", headers={"retry-after": "1"}),
        _limited("429-ms", headers={"retry-after-ms": "200"}),
        _limited("429-date", retry_at_s=1),
        _limited("429-rising", rises_ms=200),
        _limited("429-long", headers={"retry-after": "600"}),
        _limited("429-bare"),
        _error("429-quota", 429, _QUOTA, kind="insufficient_quota", code="insufficient_quota"),
        _error("slow_down", 429, _TOO_FAST, kind="requests", code="slow_down", headers={"retry-after": "1"}),
        _error("401", 401, "Incorrect API key provided.", kind="invalid_request_error", code="invalid_api_key"),
        _error("404", 404, "The model does not exist.", kind="invalid_request_error", code="model_not_found"),
        _error("400", 400, "Invalid value for a parameter.", kind="invalid_request_error", code="invalid_value"),
        _error("500", 500, "The server had an error while processing your request.", kind="server_error", code=None),
        Fault(name="502", status=502, body=_HTML_502, content_type="text/html"),
        _error("503", 503, "The engine is currently overloaded.", kind="server_error", code="overloaded"),
        _error("529", 529, "Overloaded", kind="overloaded_error", code=None),
        Fault(name="reset", delivery=FaultDelivery.RESET, produced=True),
        Fault(name="reset-body", delivery=FaultDelivery.RESET_IN_BODY, produced=True),
        Fault(name="hang", delivery=FaultDelivery.HANG),
        Fault(name="drip", delivery=FaultDelivery.DRIP, produced=True, valid=True),
        Fault(name="truncated", delivery=FaultDelivery.HALF, produced=True),
        Fault(name="empty", body=b"", produced=True),
        Fault(name="html", body=_HTML_200, content_type="text/html"),
        Fault(name="array", status=400, body=_ARRAY),
        Fault(name="bad-headers", headers=_NONSENSE_LIMITS, produced=True, valid=True),
        Fault(name="huge-headers", headers=_HUGE_LIMITS, produced=True, valid=True),
        Fault(name="wrong-type", content=True, produced=True),  # one value has another type than the schema says
        Fault(name="extra-prose", content=True, produced=True),  # sentences around the JSON
        Fault(name="cut", content=True, produced=True),  # the first half of it, as if the reply had become too long
        Fault(name="missing", content=True, produced=True),  # a required member or an answer of a pack is left out
        Fault(name="duplicate", content=True, produced=True),  # an answer of a pack is there twice, once with another's
        Fault(name="wrong-id", content=True, produced=True),  # an answer of a pack has an id that was not asked
    )
}
OK = CATALOGUE["ok"]


def named(name: str) -> Fault:
    """Look a fault up. Raises ValueError with the nearest right name."""
    require_known(name, CATALOGUE, "fault")
    return CATALOGUE[name]


def require_known(name: str, known: Collection[str], what: str) -> None:
    """Raise ValueError with the nearest right name where it is none of these."""
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown {what} {name!r}; did you mean {near!r}? Known: {', '.join(known)}")


def headers_of(fault: Fault, now: float, in_a_row: int = 1) -> Mapping[str, str]:
    """Collect the fault's headers at Unix time `now`; this is its n-th time in a row.

    A date has whole seconds, so it is rounded up, never early.
    """
    headers = fault.headers
    if fault.retry_at_s is not None:
        from email.utils import formatdate  # with all of mail, and every run checks its settings here

        headers = {**headers, "retry-after": formatdate(ceil(now + fault.retry_at_s), usegmt=True)}
    if fault.rises_ms is not None:
        headers = {**headers, "retry-after-ms": str(fault.rises_ms * in_a_row)}
    return headers


class Shares:
    """Draws names by their shares. Raises ValueError for a share outside 0 to 1, or shares that sum above 1.

    one, every: what a name and all of them are called in messages.
    """

    def __init__(self, shares: Mapping[str, float], random: Random, one: str = "fault ", every: str = "faults") -> None:
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {one}{name!r} must be from 0 to 1, not {share}")
        bounds = list(accumulate(shares.values()))
        if bounds and bounds[-1] > 1 + 1e-9:
            raise ValueError(f"the shares of all {every} sum to {bounds[-1]:g}, which is above 1")
        self._bounds = list(zip(bounds, shares, strict=True))
        self._random = random

    def draw(self) -> str | None:
        """Draw the next one; None is none of them."""
        if self._bounds:
            drawn = self._random.random()
            for bound, name in self._bounds:
                if drawn < bound:
                    return name
        return None


class FaultPlan:
    """Which fault each request of one provider gets: an outage before all, then the script, then shares.

    Raises ValueError for an unknown name, a share outside 0 to 1, or shares that sum above 1.
    """

    def __init__(self, settings: SimulatorSettings, random: Random) -> None:
        self._script = iter([named(name) for name in settings.script])
        for name in settings.faults:
            named(name)
        self._shares = Shares(settings.faults, random)
        self._outage: Fault | None = None
        self._outage_ends = 0.0

    def begin_outage(self, fault: Fault, ends: float) -> None:
        """Let every request have this fault until the time `ends`, of the clock that `next` is given."""
        self._outage, self._outage_ends = fault, ends

    def end_outage(self) -> None:
        """Go on with the script and the shares, from where they were."""
        self._outage = None

    def next(self, now: float) -> Fault:
        """Choose the fault of the next request. An outage uses up neither script nor random numbers."""
        if self._outage is not None:
            if now < self._outage_ends:
                return self._outage
            self._outage = None
        scripted = next(self._script, None)
        return scripted if scripted is not None else CATALOGUE[self._shares.draw() or "ok"]


class ContentPlan:
    """Which content fault each reply in JSON of one provider gets, and where it strikes.

    Raises ValueError for a name that is none of a content fault, a share outside 0 to 1, or shares that sum above 1.
    """

    def __init__(self, settings: SimulatorSettings, random: Random) -> None:
        for name in settings.content_faults:
            if not named(name).content:
                known = ", ".join(fault.name for fault in CATALOGUE.values() if fault.content)
                raise ValueError(f"{name!r} is no content fault; these are: {known}")
        self._shares = Shares(settings.content_faults, random)
        self._random = random

    def next(self) -> Fault:
        """Choose the content fault of the next reply in JSON."""
        return CATALOGUE[self._shares.draw() or "ok"]

    def spot(self) -> int:
        """Draw the 64 bits that decide which part of a reply is struck."""
        return self._random.getrandbits(64)
