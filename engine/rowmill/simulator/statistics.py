"""What arrived and what was answered: the figures behind `/stats`. No I/O; times are passed in.

A request is known by a 64-bit key made from its body. Memory grows with the number of distinct bodies, by about
130 bytes each, which holds millions of rows.
"""

from collections import Counter, deque
from typing import Any

import msgspec

from rowmill.simulator.batches.figures import BatchFigures, Figures

SERIES_S = 600  # seconds of history kept
_REQUESTS, _GOOD, _REFUSED, _FAILED, _TOKENS = range(1, 6)  # places in an entry of the series
_TOO_MANY = 429
# A body's entry: how often it came, times _ONE, and these bits.
_ANSWERED_ONCE, _ANSWERED_TWICE, _DAMAGED, _ONE = 1, 2, 4, 8


class Statistics(Figures):
    """The figures of one provider, or of all together.

    Of bodies, each route by itself: lines of batches count in `distinct` to `answered_twice`, and nowhere else: what
    they did and what they cost is under `batches`.
    """

    requests: int = 0
    distinct: int = 0  # this and `duplicates` are known once they are shown
    duplicates: int = 0
    max_per_request: int = 0
    repeated_after_success: int = 0  # requests with a body that a valid reply had been sent to before
    repeated_after_damage: int = 0  # requests with one that so far only had replies with a content fault
    answered_twice: int = 0  # bodies with more than one, also where the second request came before the first reply
    by_route: Counter[str] = msgspec.field(default_factory=Counter)  # requests
    inputs: Counter[str] = msgspec.field(default_factory=Counter)  # texts, and prompts of packs, of replies made
    by_status: Counter[int] = msgspec.field(default_factory=Counter)
    no_answer: int = 0
    by_fault: Counter[str] = msgspec.field(default_factory=Counter)  # faults that were chosen for requests
    limited: dict[str, int] = msgspec.field(default_factory=dict)  # in the order in which each limit struck first
    in_flight: int = 0
    in_flight_max: int = 0
    waiting: int = 0  # of them, in line until others are done
    waiting_max: int = 0
    first: float | None = None  # Unix time of the first and of the last request
    last: float | None = None
    admitted: int = 0
    charged_tokens: int = 0
    bytes_in: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    per_second: list[list[int]] = msgspec.field(default_factory=list)  # this and `series` are known once they are shown
    series: list[list[int]] = msgspec.field(default_factory=list)
    batches: BatchFigures = msgspec.field(default_factory=BatchFigures)
    _lines: int = 0  # of batches: each is a request that came, and is known by the same key as a live one
    _seen: dict[int, int] = msgspec.field(default_factory=dict)  # key -> entry: small ints are shared, so it is lean
    # [Unix second, requests, answered, refused, failed, charged tokens]; empty seconds are left out
    _series: deque[list[int]] = msgspec.field(default_factory=lambda: deque(maxlen=SERIES_S))

    def clear(self) -> None:
        """Forget everything but what is in flight and in line now. What ends later still counts as an answer."""
        flying, waiting = self.in_flight, self.waiting
        new = Statistics(in_flight=flying, in_flight_max=flying, waiting=waiting, waiting_max=waiting)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(new, name))

    def arrived(self, key: int, size: int, now: float, route: str = "/chat/completions") -> None:
        """Count a request whose body of `size` bytes has been read at Unix time `now`."""
        self.requests += 1
        self.by_route[route] += 1
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
            self.by_status[status] += 1
        self._ended(key, success=success, damaged=damaged)
        self._entry(now)[_GOOD if success else _REFUSED if status == _TOO_MANY else _FAILED] += 1

    def line(self, key: int, *, success: bool, damaged: bool = False) -> None:
        """Count a line of a batch, which comes and ends at once, maybe in an earlier process."""
        self._lines += 1
        self._came(key)
        self._ended(key, success=success, damaged=damaged)

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

    def billed(self, prompt_tokens: int, completion_tokens: int, inputs: int, route: str) -> None:
        """Count a produced reply to so many texts or prompts, whether or not it reached anyone."""
        self.inputs[route] += inputs
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def denied(self, limit: str) -> None:
        """Count a request that a limit turned away."""
        self.limited[limit] = self.limited.get(limit, 0) + 1

    def figures(self, second: int) -> dict[str, Any]:
        """Everything as JSON. The series covers the `SERIES_S` seconds up to `second`.

        An entry of it is [Unix second, requests that came, ends by a valid reply, ends by a 429, other ends, tokens
        charged]; seconds in which nothing happened are left out. `per_second` is its first two columns.
        """
        self.distinct = len(self._seen)
        self.duplicates = self.requests + self._lines - self.distinct
        self.series = [entry for entry in self._series if entry[0] > second - SERIES_S]
        self.per_second = [entry[:2] for entry in self.series if entry[_REQUESTS]]
        return self.shown()

    def _entry(self, now: float) -> list[int]:
        second = int(now)
        if not self._series or self._series[-1][0] != second:
            self._series.append([second, 0, 0, 0, 0, 0])
        return self._series[-1]
