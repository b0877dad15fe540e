"""Servers with a certificate of a private authority: trusted where somebody says so, on every way that is sent."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.end_to_end.conftest import Place, Server
from tests.end_to_end.test_field_secrets import BATCH, BatchServer


class Authority:
    """A private certificate authority; `path` is its own certificate."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.path = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.path))

    def dress(self, server: Server | BatchServer) -> None:
        """Make a server speak TLS, with a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = server.url.replace("http:", "https:")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve(authority: Authority) -> Iterator[Callable[[Server | BatchServer], str]]:
    """Serve by TLS; gives the URL."""
    started: list[tuple[Server | BatchServer, threading.Thread]] = []

    def start(server: Server | BatchServer) -> str:
        authority.dress(server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        started.append((server, thread))
        return server.url

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def _provider(place: Place, path: Path) -> list[str]:
    return [f"--set=provider.ca_file={json.dumps(str(path))}"]


def _client(place: Place, path: Path) -> list[str]:
    (place.folder / "mine.pem").write_bytes(b"# \xe9tranger\n" + path.read_bytes())  # a comment in whatever encoding
    return ['--set=client.ca_file="mine.pem"']


def _file(place: Place, path: Path) -> list[str]:
    place.environ["SSL_CERT_FILE"] = str(path)
    return []


def _directory(place: Place, path: Path) -> list[str]:
    place.environ["SSL_CERT_DIR"] = f"/none:{path.parent}"
    return []


@pytest.mark.parametrize("transport", ["direct", "sdk"])
@pytest.mark.parametrize("trust", [_provider, _client, _file, _directory])
def test_a_private_authority_is_trusted_where_somebody_says_so(
    place: Place,
    authority: Authority,
    serve: Callable[[Server], str],
    trust: Callable[[Place, Path], list[str]],
    transport: str,
) -> None:
    place.environ |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}  # which cannot reach this machine's loopback
    server = Server(lambda _: None)
    place.configure(serve(server))
    place.write_rows(3)
    done = place.run(*trust(place, authority.path), f"--set=client.transport={transport}", "--set=workers.count=1")
    assert done.code == 0, done.err
    assert len(place.lines) == len(server.arrivals) == 3


@pytest.mark.parametrize("trust", [_provider, _client, _file, _directory])
def test_so_it_is_by_batches_and_for_cancel(
    place: Place,
    authority: Authority,
    serve: Callable[[BatchServer], str],
    trust: Callable[[Place, Path], list[str]],
) -> None:
    server = BatchServer()
    server.batch |= {"status": "failed", "errors": {"data": [{"message": "heard over TLS", "line": None}]}}
    place.configure(serve(server))
    place.write_rows(3)
    done = place.run(*trust(place, authority.path), *BATCH)
    assert "heard over TLS" in done.err
    done = place.start(*trust(place, authority.path), *BATCH, command="cancel").wait()
    assert done.code == 0, done.err


def test_whom_nobody_vouches_for_is_sent_nothing(
    place: Place, serve: Callable[[Server], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(lambda _: None)
    place.configure(serve(server))
    place.write_rows(3)
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    for transport in ("direct", "sdk"):
        place.start(
            *_provider(place, stranger.path),
            f"--set=client.transport={transport}",
            "--set=retry.attempts=1",
            f"--set=output.path={transport}.jsonl",
        ).wait()
    assert server.arrivals == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds no certificate in PEM"),
        (b"\xff\xfe junk", "holds no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds a certificate that cannot be read"),
    ],
)
def test_a_file_that_vouches_for_nobody_is_told_before_anything_is_sent(
    place: Place, content: bytes | None, words: str
) -> None:
    place.configure("https://127.0.0.1:9/v1")
    place.write_rows(3)
    if content is not None:
        (place.folder / "ca.pem").write_bytes(content)
    done = place.run('--set=provider.ca_file="ca.pem"')
    assert done.code == 2, done.err
    (line,) = done.lines
    assert "provider 'main': provider.ca_file: ca.pem" in line
    assert words in line
    assert not place.run_dir.exists()
