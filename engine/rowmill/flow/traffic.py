"""What workers report of one provider, brought together: the sums of the session, what is so now, how fast it goes."""

from collections import deque

from rowmill.core.counts import ProviderReport, ProviderSums

RATE_S = 2.0  # what a provider took lately is figured over so long


class Traffic:
    """The reports of all workers. A holder is a worker process; the sums of those that have ended are kept."""

    def __init__(self, now: float) -> None:
        self._reports: dict[int, ProviderReport] = {}
        self._ended = ProviderSums()
        self._total: ProviderSums | None = None  # None: not summed up since it has changed
        self._recent = deque([(now, ProviderSums())])  # the sums of late

    def __repr__(self) -> str:
        return f"<workers {[*self._reports]}: {self.total.requests} requests, {self.in_flight} in flight>"

    def report(self, holder: int, report: ProviderReport) -> ProviderReport:
        """Take in a worker's report; return the one before."""
        before = self._reports.get(holder, ProviderReport())
        self._reports[holder] = report
        self._total = None
        return before

    def leave(self, holder: int) -> None:
        """Keep the sums of a worker that has ended, and nothing else of it."""
        if (report := self._reports.pop(holder, None)) is not None:
            self._ended.add(report)
            self._total = None

    @property
    def heard(self) -> bool:
        """Whether a worker that has not ended has reported."""
        return bool(self._reports)

    @property
    def total(self) -> ProviderSums:
        """The sums of all workers, from the start of the session. Not to be changed."""
        if self._total is None:
            self._total = ProviderSums.total((self._ended, *self._reports.values()))
        return self._total

    @property
    def in_flight(self) -> int:
        """Requests in flight, measured."""
        return sum(report.in_flight for report in self._reports.values())

    @property
    def doubted(self) -> int:
        """Rows that were refused for what may be the provider's, since it answered them last."""
        return sum(report.doubted for report in self._reports.values())

    @property
    def last(self) -> bool:
        """Whether nearly all rows that are left have failed, for what may be their own."""
        return bool(self._reports) and all(report.last for report in self._reports.values())

    @property
    def wants_rate(self) -> bool:
        """Whether rows wait for the rate anywhere."""
        return any(report.wants_rate for report in self._reports.values())

    @property
    def wants_slots(self) -> bool:
        """Whether rows wait for slots anywhere."""
        return any(report.wants_slots for report in self._reports.values())

    def remember(self, now: float) -> None:
        """Remember the sums, for `rate`. Called about four times a second."""
        self._recent.append((now, self.total))
        while self._recent[0][0] < now - RATE_S:
            self._recent.popleft()

    def rate(self, name: str, now: float) -> float:
        """Return how fast one of the sums has grown lately, a second."""
        then, before = self._recent[0]
        grown: float = getattr(self.total, name) - getattr(before, name)
        return grown / max(now - then, RATE_S / 2)
