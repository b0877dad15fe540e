"""Prometheus' text, and OpenMetrics', of a run's figures: by the official library, made once for all who ask."""

import gzip
import threading
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from rowmill.core.plain_text import one_line
from rowmill.core.version import __version__
from rowmill.metrics.catalogue import Family, plain
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.readings import Distribution, Readings, Value

_MOST_KEPT = 8  # texts: formats times encodings that anybody asks for


class Exposition:
    """The text, in the format and encoding that is asked for. Called from many threads."""

    def __init__(self, meter: RunMeter) -> None:
        self._meter = meter
        self._registry = CollectorRegistry(auto_describe=False)
        self._figures = _Figures(meter)
        self._registry.register(self._figures)
        ProcessCollector(registry=self._registry)  # the supervisor's own, under the names that every process has
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], bytes] = {}  # guarded by it; of the version that follows
        self._version = -1

    def __repr__(self) -> str:
        return f"<{len(self._made)} texts of version {self._version}>"

    def text(self, accept: str, accept_encoding: str) -> tuple[bytes, str, bool] | None:
        """Return the text, its type, and whether it is compressed by gzip; None before there are figures."""
        try:
            encode, kind = choose_encoder(accept)
        except Exception:  # noqa: BLE001 - the library expects no nonsense of whoever asks
            encode, kind = choose_encoder("")
        kind = one_line(kind)  # some of it is what was asked for
        packed = gzip_accepted(accept_encoding)
        found = self._meter.readings()
        if found is None:
            return None
        version, self._figures.readings = found
        with self._lock:
            if version != self._version or len(self._made) > _MOST_KEPT:
                self._made.clear()
                self._version = version
            key = (kind, packed)
            if key not in self._made:
                text = encode(self._registry)
                self._made[key] = gzip.compress(text, 1) if packed else text
            return self._made[key], kind, packed


class _Figures(Collector):
    """What the library asks for the metrics."""

    def __init__(self, meter: RunMeter) -> None:
        self._meter = meter
        self.readings = Readings()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a value."""
        subject = self._meter.subject
        target = InfoMetricFamily("target", "What the figures are of.")
        target.add_metric(
            [],
            {
                "service_name": "rowmill",
                "service_version": __version__,
                "service_instance_id": subject.run,
                "rowmill_run": subject.run,
                "rowmill_input": subject.input,
            },
        )
        yield target
        for family, values in self.readings.scalars.items():
            yield _scalar(family, values)
        for family, points in self.readings.histograms.items():
            yield _histogram(family, points)


def _scalar(family: Family, values: dict[Value, float]) -> Metric:
    names = [plain(name) for name in family.labels]
    if family.kind == "counter":
        counter = CounterMetricFamily(family.prometheus, family.help, labels=names, unit=family.prometheus_unit)
        for labels, value in values.items():
            counter.add_metric(labels, value)
        return counter
    gauge = GaugeMetricFamily(family.prometheus, family.help, labels=names, unit=family.prometheus_unit)
    for labels, value in values.items():
        gauge.add_metric(labels, value)
    return gauge


def _histogram(family: Family, points: dict[Value, Distribution]) -> Metric:
    names = [plain(name) for name in family.labels]
    histogram = HistogramMetricFamily(family.prometheus, family.help, labels=names, unit=family.prometheus_unit)
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, point in points.items():
        histogram.add_metric(labels, list(zip(bounds, accumulate(point.counts), strict=True)), point.total)
    return histogram
