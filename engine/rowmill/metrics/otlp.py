"""A run's figures pushed by OTLP, over HTTP in protobuf: by OpenTelemetry's own exporter.

It is given points that are added up already. The SDK's instruments would take values one by one, of which there are
tens of thousands a second; what it says of its exporter, of resources and of its environment variables holds here.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rowmill.core.version import __version__
from rowmill.metrics.catalogue import Family
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.readings import Distribution, Readings, Value

_SIGNAL = "v1/metrics"
_ENVIRONMENT = "environment"
_FIRST_S = 1.0  # until the first push: a collector that takes nothing is told early
_LAST_S = 5.0  # that the last push has, when the run is over,
_LAST_HOPE_S = 0.5  # and where the collector does not take it
_LOGGERS = ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.otlp.common")
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_NS = 1_000_000_000


class Pusher:
    """Pushes from a thread of its own, now and then, and once more at the end."""

    def __init__(
        self,
        meter: RunMeter,
        url: str,
        *,
        headers: Mapping[str, str],
        past_proxies: bool,
        interval_s: float,
        say: Callable[[str], None],
    ) -> None:
        """`url`: of the collector, or "environment"; `say` is told, from that thread, where it does not take them.

        past_proxies: those that the environment names cannot reach it.
        """
        self._meter = meter
        self._say = say
        self._settled = threading.Event()  # there is nothing to wait for: all is pushed, or it is not taken
        self._troubles = _Troubles(self._settled)
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self._troubles)
        asked = None if url == _ENVIRONMENT else endpoint_of(url)
        session = requests.Session()
        session.trust_env = not past_proxies
        self._exporter = OTLPMetricExporter(endpoint=asked, headers=dict(headers) or None, session=session)
        self._interval_s = interval_s
        own = {
            "service.name": "rowmill",
            "service.version": __version__,
            "service.instance.id": meter.subject.run,
            "rowmill.run": meter.subject.run,
            "rowmill.input": meter.subject.input,
        }
        self._resource = Resource(own).merge(OTELResourceDetector().detect())  # what the environment says goes first
        self._told = False
        self._pushed = -1  # the version that was taken last
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._push_on, name="metrics push", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<pushed version {self._pushed}{', over' if self._over.is_set() else ''}>"

    def close(self) -> None:
        """Push what there is, within a few seconds, and end."""
        self._over.set()
        self._settled.wait(_LAST_S)
        self._thread.join(_LAST_HOPE_S)
        with suppress(Exception):  # whatever it is, the run is over
            self._exporter.shutdown()  # which ends a push that is waiting to be tried again

    def _push_on(self) -> None:
        seconds = min(_FIRST_S, self._interval_s)
        while not self._over.wait(seconds):
            self._push()
            seconds = self._interval_s
        self._push()
        self._settled.set()
        for name in _LOGGERS:  # not before: what the exporter says to nobody goes to the terminal
            logging.getLogger(name).removeHandler(self._troubles)

    def _push(self) -> None:
        found = self._meter.readings()
        if found is None or found[0] == self._pushed:
            return
        self._troubles.last = ""
        data = data_of(found[1], self._resource, self._meter.started, time.time())
        if self._exporter.export(data) is MetricExportResult.SUCCESS:
            self._pushed = found[0]
            self._settled.clear()
        elif not self._told:
            self._told = True
            self._say(f"metrics: they could not be pushed ({self._troubles.last}); the run goes on without")


class _Troubles(logging.Handler):
    """Keeps why the exporter has failed last, which it says to a logger only, and the terminal is not for it."""

    def __init__(self, met: threading.Event) -> None:
        """`met` is set with each."""
        super().__init__(logging.WARNING)
        self.last = ""
        self._met = met

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a status, a reason or the kind of an error, none of which has the URL in it, as other texts may."""
        told = record.args if isinstance(record.args, tuple) else ()
        causes = [type(each).__name__ if isinstance(each, Exception) else each for each in told]
        words = [str(cause) for cause in causes if isinstance(cause, int | str) and cause != "metrics"]
        self.last = ", ".join(words) or self.last or "no answer"  # the last line of several says no cause
        self._met.set()


def endpoint_of(url: str) -> str:
    """Return the URL to push to, of a collector's or of its metrics' own."""
    before, mark, query = url.partition("?")
    before = before.rstrip("/")
    return (before if before.endswith(f"/{_SIGNAL}") else f"{before}/{_SIGNAL}") + mark + query


def data_of(readings: Readings, resource: Resource, started: float, now: float) -> MetricsData:
    """Return readings as the exporter takes them. started, now: Unix times."""
    times = (int(started * _NS), int(now * _NS))
    metrics = [*_scalars(readings, *times), *_histograms(readings, *times)]
    scope = InstrumentationScope("rowmill", __version__)
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _scalars(readings: Readings, started: int, now: int) -> Iterator[Metric]:
    for family, values in readings.scalars.items():
        counts = family.kind == "counter"
        points = [
            NumberDataPoint(_attributes(family, labels), started if counts else 0, now, value)
            for labels, value in values.items()
        ]
        yield Metric(family.name, family.help, family.unit, Sum(points, _CUMULATIVE, True) if counts else Gauge(points))


def _histograms(readings: Readings, started: int, now: int) -> Iterator[Metric]:
    for family, values in readings.histograms.items():
        points = [_point(family, labels, value, started, now) for labels, value in values.items()]
        yield Metric(family.name, family.help, family.unit, Histogram(points, _CUMULATIVE))


def _point(family: Family, labels: Value, value: Distribution, started: int, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        _attributes(family, labels),
        started,
        now,
        sum(value.counts),
        value.total,
        value.counts,
        family.bounds,
        min=None,  # type: ignore[arg-type]  # neither is known, and the protocol may leave them out
        max=None,  # type: ignore[arg-type]
    )


def _attributes(family: Family, labels: Value) -> dict[str, str]:
    return {name: value for name, value in zip(family.labels, labels, strict=True) if value}
