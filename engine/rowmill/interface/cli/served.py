"""`rowmill report --live`: the page of a run at work, on this machine alone, with newer figures about once a second.

It is served to browsers of this machine only. Pages of others that a browser has open could ask it too, by a name of
theirs that leads to 127.0.0.1; so a request must say that it means this machine by its own name.
"""

import argparse
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rowmill.core.errors import ExitCode, MachineError, RowmillError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.report_command import show
from rowmill.interface.ui.report_page import page
from rowmill.runs.report.made import encoded, run_document
from rowmill.runs.standing import standing, still

if TYPE_CHECKING:
    from rowmill.core.config import Config

_LOOPBACK = "127.0.0.1"
# Whatever the port, or none: it is another one where somebody looks through a tunnel of ssh.
_OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d*)?", re.IGNORECASE)
_EVERY_S = 1.0  # a document is no newer than this,
_SHARE = 0.1  # and making them takes no larger part of a core than this
_LOOK_S = 0.5  # until it is looked again whether the run is at work
_IDLE_S = 20.0  # for which a browser may hold a connection and ask nothing
_POLICY = re.compile(rb'http-equiv="Content-Security-Policy" content="([^"]+)"')
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def serve(options: argparse.Namespace, path: Path, config: "Config | None") -> int:
    """Serve the page until Ctrl-C, and say when the run has ended; return the exit code then.

    Raises `RunDirectoryError` where there is no run, `MachineError` where the port is taken.
    """
    found = standing(path)
    newest = Newest(lambda: encoded(run_document(path, config, whole=False, live=True)))
    newest.document()
    try:
        server = PageServer((_LOOPBACK, options.port or 0), newest)
    except OSError as error:
        raise MachineError(f"port {options.port} cannot be had: {error.strerror}; name another one by --port") from None
    url = f"http://{_LOOPBACK}:{server.server_port}/"
    ended = found.run.state != "at work"
    with server:
        streams.out(f"{url}\n")
        if options.open:
            show(url)
        try:
            looked = time.monotonic()
            _tell(options, path, ended=ended)
            while True:
                server.handle_request()
                if not ended and time.monotonic() - looked >= _LOOK_S:
                    looked = time.monotonic()
                    found = still(path, found)
                    if ended := found.run.state != "at work":
                        _tell(options, path, ended=True)
        except KeyboardInterrupt:
            return ExitCode.OK if ended else ExitCode.INTERRUPTED


def _tell(options: argparse.Namespace, path: Path, *, ended: bool) -> None:
    if not options.quiet:
        how = "has ended; its page is served" if ended else "is at work; its page is served and follows it"
        streams.say(one_line(f"rowmill: the run in {path} {how} until Ctrl-C"))


class _Made(NamedTuple):
    document: bytes
    at: float  # by the monotonic clock, when it was begun
    took_s: float


class Newest:
    """Keeps the newest document, so that however many ask, it is made seldom."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: _Made | None = None

    def document(self) -> bytes:
        """Return one that is a second old at most, or as old as ten times what it takes. Raises `RowmillError`."""
        with self._lock:
            now = time.monotonic()
            made = self._made
            if made is None or now - made.at >= max(_EVERY_S, made.took_s / _SHARE):
                document = self._make()
                self._made = made = _Made(document, now, time.monotonic() - now)
            return made.document


class PageServer(ThreadingHTTPServer):
    """Answers browsers of this machine, each connection in a thread, so that one that asks nothing holds nobody up."""

    daemon_threads = True
    timeout = _LOOK_S

    def __init__(self, address: tuple[str, int], newest: Newest) -> None:
        self.newest = newest
        super().__init__(address, _PageHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that has gone away."""


class _PageHandler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = _IDLE_S
    protocol_version = "HTTP/1.1"
    server_version = "rowmill"
    sys_version = ""

    def do_GET(self) -> None:
        if not _OWN_NAME.fullmatch(self.headers.get("Host", "")):
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        path = self.path.partition("?")[0]
        if path not in ("/", "/facts.json"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        try:
            document = self.server.newest.document()
            made = page(document) if path == "/" else document
        except (RowmillError, OSError):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._answer(HTTPStatus.OK, made, html=path == "/")

    do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer(status, f"{status.value} {status.phrase}\n".encode(), plain=True)

    def _answer(self, status: HTTPStatus, body: bytes, *, html: bool = False, plain: bool = False) -> None:
        self.send_response(status)
        kind = "text/plain" if plain else "text/html" if html else "application/json"
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        policy = _POLICY.search(body) if html else None
        rest = "default-src 'none'" if policy is None else policy[1].decode()
        self.send_header("Content-Security-Policy", f"{rest}; frame-ancestors 'none'")
        for header in _HEADERS:
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of what it overrides
        pass
