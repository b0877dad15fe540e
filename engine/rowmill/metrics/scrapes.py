"""The endpoint that is scraped: HTTP on a thread of its own, where nobody who asks can hold up the run.

Each connection has a thread, which ends after a while whatever the other side does; of many at a time the oldest is
given up. The threads are daemons: the run does not wait for them when it ends.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from rowmill.core.version import __version__

PATH = "/metrics"
_STUCK_S = 10.0  # without a byte read or written
_MOST = 256  # connections at a time
_OTHERS = b"Metrics are at /metrics.\n"

# Of the headers Accept and Accept-Encoding: the text, its type, whether it is compressed. None: none yet.
Render = Callable[[str, str], tuple[bytes, str, bool] | None]


class ScrapeServer(ThreadingHTTPServer):
    """Serves until it is closed."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True  # a run that follows at once gets the port

    def __init__(self, host: str, port: int, render: Render) -> None:
        """Listen, and begin to serve. `port` 0: any free one. Raises `OSError` where that cannot be."""
        ((family, _, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.address_family = family
        self.render = render
        self._open: dict[socket.socket, None] = {}  # the oldest first
        self._guard = threading.Lock()
        self._closing = False
        super().__init__(address[:2], _ScrapeHandler)  # type: ignore[arg-type]  # of IPv4 and IPv6 alike
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind, without a look at who the address belongs to: a name server may take long to say."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def url(self) -> str:
        """Where it is."""
        host = f"[{self.server_name}]" if self.address_family == socket.AF_INET6 else self.server_name
        return f"http://{host}:{self.server_port}{PATH}"

    def close(self) -> None:
        """End it, whatever its connections do."""
        self._closing = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self.server_close()

    def _serve(self) -> None:
        while not self._closing:
            self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in a thread of its own."""
        with self._guard:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > _MOST else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread hears of it
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Let go of the port, and of every connection; nobody waits for their threads."""
        self.socket.close()
        with self._guard:
            for request in self._open:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever has asked has gone, or has sent no HTTP."""


class _ScrapeHandler(BaseHTTPRequestHandler):
    server: ScrapeServer
    timeout: ClassVar[float] = _STUCK_S
    protocol_version = "HTTP/1.1"  # a scraper keeps its connection

    def do_GET(self) -> None:
        """Tell the figures."""
        path = self.path.partition("?")[0]
        if path not in (PATH, "/"):
            self._tell(HTTPStatus.NOT_FOUND, _OTHERS, "text/plain; charset=utf-8")
        elif path == "/":
            self._tell(HTTPStatus.OK, _OTHERS, "text/plain; charset=utf-8")
        elif (found := self._rendered()) is None:
            self._tell(HTTPStatus.SERVICE_UNAVAILABLE, b"No figures yet.\n", "text/plain; charset=utf-8")
        else:
            body, kind, packed = found
            self._tell(HTTPStatus.OK, body, kind, packed=packed)

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def _rendered(self) -> tuple[bytes, str, bool] | None:
        accept, encoding = (", ".join(self.headers.get_all(name, [])) for name in ("Accept", "Accept-Encoding"))
        return self.server.render(accept, encoding)

    def _tell(self, status: HTTPStatus, body: bytes, kind: str, *, packed: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Return what the header Server says."""
        return f"rowmill/{__version__}"

    def log_message(self, *_: Any) -> None:
        """Say nothing: each scrape would be a line."""
