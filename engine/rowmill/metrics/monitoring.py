"""Brings a run's figures to those who collect them, who scrape or are pushed to, and neither can hold up the run."""

import errno
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Self

from rowmill.core.config.sections import MetricsConfig
from rowmill.core.errors import ConfigError, ExitCode
from rowmill.core.histograms import Distributions
from rowmill.core.plain_text import clipped
from rowmill.core.reports import RunReport, Snapshot
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.readings import MeteredRun

if TYPE_CHECKING:  # whoever uses the one need not have the other's packages
    from rowmill.metrics.otlp import Pusher
    from rowmill.metrics.scrapes import ScrapeServer

_AGAIN_S = 5.0  # until a port that somebody has is tried again: that run may be over then


class Monitoring:
    """The metrics of a run, from its start until after its end."""

    def __init__(
        self,
        settings: MetricsConfig,
        subject: MeteredRun,
        *,
        headers: Mapping[str, str],
        interval_s: float,
        pushes: bool,
        past_proxies: bool,
        redact: Callable[[str], str],
        log: Callable[[str], None],
        lingering: Callable[[], AbstractContextManager[Callable[[float], None]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pushes`: whether anything is pushed to `settings.otlp`; with these `headers`, and maybe by no proxy.

        `lingering` gives what waits for so many seconds, unless somebody wants an end. Raises `ConfigError` where no
        one could ever listen at the address.
        """
        self.meter = RunMeter(subject, redact)
        self._settings = settings
        self._log = log
        self._redact = redact
        self._lingering = lingering
        self._afterwards = ExitStack()
        self._clock = clock
        self._lines: deque[str] = deque()  # for the log, from other threads
        self._server: ScrapeServer | None = None
        self._tried = clock()
        self._stay: Callable[[float], None] | None = None  # None: it does not
        if settings.port is not None:
            self._serve(settings.port, first=True)
        self._pusher: Pusher | None = None
        if settings.otlp is not None and pushes:
            from rowmill.metrics import otlp

            self._pusher = otlp.Pusher(
                self.meter,
                settings.otlp,
                headers=headers,
                past_proxies=past_proxies,
                interval_s=interval_s,
                say=self._lines.append,
            )

    def __repr__(self) -> str:
        return f"<{'at ' + self._server.url if self._server is not None else 'not served'}, {self._pusher}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._afterwards:
            if self._pusher is not None:
                self._pusher.close()
            if self._server is not None:
                if self._stay is not None and kind is None:
                    self._stay(self._settings.linger_s)
                self._server.close()

    def begin(self, session: str, mode: str) -> None:
        """Hear that a session begins."""
        self.meter.begin(session, mode)

    def look(self, snapshot: Snapshot) -> None:
        """Take in where the session stands."""
        self.meter.look(snapshot)
        while self._lines:
            self._log(clipped(self._redact(self._lines.popleft())))
        if self._server is None and self._settings.port is not None and self._clock() - self._tried > _AGAIN_S:
            self._tried = self._clock()
            self._serve(self._settings.port)

    def measured(self, spread: Distributions, spreads: Sequence[Distributions]) -> None:
        """Take in what a worker has measured."""
        self.meter.measured(spread, spreads)

    def ended(self, report: RunReport, exit_code: int) -> None:
        """Take in how the run stands in the end. Who has interrupted it does not want to wait."""
        seconds = self._settings.linger_s
        if self._server is not None and seconds and exit_code != ExitCode.INTERRUPTED:
            self._stay = self._afterwards.enter_context(self._lingering())
            self._log(f"metrics: stay for {seconds:g} s, for a last scrape (metrics.linger_s); Ctrl-C ends that")
        self.meter.ended(report, exit_code)

    def _serve(self, port: int, *, first: bool = False) -> None:
        from rowmill.metrics.prometheus import Exposition
        from rowmill.metrics.scrapes import ScrapeServer

        host = self._settings.host
        try:
            self._server = ScrapeServer(host, port, Exposition(self.meter).text)
        except OSError as error:
            if not first:
                return  # which the log has
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"metrics.host: nothing can listen at {host}, port {port}: {error.strerror or error}; "
                    "name an address of this machine, and a port that is free to all"
                ) from None
            self._log(
                f"metrics: port {port} of {host} is in use, so nobody can scrape this run until it is free; "
                "metrics.port = 0 takes any free one"
            )
        else:
            self._log(f"metrics: {self._server.url}")
