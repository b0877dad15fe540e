"""How long a provider that answers nothing is waited for, and what is said of it.

One that has worked in the run is given an hour, since an outage passes; one that never has, a minute; and seconds where
the way to it is what fails, or the server itself at every request, and there is nobody else to ask. One that refuses
row after row and answers none is not waited for at all. One that has too much to do (429) whenever it is asked, and has
answered nothing in the run, is given five minutes, or ten times the longest wait that it has asked for.
"""

from rowmill.core.counts import DeadEnd
from rowmill.flow.doubt import ROWS_UNPROVEN

_WHOLE = 0.9  # of a request's time
_NEVER_ANSWERED_S = 60.0  # failing from the start for so long: nothing that passes
# Likewise where the way to it is what fails, and there is nobody else to ask: a server that starts gets the first.
_DEAD_END_S = {"nothing": 3.0, "another": 2.0, "broken": 6.0}
# Answered by a 429 each time for so long: a minute that others have used up has come round five times, and a gateway
# that refuses while it starts has started. Who says when to come back may mean a limit of an hour, and is believed.
_LIMITED_S = 300.0
_LIMITED_WAITS = 10
_DOUBT_S = 0.5  # by then every worker has said what it was answered
_ANSWERED_S = 3600.0  # failing after it has worked for so long: better to stop, resumable, than to wait for ever


class Patience:
    """Since when one provider fails.

    answered: it ever was, in this session or an earlier one. reason: the latest that a worker gave for its failing.
    told: of these, the latest that is in the log.
    refusal: the latest that a worker gave for what may be the provider's own.
    """

    def __init__(self, timeout_s: float, now: float) -> None:
        """`timeout_s`: the whole time of a request."""
        self.answered = False
        self.reason = ""
        self.told = ""
        self.refusal = ""
        self._timeout_s = timeout_s
        self._dead_end: DeadEnd = ""  # what the reason says of the way there, where nothing was ever answered
        self._failing_since: float | None = None
        self._unanswered_since: float | None = None  # the first failure came, where nothing was ever answered
        self._limit = ""  # what its latest 429 says, where nothing was ever answered
        self._limited_since: float | None = None  # the first one came
        self._asked_s = 0.0  # the longest wait that one has asked for
        self._doubted_since: float | None = None  # so many rows were refused, and none answered
        self._returned = 0  # requests that were in flight and are not, at the last tick
        self._heard_at = now  # and when that last changed, or nothing was in flight

    def __repr__(self) -> str:
        return f"<failing since {self._failing_since}, unanswered since {self._unanswered_since}: {self.reason}>"

    def trouble(self, reason: str, dead_end: DeadEnd) -> None:
        """Take note of what a worker says of the latest failure."""
        self.reason, self._dead_end = reason, dead_end

    def tripped(self, reason: str, dead_end: DeadEnd, since: float) -> None:
        """Take note that a worker has stopped by itself, having seen nothing but failures since then."""
        self.trouble(reason, dead_end)
        if dead_end and self._failing_since is None:
            self._failing_since = since

    def limited(self, reason: str, asked_s: float, now: float) -> None:
        """Take note of the latest 429 of a worker that knows of no answer, and of the longest wait of one."""
        self._limit, self._asked_s = reason, max(self._asked_s, asked_s)
        if self._limited_since is None:
            self._limited_since = now

    def opened(self, now: float) -> str:
        """Take note that only probes are sent from now on; return why."""
        self._failing_since = now if self._failing_since is None else self._failing_since
        self.told = self.reason
        return self.reason

    def closed(self) -> None:
        """Take note that it is well again."""
        self._failing_since = None

    def listen(self, now: float, *, requests: int, in_flight: int, unhealthy: bool) -> None:
        """Find out since when there are nothing but failures, where nothing was ever answered.

        requests: sent so far. unhealthy: some have failed since the last call. Requests that were out for their whole
        time and brought nothing have been a failure since they were sent.
        """
        if self._unanswered_since is None and unhealthy:
            whole = now - self._heard_at >= _WHOLE * self._timeout_s
            self._unanswered_since = self._heard_at if whole else now
        returned = requests - in_flight
        if returned != self._returned or not in_flight:
            self._returned, self._heard_at = returned, now

    @property
    def at_dead_end(self) -> bool:
        """Whether nothing was ever answered, and the way there is what fails."""
        return self._failing_since is not None and bool(self._dead_end) and not self.answered

    def hopeless(self, now: float, *, in_flight: int, others: bool) -> str | None:
        """Return why it is no use to wait any longer; None where it is.

        in_flight: requests now. others: there are providers that may be well.
        """
        if (limited := self._always_limited(now, in_flight=in_flight)) is not None:
            return limited
        since = self._failing_since
        if not self.answered and self._unanswered_since is not None and (since is not None or not in_flight):
            since = self._unanswered_since if since is None else min(since, self._unanswered_since)
        if since is None:
            return None
        dead_end = self.at_dead_end and not others
        patience = _DEAD_END_S[self._dead_end] if dead_end else _ANSWERED_S if self.answered else _NEVER_ANSWERED_S
        if now - since < patience:
            return None
        if dead_end:
            return self.reason
        return f"no valid reply for {now - since:.0f} s: {self.reason}"

    def _always_limited(self, now: float, *, in_flight: int) -> str | None:
        since = self._limited_since
        if self.answered or since is None or in_flight:  # what is under way may have been let through
            return None
        if now - since < max(_LIMITED_S, _LIMITED_WAITS * self._asked_s):
            return None
        return f"every request refused for {now - since:.0f} s, and none ever answered: {self._limit}"

    def refused_by_all(self, now: float, *, doubted: int, answered: int, in_flight: int) -> str | None:
        """Return why it refuses so many rows, over all workers, and answers none; None where that is not so.

        doubted: rows whose refusal may be the provider's. answered, in_flight: requests so far, and now.
        """
        if answered or doubted < ROWS_UNPROVEN:
            self._doubted_since = None
        elif self._doubted_since is None:
            self._doubted_since = now
        elif now >= self._doubted_since + _DOUBT_S and not in_flight and self.refusal:
            return self.refusal
        return None
