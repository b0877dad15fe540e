"""A port that is taken, a collector that is gone: a line in the log each, and the run goes on."""

import errno
import gzip
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rowmill.core.config.sections import MetricsConfig
from rowmill.core.errors import ConfigError
from rowmill.metrics.monitoring import Monitoring
from scripts.ports import kept_port
from tests.end_to_end.collectors import collector, fetched, points
from tests.end_to_end.conftest import until
from tests.metrics.conftest import REPORT, SNAPSHOT, SUBJECT


class Scene:
    """A run's monitoring, with what it has said and how long it has stayed."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stayed: list[float] = []
        self.now = 0.0

    @contextmanager
    def lingering(self) -> Iterator[Callable[[float], None]]:
        yield self.stayed.append

    def begin(self, headers: dict[str, str] | None = None, interval_s: float = 60.0, **settings: Any) -> Monitoring:
        monitoring = Monitoring(
            MetricsConfig(**settings),
            SUBJECT,
            headers=headers or {},
            interval_s=interval_s,
            pushes=True,
            past_proxies=True,
            redact=lambda text: text.replace("planted", "[redacted]"),
            log=self.said.append,
            lingering=self.lingering,
            clock=lambda: self.now,
        )
        monitoring.begin("s", "live")
        monitoring.look(SNAPSHOT)
        return monitoring


@pytest.fixture
def scene() -> Iterator[Scene]:
    before = threading.active_count()
    yield Scene()
    until(lambda: threading.active_count() == before, "all threads to end")


def test_a_port_that_is_taken_is_said_and_tried_again(scene: Scene) -> None:
    port = kept_port()  # which is not somebody else's once it is let go
    with socket.create_server(("127.0.0.1", port)):
        monitoring = scene.begin(port=port, linger_s=5)
        (line,) = scene.said
        assert line == (
            f"metrics: port {port} of 127.0.0.1 is in use, so nobody can scrape this run until it is free; "
            "metrics.port = 0 takes any free one"
        )
        scene.now += 6
        monitoring.look(SNAPSHOT)
        assert len(scene.said) == 1
    scene.now += 4
    monitoring.look(SNAPSHOT)
    assert len(scene.said) == 1
    scene.now += 2
    with monitoring:
        monitoring.look(SNAPSHOT)
        assert scene.said[1:] == [f"metrics: http://127.0.0.1:{port}/metrics"]
        assert "rowmill_rows_total" in fetched(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0)])
def test_an_address_that_is_none_of_this_machine_is_refused(scene: Scene, host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=rf"^metrics\.host: nothing can listen at {host}, port {port}: "):
        scene.begin(host=host, port=port)


def test_a_port_that_is_lost_to_somebody_who_may_not_end_the_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monitoring = scene.begin(port=taken.getsockname()[1])
    monkeypatch.setattr("rowmill.metrics.scrapes.ScrapeServer.__init__", refuse)
    scene.now += 6
    with monitoring:
        monitoring.look(SNAPSHOT)
    assert scene.stayed == []


@pytest.mark.parametrize(("code", "linger_s", "stayed"), [(0, 7.5, [7.5]), (1, 7.5, [7.5]), (130, 7.5, []), (0, 0, [])])
def test_it_stays_after_the_end_unless_somebody_has_interrupted(
    scene: Scene, code: int, linger_s: float, stayed: list[float]
) -> None:
    with scene.begin(port=0, linger_s=linger_s) as monitoring:
        monitoring.ended(REPORT, code)
    assert scene.stayed == stayed
    assert len(scene.said) == 1 + len(stayed)


def test_it_does_not_stay_after_an_error(scene: Scene) -> None:
    with pytest.raises(KeyboardInterrupt), scene.begin(port=0, linger_s=9) as monitoring:  # noqa: PT012 - the end of it
        monitoring.ended(REPORT, 0)
        raise KeyboardInterrupt
    assert scene.stayed == []


def test_the_last_push_has_the_end_in_it_and_names_no_password(scene: Scene) -> None:
    with collector() as collected:
        with scene.begin(otlp=f"{collected.url}/otlp/", headers={"authorization": "planted"}) as monitoring:
            monitoring.ended(REPORT, 3)
        path, headers, body = collected.pushed[-1]
        assert (path, headers["authorization"]) == ("/otlp/v1/metrics", "planted")
        assert headers["content-type"] == "application/x-protobuf"
        assert b"planted" not in body
        pushed = collected.metrics()
        assert points(pushed["rowmill.session.exit_code"]) == {(): 3}
        assert points(pushed["rowmill.rows"])[("outcome", "failed"),] == 1
        counters = [each for each in pushed.values() if each.WhichOneof("data") == "sum"]
        assert all(each.sum.is_monotonic and each.sum.aggregation_temporality == 2 for each in counters)
        assert {point.start_time_unix_nano > 0 for each in counters for point in each.sum.data_points} == {True}
    assert scene.said == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_collector_that_refuses_is_said_once_without_its_url(scene: Scene, status: int) -> None:
    with collector(status, "no planted thing" + " more" * 1000) as collected:
        with scene.begin(otlp=f"{collected.url}/?key=planted", interval_s=0.01) as monitoring:
            while len(collected.pushed) < 3:
                monitoring.look(SNAPSHOT)
            while not scene.said:
                monitoring.look(SNAPSHOT)
        (line,) = scene.said
    assert line.startswith(f"metrics: they could not be pushed ({status}, no [redacted] thing more")
    assert len(line) < 2000


def test_a_collector_that_is_gone_or_answers_never_is_not_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowmill.metrics.otlp._LAST_S", 0.05)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with scene.begin(otlp=f"http://127.0.0.1:{silent.getsockname()[1]}") as monitoring:
            monitoring.ended(REPORT, 0)
        connection, _ = silent.accept()  # it was asked
        (thread,) = [each for each in threading.enumerate() if each.name == "metrics push"]
        logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http")
        assert logger.handlers, "it says nothing on the terminal"
        connection.close()
    thread.join()
    assert logger.handlers == []


def test_where_the_environment_names_the_collector_it_does(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{collected.url}/base")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "my-job")
        with scene.begin(otlp="environment") as monitoring:
            monitoring.ended(REPORT, 0)
        path, headers, body = collected.pushed[-1]
    assert (path, headers["x-tenant"], headers["content-encoding"]) == ("/base/v1/metrics", "a", "gzip")
    assert b"my-job" in gzip.decompress(body)


def test_a_collector_that_is_not_there_is_said_so_and_not_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowmill.metrics.otlp._LAST_S", 1000)
    nobody = f"http://127.0.0.1:{kept_port()}"
    with scene.begin(otlp=nobody) as monitoring:
        monitoring.ended(REPORT, 0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    with scene.begin(otlp=nobody, interval_s=0.01) as monitoring:
        while not scene.said:
            monitoring.look(SNAPSHOT)
    assert re.fullmatch(r"metrics: they could not be pushed \([\w ]+\); the run goes on without", scene.said[0])
