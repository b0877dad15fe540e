"""A webhook's server: it keeps what it is told, and answers as it is asked to."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

REDIRECT, TOO_MANY, BROKEN = 302, 429, 500


class Told(NamedTuple):
    """One POST."""

    path: str
    headers: dict[str, str]  # names in small letters
    body: dict[str, Any]


class _Handler(BaseHTTPRequestHandler):
    server: "Listener"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.told.append(Told(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        match answer:
            case "hang":
                self.server.released.wait(60)
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "garbage":
                self.wfile.write(b"\0\0 what is this\r\n\r\n")
            case int():
                self.send_response(answer)
                if answer == REDIRECT:
                    self.send_header("location", self.server.elsewhere)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of what it overrides
        pass


class Listener(ThreadingHTTPServer):
    """Answers with what `answers` has, one after the other: a status, "hang", "reset" or "garbage"; then with 200."""

    daemon_threads = True

    def __init__(self, answers: list[int | str], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.told: list[Told] = []
        self.elsewhere = "http://127.0.0.1:9/elsewhere"
        self.released = threading.Event()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}/hook-path-1234567"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who does not trust its certificate breaks off."""


@contextmanager
def listener(*answers: int | str, tls: ssl.SSLContext | None = None) -> Iterator[Listener]:
    """Serve while the context is open."""
    server = Listener(list(answers), tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
