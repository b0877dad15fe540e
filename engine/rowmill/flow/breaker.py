"""Whether a provider is well: sends it nothing while it is not, asks now and then, and comes back gradually.

Theory. The circuit breaker of Nygard, "Release It!", chapter 5: closed while all is well; open after persistent
failure, so that an unhealthy server is not kept so by retries; then probes. Two things are added, because a breaker
that closes at once hits a server that has just come up with everything that has waited:

- one probe at a time, and several good ones in a row, before anything more is sent;
- half-open is TCP's slow start (RFC 5681): the number in flight doubles as long as the results are good, until it is
  what it was before the outage. A share of random faults is no relapse.

By Little's law as many results as were in flight at the opening come back afterwards, for up to a reply time. They say
nothing about the provider now. So probing begins only when nothing is in flight any more. Requests that hang would
hold that up until their deadline: when no valid reply has come for a while they are left behind, allowed on top of the
cap, and as many unhealthy results as there are of them do not count.

    closed -> open        a worker tripped, or most results of the last seconds were unhealthy
    open -> probing       the cooldown is over, and what was in flight is back
    probing -> half-open  some valid replies in a row
    probing -> open       an unhealthy probe: the next cooldown is longer
    half-open -> open     too many unhealthy results: likewise
    half-open -> closed   the number in flight is what it was before

A 429 is not unhealthy: a server that limits is well, and pacing answers it. See also Netflix concurrency-limits, which
lowers a limit on drops but never to silence, so it alone cannot spare a dead server.
"""

from collections import deque
from math import inf
from typing import Literal

State = Literal["closed", "open", "probing", "half-open"]

_MOVES: frozenset[tuple[State, State]] = frozenset(
    {
        ("closed", "open"),
        ("open", "probing"),
        ("probing", "half-open"),
        ("probing", "open"),
        ("half-open", "open"),
        ("half-open", "closed"),
    }
)

_WINDOW_S = 5.0
_UNHEALTHY_SHARE = 0.6
_RESULTS = 50  # at least, for a share to mean anything
_RESULTS_NONE_VALID = 20

_COOLDOWN_S = 1.0
_COOLDOWN_GROWTH = 1.5
_LONGEST_COOLDOWN_S = 4.0
_STABLE_S = 10.0  # closed for less: the next cooldown goes on from the last one
_HANGING_S = 1.0  # no valid reply for so long: what is still in flight hangs

_GOOD_PROBES = 3

_FIRST_CAP = 4
_DOUBLING_S = 0.5
_RELAPSE_SHARE = 0.2
_RELAPSE_RESULTS = 3  # one or two reset connections are no relapse


