"""A dead or wrong endpoint is told in seconds, by the part of the way that failed, with almost nothing sent."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.conftest import Done, Place, Server, until
from tests.end_to_end.several import Answer

PAGE = b"<!doctype html><html><body>Please log in</body></html>"
ONE_WORKER = ("--set", "workers.count=1")


@contextmanager
def listener(answer: bytes | None) -> Iterator[tuple[int, list[float]]]:
    """Accept connections, say something or nothing, and close them; gives the port and when each came."""
    arrivals: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                arrivals.append(time.monotonic())
                with connection:
                    if answer is not None:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], arrivals
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def told(place: Place, url: str, rows: int, *arguments: str) -> str:
    """Run against the URL, and return why it stopped: within 8 s, by exit code 4, with no row that has failed."""
    place.configure(url)
    place.write_rows(rows)
    began = time.monotonic()
    done = place.run(*arguments)
    assert time.monotonic() - began < 8
    return why_stopped(place, done)


def why_stopped(place: Place, done: Done) -> str:
    assert done.code == 4, done.err
    assert not any(line.startswith("Done") for line in done.lines)
    assert not place.output.exists()
    assert place.report["totals"]["failed"] == 0
    stopped: str = place.report["sessions"][-1]["stopped_by"]
    assert stopped.count("\n") == 0
    return stopped


@pytest.mark.quiet
def test_a_server_that_is_not_there_is_told_with_its_url(place: Place, nobody: str) -> None:
    """To one row by the sdk transport, and to 300 rows by two workers."""
    place.configure(nobody)
    place.write_rows(300)
    began = time.monotonic()
    (place.folder / "one.in.jsonl").write_bytes(place.input.read_bytes().splitlines(keepends=True)[0])
    one = ("--set", "input.path=one.in.jsonl", "--set", "output.path=one.jsonl", "--set", 'client.transport="sdk"')
    started = {"out.jsonl": place.start(), "one.jsonl": place.start(*ONE_WORKER, *one)}
    ended = {name: each.wait() for name, each in started.items()}
    assert time.monotonic() - began < 8
    for name, done in ended.items():
        place.output, place.run_dir = place.folder / name, place.folder / f"{name}.run"
        stopped = why_stopped(place, done)
        assert f"no answer from {nobody}/chat/completions" in stopped
        assert "Connection refused" in stopped
        assert "Is the server running" in stopped
        assert place.report["sessions"][0]["counters"]["requests"] <= 12


@pytest.mark.timed
def test_what_speaks_no_tls_or_no_http_is_told(place: Place) -> None:
    with listener(b"SSH-2.0-OpenSSH_9.6\r\n") as (port, arrivals):
        assert "http:// instead of https://" in told(place, f"https://127.0.0.1:{port}/v1", 3, *ONE_WORKER)
        assert len(arrivals) <= 10


@pytest.mark.timed
def test_a_server_that_closes_at_once_is_told(place: Place) -> None:
    with listener(None) as (port, arrivals):
        assert "does it want https://?" in told(place, f"http://127.0.0.1:{port}/v1", 300)
        assert len(arrivals) <= 24


@pytest.mark.timed
@pytest.mark.parametrize(
    ("answer", "path", "advice"),
    [
        ((200, {"content-type": "text/html"}, PAGE), "/v1", "is no OpenAI-compatible API"),
        ((405, {}, PAGE), "/v1/chat/completions", "must not end in /chat/completions"),
        ((301, {"location": "/login"}, PAGE), "/v1", "redirecting to /login"),
    ],
)
def test_a_page_where_the_api_should_be_is_told_by_its_path(
    place: Place, server: Callable[..., Server], answer: Answer, path: str, advice: str
) -> None:
    witness = server(lambda _: answer)
    assert advice in told(place, witness.url.removesuffix("/v1") + path, 3, *ONE_WORKER)
    assert len(witness.arrivals) <= 12


@pytest.mark.timed
@pytest.mark.parametrize("where", ["nobody", "a page", "a key that is refused"])
def test_it_is_told_as_soon_by_batches(place: Place, nobody: str, where: str) -> None:
    batch = ("--set", 'task.mode="batch"')
    if where == "nobody":
        stopped = told(place, nobody, 3, *batch)
        assert f"no answer from {nobody}/files. Is the server running" in stopped
        return
    head = b"200 OK\r\ncontent-type: text/html" if where == "a page" else b"401 Unauthorized"
    with listener(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(PAGE), PAGE)) as (port, _):
        stopped = told(place, f"http://127.0.0.1:{port}/v1", 3, *batch)
    assert ("is no OpenAI-compatible API" if where == "a page" else "the key of provider 'main' is refused") in stopped


def test_a_server_that_starts_meanwhile_is_waited_for(place: Place, nobody: str) -> None:
    place.configure(nobody)
    place.write_rows(30)
    started = place.start(*ONE_WORKER)
    until(lambda: (place.run_dir / "run.log").exists() and "only probes are sent" in place.log, "the first failure")
    command = [sys.executable, "-m", "rowmill", "simulate", "--port", str(urlsplit(nobody).port)]
    with subprocess.Popen(command, env=place.environ, stdout=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            done = started.wait()
        finally:
            server.terminate()
    assert done.code == 0, done.err
    assert len(place.lines) == 30


def test_with_another_provider_that_works_the_run_goes_on_there(
    place: Place, server: Callable[..., Server], nobody: str
) -> None:
    witness = server()
    place.configure(nobody)
    with (place.folder / "config.toml").open("a") as file:
        file.write(f'[[provider]]\nname = "other"\nbase_url = "{witness.url}"\n')
    place.write_rows(60)
    done = place.run()
    assert done.code == 0, done.err
    assert len(witness.arrivals) == 60
