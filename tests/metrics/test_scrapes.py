"""Whoever scrapes is served, and nobody who does holds up the run or the others: over real sockets."""

import gzip
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from rowmill.metrics import scrapes
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.prometheus import Exposition
from rowmill.metrics.scrapes import ScrapeServer
from scripts.ports import kept_port
from tests.metrics.conftest import SNAPSHOT, SUBJECT


@pytest.fixture
def server(meter: Callable[..., RunMeter]) -> Iterator[ScrapeServer]:
    server = ScrapeServer("127.0.0.1", 0, Exposition(meter()).text)
    yield server
    server.close()


def asked(server: ScrapeServer, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    """Return the status, the type and the body of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        packed = reply.getheader("content-encoding") == "gzip"
        return reply.status, reply.getheader("content-type", ""), gzip.decompress(body) if packed else body


def raw(server: ScrapeServer, sent: bytes) -> bytes:
    """Return all that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_each_format_is_told_in_its_own_words(server: ScrapeServer) -> None:
    status, kind, body = asked(server)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    plain = {family.name: family for family in plain_text(body.decode())}
    (rows,) = [sample.value for sample in plain["rowmill_rows"].samples if sample.labels == {"outcome": "failed"}]
    assert rows == 1
    (about,) = plain["target_info"].samples
    assert about.labels["rowmill_run"] == about.labels["service_instance_id"] == "run-1"
    assert "process_cpu_seconds" in plain, "the supervisor's own"
    for version in ("0.0.1", "1.0.0"):
        status, kind, body = asked(server, Accept=f"application/openmetrics-text;version={version},text/plain;q=0.5")
        assert status == 200
        if version == "1.0.0":
            assert kind.startswith("application/openmetrics-text; version=1.0.0")
            families = {family.name: family for family in open_metrics(body.decode())}  # type: ignore[no-untyped-call]  # the library's
            assert families["gen_ai_client_operation_duration_seconds"].unit == "seconds"
            assert {sample.labels["provider"] for sample in families["rowmill_requests"].samples} == {"main", "spare"}
    packed = asked(server, **{"Accept-Encoding": "deflate, gzip;q=0.8"})
    assert packed[2].startswith(b"# HELP target_info")


def test_it_has_one_page_and_says_where(server: ScrapeServer) -> None:
    assert asked(server, "/metrics?name[]=x")[0] == 200
    assert asked(server, "/")[2] == b"Metrics are at /metrics.\n"
    assert asked(server, "/run.log")[0] == asked(server, "/../metrics")[0] == 404
    assert asked(server, method="HEAD")[2] == b""
    assert asked(server, method="POST")[0] == 501
    for nonsense in ("one", "", "9" * 5000, "99.0.0", "1.0.0; escaping=x"):
        status, kind, body = asked(server, Accept=f"application/openmetrics-text; version={nonsense}")
        assert (status, body[:7]) == (200, b"# HELP "), nonsense
        assert len(kind) < 6000


@pytest.mark.parametrize(
    ("sent", "start"),
    [
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 "),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
        (b"GET /metrics HTTP/1.1\r\na: " + b"b" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", b""),
        (b"", b""),
        (b"GET /metrics HTT", b""),
    ],
    ids=["line", "headers", "header", "tls", "nothing", "half"],
)
def test_what_is_no_request_is_refused_and_the_next_one_served(server: ScrapeServer, sent: bytes, start: bytes) -> None:
    try:
        assert raw(server, sent).startswith(start)
    except OSError:
        assert len(sent) > 10_000, "it is not read to its end"
    assert asked(server)[0] == 200


def test_before_there_are_figures_it_says_so() -> None:
    server = ScrapeServer("127.0.0.1", 0, Exposition(RunMeter(SUBJECT, str)).text)
    assert asked(server)[:2] == (503, "text/plain; charset=utf-8")
    server.close()


def test_who_reads_nothing_and_who_asks_nothing_hold_up_nobody_else_and_not_the_end(server: ScrapeServer) -> None:
    with ExitStack() as stack:
        for number in range(40):
            stuck = stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port)))
            stuck.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 50 if number % 2 else b"GET /met")
        assert asked(server)[0] == 200
        server.close()
        threads = [each for each in threading.enumerate() if each.name == "metrics"]
        assert threads == []


def test_of_too_many_connections_the_oldest_is_given_up(server: ScrapeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "_MOST", 4)
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), timeout=10))
            for _ in range(10)
        ]
        assert asked(server)[0] == 200
        assert idle[0].recv(1) == b"", "closed by the other side"


def test_one_that_says_nothing_for_long_is_given_up(server: ScrapeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes._ScrapeHandler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as idle:
        assert idle.recv(1) == b""


def test_a_hundred_at_once_have_the_text_that_was_made_once(
    meter: Callable[..., RunMeter], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = meter()
    exposition = Exposition(made)
    texts: list[bytes] = []
    collected = []
    collect = exposition._figures.collect

    def counting() -> Iterator[Metric]:
        collected.append(1)
        return collect()

    monkeypatch.setattr(exposition._figures, "collect", counting)
    server = ScrapeServer("127.0.0.1", 0, exposition.text)
    threads = [threading.Thread(target=lambda: texts.append(asked(server)[2])) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 100
    assert len(set(texts)) == len(collected) == 1
    made.look(SNAPSHOT)
    asked(server)
    assert len(collected) == 2
    server.close()


def test_a_port_can_be_had_again_at_once(server: ScrapeServer) -> None:
    port = kept_port()
    before = ScrapeServer("127.0.0.1", port, server.render)
    asked(before)
    before.close()
    again = ScrapeServer("127.0.0.1", port, server.render)
    assert asked(again)[0] == 200
    assert again.url == f"http://127.0.0.1:{port}/metrics"
    again.close()
    six = ScrapeServer("::1", 0, server.render)
    assert six.url == f"http://[::1]:{six.server_port}/metrics"
    six.close()