class Breaker:
    """The state of one provider.

    state: see above. opened: how often it has opened, bad probes aside. healthy: requests in flight before the outage,
    at which half-open ends; measured over the last seconds before the opening, and may be set after it. eager: probes
    come no rarer with time, for the provider may be about to start.
    """

    def __init__(self, now: float) -> None:
        self.state: State = "closed"
        self.opened = 0
        self.healthy = 1
        self.eager = False
        self._window: deque[tuple[float, int, int, int]] = deque()  # (time, answered, unhealthy, in flight)
        self._tripped = False
        self._since = -inf  # of the present state
        self._cooldown_s = _COOLDOWN_S
        self._valid_at = now
        self._hanging = 0  # requests from before the opening that have not come back
        self._idle_since = now  # of the last probe's result
        self._good = 0
        self._unhealthy = 0
        self._doubling_since = inf  # inf: no valid reply yet

    def __repr__(self) -> str:
        return f"<{self.state}, opened {self.opened} times, {self._hanging} hanging>"

    def cap(self, now: float) -> int | None:
        """Return how many requests may be in flight over all workers, hanging ones included; None: no cap."""
        if self.state == "closed":
            return None
        if self.state == "open":
            return 0
        return self._hanging + (1 if self.state == "probing" else self._allowed(now))

    def update(self, now: float, *, answered: int, unhealthy: int, tripped: bool, in_flight: int) -> None:
        """Take in what has happened since the last call, about a quarter of a second ago.

        answered: valid replies. unhealthy: 5xx, timeouts, resets; no 429. tripped: a worker stopped by itself, having
        seen nothing but unhealthy results; only that it has become true counts. in_flight: requests now.
        """
        news, self._tripped = tripped and not self._tripped, tripped
        if answered:
            self._valid_at = now
        if self.state == "closed":
            self._watch(now, answered, unhealthy, in_flight, tripped=news)
        elif self.state == "open":
            self._wait(now, in_flight)
        else:
            late = min(unhealthy, self._hanging)
            self._hanging = min(self._hanging - late, in_flight)
            if self.state == "probing":
                self._probe(now, answered, unhealthy - late, in_flight)
            else:
                self._recover(now, answered, unhealthy - late, tripped=news)

    def _watch(self, now: float, answered: int, unhealthy: int, in_flight: int, *, tripped: bool) -> None:
        window = self._window
        window.append((now, answered, unhealthy, in_flight))
        while window[0][0] < now - _WINDOW_S:
            window.popleft()
        valid = sum(entry[1] for entry in window)
        failed = sum(entry[2] for entry in window)
        total = valid + failed
        if (
            tripped
            or (total >= _RESULTS and failed >= _UNHEALTHY_SHARE * total)
            or (not valid and failed >= _RESULTS_NONE_VALID)
        ):
            self.healthy = max(1, *(entry[3] for entry in window))
            if now >= self._since + _STABLE_S:
                self._cooldown_s = _COOLDOWN_S
            else:
                self._lengthen()
            self._open(now)

    def _wait(self, now: float, in_flight: int) -> None:
        if now < self._since + self._cooldown_s:
            return
        if in_flight == 0 or now >= self._valid_at + _HANGING_S:
            self._move("probing", now)
            self._hanging = in_flight
            self._idle_since = now
            self._good = 0

    def _probe(self, now: float, answered: int, unhealthy: int, in_flight: int) -> None:
        if unhealthy:
            self._lengthen()
            self._open(now)
            return
        self._good += answered
        if answered:
            self._idle_since = now
        elif now >= self._idle_since + _LONGEST_COOLDOWN_S:
            # The probe hangs too, or its reply takes long. One more, so that one hung request does not decide.
            self._hanging = in_flight
            self._idle_since = now
        if self._good >= _GOOD_PROBES:
            self._move("half-open", now)
            self._good = self._unhealthy = 0
            self._doubling_since = inf

    def _recover(self, now: float, answered: int, unhealthy: int, *, tripped: bool) -> None:
        self._good += answered
        self._unhealthy += unhealthy
        if tripped or (
            self._unhealthy >= _RELAPSE_RESULTS and self._unhealthy > _RELAPSE_SHARE * (self._good + self._unhealthy)
        ):
            self._lengthen()
            self._open(now)
            return
        if self._good and self._doubling_since == inf:
            self._doubling_since = now
        if self._good and self._allowed(now) >= self.healthy:
            self._move("closed", now)
            self._window.clear()

    def _allowed(self, now: float) -> int:
        if self._doubling_since == inf:
            return _FIRST_CAP
        return max(
            _FIRST_CAP, min(self.healthy, _FIRST_CAP << min(40, int((now - self._doubling_since) / _DOUBLING_S)))
        )

    def _lengthen(self) -> None:
        if not self.eager:
            self._cooldown_s = min(_LONGEST_COOLDOWN_S, self._cooldown_s * _COOLDOWN_GROWTH)

    def _open(self, now: float) -> None:
        self.opened += self.state != "probing"
        self._move("open", now)
        self._valid_at = now

    def _move(self, state: State, now: float) -> None:
        if (self.state, state) not in _MOVES:
            raise ValueError(f"a breaker that is {self.state} does not become {state}")
        self.state = state
        self._since = now
