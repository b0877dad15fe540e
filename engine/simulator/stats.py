"""What arrived and what was answered: the figures behind `/stats`. No I/O; times are passed in.

A request is known by a 64-bit key made from its body. Memory grows with the number of distinct bodies, by about
130 bytes each, which holds millions of rows.
"""

from collections import deque
from typing import Any

SERIES_S = 600  # seconds of history kept


class Ledger:
    """The figures of one provider, or of all together."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but what is in flight now. What ends later still counts as an answer."""
        self.requests = 0
        self.bytes_in = 0
        self.in_flight_max = self.in_flight
        self.max_per_request = 0
        self.repeated_after_success = 0
        self.no_answer = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.statuses: dict[int, int] = {}
        self.faults: dict[str, int] = {}
        self.limited: dict[str, int] = {}
        self._seen: dict[int, int] = {}  # key -> 2 * times seen + (1 if answered): small ints are shared, so it is lean
        self._series: deque[list[int]] = deque(maxlen=SERIES_S)  # [Unix second, requests]; empty seconds are left out

    def arrived(self, key: int, size: int, second: int) -> None:
        """Count a request whose body of `size` bytes has been read."""
        self.requests += 1
        self.bytes_in += size
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        mark = self._seen.get(key, 0)
        if mark & 1:
            self.repeated_after_success += 1
        mark += 2
        self._seen[key] = mark
        self.max_per_request = max(self.max_per_request, mark >> 1)
        if self._series and self._series[-1][0] == second:
            self._series[-1][1] += 1
        else:
            self._series.append([second, 1])

    def left(self, key: int, status: int | None, *, success: bool) -> None:
        """Count its end. `status` is None where no answer was begun; `success`: a valid reply was sent whole."""
        self.in_flight -= 1
        if status is None:
            self.no_answer += 1
        else:
            self.statuses[status] = self.statuses.get(status, 0) + 1
        if success and key in self._seen:
            self._seen[key] |= 1

    def billed(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a produced reply, whether or not it reached anyone."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def faulted(self, name: str) -> None:
        """Count a fault that was chosen for a request."""
        self.faults[name] = self.faults.get(name, 0) + 1

    def denied(self, limit: str) -> None:
        """Count a request that a limit turned away."""
        self.limited[limit] = self.limited.get(limit, 0) + 1

    def figures(self, second: int) -> dict[str, Any]:
        """Everything as JSON. The series covers the `SERIES_S` seconds up to `second`."""
        distinct = len(self._seen)
        return {
            "requests": self.requests,
            "distinct": distinct,
            "duplicates": self.requests - distinct,
            "max_per_request": self.max_per_request,
            "repeated_after_success": self.repeated_after_success,
            "by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "no_answer": self.no_answer,
            "by_fault": dict(sorted(self.faults.items())),
            "limited": dict(self.limited),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "bytes_in": self.bytes_in,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "per_second": [entry for entry in self._series if entry[0] > second - SERIES_S],
        }
