"""Who collects a run's figures: a real Prometheus, and an OpenTelemetry collector that decodes what it is pushed."""

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback
Labels = tuple[tuple[str, str], ...]


def fetched(url: str, **headers: str) -> str:
    """Return what is at a URL of this machine."""
    with _direct.open(urllib.request.Request(url, headers=headers), timeout=10) as reply:
        text: str = reply.read().decode()
    return text


class Prometheus:
    """The server, and what it has seen."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, text: str) -> dict[Labels, float]:
        """Return the values of an expression, by labels; none before it is up."""
        return {
            tuple(sorted((name, value) for name, value in each["metric"].items() if name not in _OF_THE_SCRAPE)): float(
                each["value"][1]
            )
            for each in self._asked(text)
        }

    def history(self, selector: str) -> dict[str, list[float]]:
        """Return the values of series, one after the other, by name and labels."""
        return {
            json.dumps(each["metric"]): [float(value) for _, value in each["values"]]
            for each in self._asked(f"{selector}[5m]")
        }

    def _asked(self, text: str) -> list[Any]:
        try:
            answer = json.loads(fetched(f"{self.url}/api/v1/query?{urlencode({'query': text})}"))
        except urllib.error.HTTPError as refusal:
            if refusal.code != HTTPStatus.SERVICE_UNAVAILABLE:  # it comes up
                pytest.fail(f"{text}: {refusal.read().decode()}")
            return []
        except urllib.error.URLError:
            return []
        found: list[Any] = answer["data"]["result"]
        return found

    def last(self, name: str, **labels: str) -> dict[Labels, float]:
        """Return the values of a metric that it has seen last, also where it has looked in vain since."""
        matchers = ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
        return self.query(f"last_over_time({name}{{{matchers}}}[5m])")

    def value(self, name: str, **labels: str) -> float:
        """Return the one value of a series that it has seen last, whatever other labels it has."""
        (value,) = self.last(name, **labels).values()
        return value


_OF_THE_SCRAPE = {"__name__", "instance", "job"}


def needs(program: str) -> str:
    """Return where a program is; a test that needs it is skipped without."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian, Ubuntu: apt-get install prometheus)")
    return found


@contextmanager
def prometheus(folder: Path, port: int, target: int) -> Iterator[Prometheus]:
    """Start a server in this folder, at this port, that scrapes the other port five times a second.

    It takes 5 s to look for what it is to scrape for the first time, so that much can be done meanwhile.
    """
    folder.mkdir()
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                "scrape_configs": [{"job_name": "rowmill", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
            }
        )
    )
    words = [
        *(needs("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()  # its data are of no use any more
        process.wait()


class Collector(ThreadingHTTPServer):
    """Takes in what is pushed by OTLP over HTTP. pushed: path, headers and body of each push."""

    daemon_threads = True

    def __init__(self, status: int, reason: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _PushHandler)
        self.status = status
        self.reason = reason
        self.pushed: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def last(self) -> ExportMetricsServiceRequest:
        """The last push, decoded."""
        request = ExportMetricsServiceRequest()
        request.ParseFromString(self.pushed[-1][2])
        return request

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of the last push, by name."""
        ((resource),) = self.last.resource_metrics
        ((scope),) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


class _PushHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.pushed.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status, self.server.reason)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collector(status: int = 200, reason: str | None = None) -> Iterator[Collector]:
    """Start a collector that answers so. reason: beside the status, as its first line has it."""
    server = Collector(status, reason)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def points(metric: Metric) -> dict[Labels, Any]:
    """Return the points of a metric by their attributes: the value, or the point itself of a histogram."""
    found = {}
    data: Any = getattr(metric, metric.WhichOneof("data") or "")
    for point in data.data_points:
        labels = tuple(sorted((each.key, each.value.string_value) for each in point.attributes))
        which = point.WhichOneof("value") if hasattr(point, "as_double") else None
        found[labels] = point if which is None else getattr(point, which)
    return found
