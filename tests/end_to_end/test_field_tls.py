"""Servers with a certificate of a private authority: trusted where somebody says so, on every way that is sent."""

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.end_to_end.conftest import Place, Server
from tests.end_to_end.test_field_secrets import BATCH, BatchServer
from tests.lives import WHOLE, combined

DAY = dt.timedelta(days=1)


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


WAYS = {"provider": _provider, "client": _client, "file": _file, "directory": _directory}


@pytest.mark.parametrize(("way", "transport"), combined(list(WAYS), ["direct", "sdk"]))
def test_a_private_authority_is_trusted_where_somebody_says_so(
    place: Place, authority: Authority, serve: Callable[[Server], str], way: str, transport: str
) -> None:
    place.environ |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}  # which cannot reach this machine's loopback
    server = Server(lambda _: None)
    place.configure(serve(server))
    place.write_rows(3)
    words = [*WAYS[way](place, authority.path), "--set=workers.count=1"]
    done = place.run(*words, f"--set=client.transport={transport}")
    assert done.code == 0, done.err
    assert server.counts == dict.fromkeys(range(3), 1)


def test_so_it_is_by_batches_and_for_cancel(
    place: Place, authority: Authority, serve: Callable[[BatchServer], str]
) -> None:
    server = BatchServer()
    server.batch |= {"status": "failed", "errors": {"data": [{"message": "heard over TLS", "line": None}]}}
    place.configure(serve(server))
    place.write_rows(3)
    untold = dict(place.environ)
    # By the configuration and by the environment: what each names is made one thing before anybody is asked.
    ways = list(WAYS) if WHOLE else ["provider", "directory"]
    for command in ("run", "cancel"):
        started = []
        for name in ways:
            place.environ = dict(untold)
            words = [*WAYS[name](place, authority.path), f"--set=output.path={name}.jsonl"]
            started.append(place.start(*words, *BATCH, command=command))
        for each in started:
            done = each.wait()
            assert ("heard over TLS" in done.err) if command == "run" else (done.code == 0), done.err


def own_authority(folder: Path) -> Path:
    """Make a key and a certificate of this machine that is its own authority's, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + DAY)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = made.add_extension(names, critical=False)
    path = folder / "own.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_its_own_authority_serves_where_somebody_vouches_for_it(
    place: Place, server: Callable[..., Server], trusted: bool
) -> None:
    """As `openssl req -x509` makes them, which is what people do."""
    path = own_authority(place.folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    witness = server()
    witness.socket = context.wrap_socket(witness.socket, server_side=True)
    place.configure(witness.url.replace("http:", "https:"))
    place.write_rows(3)
    done = place.run(*(_provider(place, path) if trusted else ()))
    assert done.code == (0 if trusted else 4), done.err
    assert len(witness.arrivals) == (3 if trusted else 0)
    assert ("names your own authority" in done.err) != trusted


def test_whom_nobody_vouches_for_is_sent_nothing(
    place: Place, serve: Callable[[Server], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = Server(lambda _: None)
    place.configure(serve(server))
    place.write_rows(3)
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    words = [*_provider(place, stranger.path), "--set=retry.attempts=1"]
    started = [
        place.start(*words, f"--set=client.transport={transport}", f"--set=output.path={transport}.jsonl")
        for transport in ("direct", "sdk")
    ]
    for each in started:
        assert each.wait().code not in (0, 70)
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
