"""Takes in where a session stands, and tells it to whoever asks, from whatever thread."""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from rowmill.core.histograms import Distributions
from rowmill.core.reports import Cost, RunReport, Snapshot
from rowmill.metrics.labels import Labels
from rowmill.metrics.readings import MeteredRun, Readings, Rising, read

_MOST_PROVIDERS = 100
_MOST_MODELS = 20
_MOST_CLASSES = 50
_MOST_STEPS = 50


class RunMeter:
    """The figures of a run. The run only leaves them here; they are worked out when somebody asks."""

    def __init__(
        self, subject: MeteredRun, redact: Callable[[str], str], wall_clock: Callable[[], float] = time.time
    ) -> None:
        """`redact`: takes secrets out of texts that servers have made up."""
        self.subject = subject
        self.started = wall_clock()  # Unix time
        asked = {each.model for each in subject.providers}
        self._labels = {
            "provider": Labels(_MOST_PROVIDERS, redact),
            "gen_ai.provider.name": Labels(_MOST_PROVIDERS, redact),
            "model": Labels(_MOST_MODELS, redact, sorted(asked)[:_MOST_PROVIDERS]),
            "error.type": Labels(_MOST_CLASSES, redact),
            "step": Labels(_MOST_STEPS, redact),
        }
        self._lock = threading.Lock()
        # Guarded by it:
        self._snapshot: Snapshot | None = None
        self._before: Cost | None = None  # what the run had cost when the session began
        self._spreads = [Distributions() for _ in subject.providers]
        self._whole = Distributions()
        self._shown: list[Distributions] = []  # the whole and the others, as they were with the snapshot
        self._session = ("", "live")
        self._ended: tuple[RunReport, int] | None = None
        self._rising = Rising()
        self._version = 0
        self._read: tuple[int, Readings] | None = None

    def __repr__(self) -> str:
        return f"<{self.subject.run}: {self._version} looks>"

    # What the run tells

    def begin(self, session: str, mode: str) -> None:
        """Hear that a session begins."""
        with self._lock:
            self._readings()
            self._rising.next_session()
            self._session = (session, mode)
            self._snapshot = self._before = None
            self._version += 1

    def look(self, snapshot: Snapshot) -> None:
        """Take in where the session stands."""
        with self._lock:
            if self._snapshot is None:
                self._before = snapshot.cost
            self._snapshot = snapshot
            # With it, for what is measured comes when it is counted. A copy shares what is never changed in its place.
            self._shown = [msgspec.structs.replace(each) for each in (self._whole, *self._spreads)]
            self._version += 1

    def measured(self, spread: Distributions, spreads: Sequence[Distributions]) -> None:
        """Take in what a worker has measured: in all, and of each provider of each step where there are several."""
        with self._lock:
            self._whole.add(spread)
            for known, more in zip(self._spreads, spreads or (spread,), strict=False):
                known.add(more)

    def ended(self, report: RunReport, exit_code: int) -> None:
        """Take in how the run stands in the end."""
        with self._lock:
            self._ended = report, exit_code
            self._version += 1

    # What others ask

    def readings(self) -> tuple[int, Readings] | None:
        """Return all values, and a number that is another one for other values; None before there are any."""
        with self._lock:
            return self._readings()

    def _readings(self) -> tuple[int, Readings] | None:
        if self._snapshot is None:  # between two sessions: how the first one ended
            return self._read
        if self._read is None or self._read[0] != self._version:
            session, mode = self._session
            found = read(
                self.subject,
                self._snapshot,
                self._shown[1:],
                self._shown[0],
                self._labels,
                before=self._before,
                mode=mode,
                session=session,
                started=self.started,
                ended=self._ended,
            )
            self._rising.raised(found)
            self._read = self._version, found
        return self._read
