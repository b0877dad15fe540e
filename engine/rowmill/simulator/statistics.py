"""What arrived and what was answered: the figures behind `/stats`. No I/O; times are passed in.

A request is known by a 64-bit key made from its body. Memory grows with the number of distinct bodies, by about
130 bytes each, which holds millions of rows.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from rowmill.simulator.batches.figures import BatchFigures

SERIES_S = 600  # seconds of history kept
_REQUESTS, _GOOD, _REFUSED, _FAILED, _TOKENS = range(1, 6)  # places in an entry of the series
_TOO_MANY = 429
# A body's entry: how often it came, times _ONE, and these bits.
_ANSWERED_ONCE, _ANSWERED_TWICE, _DAMAGED, _ONE = 1, 2, 4, 8


class Statistics:
    """The figures of one provider, or of all together."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting = 0  # of them, in line until others are done
        self.batches = BatchFigures()
        self.clear()

    def clear(self) -> None:
        """Forget everything but what is in flight and in line now. What ends later still counts as an answer."""
        self.batches.clear()
        self.requests = 0
        self.lines = 0  # of batches: each is a request that came, and is known by the same key as a live one
        self.bytes_in = 0
        self.in_flight_max = self.in_flight
        self.waiting_max = self.waiting
        self.first: float | None = None  # Unix time of the first and of the last request
        self.last: float | None = None
        self.admitted = 0
        self.charged_tokens = 0
        self.max_per_request = 0
        self.repeated_after_success = 0
        self.repeated_after_damage = 0
        self.answered_twice = 0
        self.no_answer = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.routes: dict[str, int] = {}
        self.inputs: dict[str, int] = {}
        self.statuses: dict[int, int] = {}
        self.faults: dict[str, int] = {}
        self.limited: dict[str, int] = {}
        self._seen: dict[int, int] = {}  # key -> entry: small ints are shared, so it is lean
        # [Unix second, requests, answered, refused, failed, charged tokens]; empty seconds are left out
        self._series: deque[list[int]] = deque(maxlen=SERIES_S)

    def arrived(self, key: int, size: int, now: float, route: str = "/chat/completions") -> None:
        """Count a request whose body of `size` bytes has been read at Unix time `now`."""
        self.requests += 1
        self.routes[route] = self.routes.get(route, 0) + 1
        self.bytes_in += size
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        if self.first is None:
            self.first = now
        self.last = now
        self._came(key)
        self._entry(now)[_REQUESTS] += 1

    def left(self, key: int, status: int | None, now: float, *, success: bool, damaged: bool = False) -> None:
        """Count its end. `status` is None where no answer was begun; `success`: a valid reply was sent whole.

        damaged: one was, but for its content.
        """
        self.in_flight -= 1
        if status is None:
            self.no_answer += 1
        else:
            self.statuses[status] = self.statuses.get(status, 0) + 1
        self._ended(key, success=success, damaged=damaged)
        self._entry(now)[_GOOD if success else _REFUSED if status == _TOO_MANY else _FAILED] += 1

    def line(self, key: int, *, success: bool, damaged: bool = False) -> None:
        """Count a line of a batch, which comes and ends at once."""
        self.lines += 1
        self._came(key)
        self._ended(key, success=success, damaged=damaged)

    def remember(self, keys: Iterable[int]) -> None:
        """Count lines of batches that had a valid reply from an earlier process."""
        for key in keys:
            self.line(key, success=True)

    def _came(self, key: int) -> None:
        mark = self._seen.get(key, 0)
        if mark & _ANSWERED_ONCE:
            self.repeated_after_success += 1
        elif mark & _DAMAGED:
            self.repeated_after_damage += 1
        mark += _ONE
        self._seen[key] = mark
        self.max_per_request = max(self.max_per_request, mark // _ONE)

    def _ended(self, key: int, *, success: bool, damaged: bool) -> None:
        mark = self._seen.get(key)
        if mark is None:  # the figures were reset meanwhile
            return
        if success:
            if mark & _ANSWERED_ONCE and not mark & _ANSWERED_TWICE:
                self.answered_twice += 1
                mark |= _ANSWERED_TWICE
            self._seen[key] = mark | _ANSWERED_ONCE
        elif damaged:
            self._seen[key] = mark | _DAMAGED

    def charged(self, tokens: int, now: float) -> None:
        """Count a request that the limits let through, at the price of so many tokens."""
        self.admitted += 1
        self.charged_tokens += tokens
        self._entry(now)[_TOKENS] += tokens

    def queued(self) -> None:
        """Count a request that has to wait until others are done."""
        self.waiting += 1
        self.waiting_max = max(self.waiting_max, self.waiting)

    def dequeued(self) -> None:
        """Count the end of such a wait."""
        self.waiting -= 1

    def billed(self, prompt_tokens: int, completion_tokens: int, inputs: int, route: str) -> None:
        """Count a produced reply to so many texts or prompts, whether or not it reached anyone."""
        self.inputs[route] = self.inputs.get(route, 0) + inputs
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def faulted(self, name: str) -> None:
        """Count a fault that was chosen for a request."""
        self.faults[name] = self.faults.get(name, 0) + 1

    def denied(self, limit: str) -> None:
        """Count a request that a limit turned away."""
        self.limited[limit] = self.limited.get(limit, 0) + 1

    def figures(self, second: int) -> dict[str, Any]:
        """Everything as JSON. The series covers the `SERIES_S` seconds up to `second`.

        An entry of it is [Unix second, requests that came, ends by a valid reply, ends by a 429, other ends, tokens
        charged]; seconds in which nothing happened are left out. `per_second` is its first two columns.

        Of a body, and each route by itself: `repeated_after_success` counts requests with one that a valid reply had
        been sent to before, `answered_twice` the distinct bodies that valid replies were sent to more than once (also
        where the second request came before the first reply), `repeated_after_damage` requests with one that so far
        only had replies with a content fault. `by_route` counts requests, `inputs` the texts and the prompts of packs
        in replies that were made.

        Lines of batches count in these four, in `distinct` and in `max_per_request`, and nowhere else: what they did
        and what they cost is under `batches`.
        """
        distinct = len(self._seen)
        series = [entry for entry in self._series if entry[0] > second - SERIES_S]
        return {
            "requests": self.requests,
            "distinct": distinct,
            "duplicates": self.requests + self.lines - distinct,
            "max_per_request": self.max_per_request,
            "repeated_after_success": self.repeated_after_success,
            "repeated_after_damage": self.repeated_after_damage,
            "answered_twice": self.answered_twice,
            "by_route": dict(sorted(self.routes.items())),
            "inputs": dict(sorted(self.inputs.items())),
            "by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "no_answer": self.no_answer,
            "by_fault": dict(sorted(self.faults.items())),
            "limited": dict(self.limited),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "waiting": self.waiting,
            "waiting_max": self.waiting_max,
            "first": self.first,
            "last": self.last,
            "admitted": self.admitted,
            "charged_tokens": self.charged_tokens,
            "bytes_in": self.bytes_in,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "per_second": [entry[:2] for entry in series if entry[_REQUESTS]],
            "series": series,
            "batches": self.batches.figures(),
        }

    def _entry(self, now: float) -> list[int]:
        second = int(now)
        if not self._series or self._series[-1][0] != second:
            self._series.append([second, 0, 0, 0, 0, 0])
        return self._series[-1]
