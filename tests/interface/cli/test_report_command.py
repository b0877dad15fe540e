"""`rowmill report`: flags that do not go together are refused in a line, and what is served is made seldom."""

import socket
import threading
import urllib.request
from argparse import Namespace
from pathlib import Path

import pytest

from rowmill.core.errors import ConfigError, MachineError
from rowmill.interface.cli import report_command, served
from rowmill.interface.cli.arguments import parser
from tests.runs.report.written import configured, line_of, write_run


def options(*words: str) -> Namespace:
    """Return the command line, of a run that is there."""
    found: Namespace = parser().parse_args(["report", *words])
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "80"], "--port is of --live"),
        (["--live", "--json"], "--live serves the page: leave out --json and --output"),
        (["--live", "-o", "a.html"], "--live serves the page: leave out --json and --output"),
        (["--json", "-o", "a"], "--json prints the document: leave out --output and --open"),
        (["-o", "-", "--open"], "--open needs a file: leave out --output -"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, words: list[str], said: str) -> None:
    write_run(configured(tmp_path), [line_of(0, "x")])
    with pytest.raises(ConfigError, match=said):
        report_command.report(options(str(tmp_path / "out.jsonl.run"), *words))


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    write_run(configured(tmp_path), [line_of(0, "x")])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} cannot be had: Address already in use"):
            report_command.report(options(str(tmp_path / "out.jsonl.run"), "--live", "--port", str(port)))


def test_a_document_is_made_once_a_second_at_most_and_seldom_where_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    took = [0.01]
    monkeypatch.setattr("rowmill.interface.cli.served.time.monotonic", lambda: now[0])
    made: list[float] = []

    def make() -> bytes:
        made.append(now[0])
        now[0] += took[0]
        return b"%d" % len(made)

    newest = served.Newest(make)
    assert [newest.document() for _ in range(3)] == [b"1"] * 3
    now[0] = 100.99
    assert newest.document() == b"1"
    now[0], took[0] = 101.0, 2.0
    assert newest.document() == b"2"
    now[0] = 120.0
    assert newest.document() == b"2"
    now[0] = 121.1
    assert newest.document() == b"3"
    assert made == [100.0, 101.0, 121.1]


def test_a_browser_that_asks_nothing_holds_nobody_up() -> None:
    done = threading.Event()
    with served.PageServer(("127.0.0.1", 0), served.Newest(lambda: b"{}")) as server:

        def serve() -> None:
            while not done.is_set():
                server.handle_request()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with socket.create_connection(("127.0.0.1", server.server_port)):
                url = f"http://127.0.0.1:{server.server_port}/facts.json"
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as reply:
                    assert (reply.read(), reply.headers["Cache-Control"]) == (b"{}", "no-store")
        finally:
            done.set()
            thread.join()
