"""TLS: who is trusted, what is said of who is asked, and what comes and goes through it."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from rowmill.core.wire import Failure, Reply
from rowmill.transport import open_transport
from rowmill.transport.http1 import tls_trust
from tests.transport.http1.talk import BODY, OK, Script, Talk, Talker, client, endpoint, fine, once, run


class Authority:
    """A certificate authority, which trusts itself alone."""

    def __init__(self) -> None:
        self.made = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.pem = self.made.cert_pem.bytes().decode()

    def context(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.made.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def asked(
    context: ssl.SSLContext, *scripts: Script, ca: str, times: int = 1, host: str = "127.0.0.1", timeout_s: float = 20.0
) -> tuple[list[Reply | Failure], Talker]:
    async def work() -> tuple[list[Reply | Failure], Talker]:
        server = Talker(*(scripts or (fine,)))
        async with (
            server.serving(context) as url,
            client(url.replace("127.0.0.1", host), ca=ca, timeout_s=timeout_s) as at,
        ):
            return [await at.send(b"{}") for _ in range(times)], server

    return run(work())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_private_authority_is_trusted_and_the_connection_kept(authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.context()
    context.minimum_version = context.maximum_version = version
    found, server = asked(context, ca=authority.pem, times=3)
    assert [each.body for each in found if isinstance(each, Reply)] == [BODY] * 3
    assert server.connections == 1


def test_the_name_that_is_asked_for_is_said_and_must_be_in_the_certificate(authority: Authority) -> None:
    seen: list[str | None] = []
    context = authority.context("localhost")
    context.sni_callback = lambda _connection, name, _context: seen.append(name)
    (found,), _ = asked(context, ca=authority.pem, host="localhost")
    assert isinstance(found, Reply)
    assert seen == ["localhost"]
    (found,), server = asked(authority.context("another.example"), ca=authority.pem)
    assert isinstance(found, Failure)
    assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "tls", False)
    assert "certificate verify failed" in found.message
    assert server.requests == []


def test_whom_nobody_vouches_for_gets_nothing(authority: Authority) -> None:
    (found,), server = asked(Authority().context(), ca=authority.pem)
    assert isinstance(found, Failure)
    assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "tls", False)
    assert server.requests == []


def test_an_authority_below_another_one_can_be_trusted_by_itself() -> None:
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    below = root.create_child_ca(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    below.issue_cert("127.0.0.1").configure_cert(context)
    for pem in (root.cert_pem, below.cert_pem):
        (found,), _ = asked(context, ca=pem.bytes().decode())
        assert isinstance(found, Reply), found


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_environment_stands_for_whom_the_machine_trusts(
    authority: Authority, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_trust.context.cache_clear()
    (tmp_path / "of any name").write_text(authority.pem)
    (tmp_path / "no certificate").write_text("none")
    monkeypatch.setenv(variable, str(tmp_path / "of any name" if variable.endswith("FILE") else f"/none:{tmp_path}"))
    (found,), _ = asked(authority.context(), ca="")
    assert isinstance(found, Reply)
    monkeypatch.delenv(variable)
    tls_trust.context.cache_clear()
    (found,), _ = asked(authority.context(), ca="")
    assert isinstance(found, Failure)


def test_servers_that_prefer_http_2_are_asked_for_http_1(authority: Authority) -> None:
    chosen: list[str | None] = []

    async def script(talk: Talk) -> None:
        chosen.append(talk.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await fine(talk)

    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    (found,), _ = asked(context, script, ca=authority.pem)
    assert isinstance(found, Reply)
    assert chosen == ["http/1.1"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_next_connection_resumes_the_session_of_one_before(authority: Authority, version: ssl.TLSVersion) -> None:
    resumed: list[bool] = []

    async def script(talk: Talk) -> None:
        resumed.append(talk.writer.get_extra_info("ssl_object").session_reused)
        for _ in range(2):
            await talk.request()
            talk.say(OK)

    context = authority.context()
    context.minimum_version = context.maximum_version = version

    async def work() -> None:
        server = Talker(script)
        async with server.serving(context) as url, client(url, ca=authority.pem) as transport:
            for number in range(3):
                for _ in range(2):
                    assert isinstance(await transport.send(b"{}"), Reply)
                await server.until(lambda: not server.open)
                assert server.connections == number + 1
            home = transport._connections
            assert home.tls_session() is home.tls_session(), "each that Python gives out stays in memory"
        assert resumed == [False, True, True]

    run(work())


@pytest.mark.parametrize("size", [0, 1, 16_000, 16_384, 16_385, 100_000, 3_000_000])
def test_requests_and_replies_of_any_length_go_through_it(authority: Authority, size: int) -> None:
    async def echo(talk: Talk) -> None:
        while True:
            body = (await talk.request()).partition(b"\r\n\r\n")[2]
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    body = b'{"' + bytes(65 + n % 26 for n in range(size)) + b'":0}'

    async def work() -> None:
        async with Talker(echo).serving(authority.context()) as url, client(url, ca=authority.pem) as transport:
            for _ in range(2):
                found = await transport.send(body)
                assert isinstance(found, Reply), found
                assert found.body == body

    run(work())


def test_what_is_closed_in_the_middle_says_so_with_and_without_a_goodbye(authority: Authority) -> None:
    cut = OK[:-5]

    async def abort(talk: Talk) -> None:
        await talk.request()
        await talk.said(cut)
        talk.writer.transport.abort()

    for script in (once(cut, close=True), abort):
        (found,), _ = asked(authority.context(), script, ca=authority.pem)
        assert isinstance(found, Failure)
        assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "http", True)
    (found,), _ = asked(authority.context(), once(b"HTTP/1.1 200 OK\r\n\r\n" + BODY, close=True), ca=authority.pem)
    assert isinstance(found, Reply)
    assert found.body == BODY


def test_a_connection_that_is_closed_while_nobody_uses_it_costs_no_request(authority: Authority) -> None:
    async def once_each(talk: Talk) -> None:
        await talk.request()
        talk.say(OK)

    async def work() -> None:
        server = Talker(once_each)
        async with server.serving(authority.context()) as url, client(url, ca=authority.pem) as transport:
            for number in range(3):
                assert isinstance(await transport.send(b"{}"), Reply)
                await server.until(lambda: not server.open)
                assert len(server.requests) == number + 1

    run(work())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["direct", "sdk"])
def test_a_server_that_wants_a_certificate_of_its_clients_is_shown_one(
    authority: Authority, kind: str, version: ssl.TLSVersion
) -> None:
    shown: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        shown.append(talk.writer.get_extra_info("peercert"))
        await fine(talk)

    context = authority.context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    mine = authority.made.issue_cert("me.example").private_key_and_cert_chain_pem.bytes().decode()

    async def work() -> None:
        server = Talker(script)
        async with server.serving(context) as url:
            for identity in (mine, ""):
                known = endpoint(url, ca=authority.pem, identity=identity)
                transport = open_transport(kind, known, api="chat.completions", concurrency=1)
                found = await transport.send(b'{"model": "m", "messages": []}')
                await transport.close()
                if identity:
                    assert isinstance(found, Reply)
                    assert shown[0]["subjectAltName"] == (("DNS", "me.example"),)
                else:
                    assert isinstance(found, Failure)
                    assert found.fault.name == "connection"
                    if (
                        version is ssl.TLSVersion.TLSv1_2
                    ):  # in 1.3 the server says it behind the handshake, or only hangs up
                        assert (found.part, found.maybe_billed) == ("tls", False)
            assert len(server.requests) == 1

    run(work())


async def plain(talk: Talk) -> None:
    await talk.reader.read(100)
    talk.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await talk.gone()


async def hang_up(talk: Talk) -> None:
    await talk.reader.read(100)
    talk.close()


@pytest.mark.parametrize(("script", "words"), [(plain, "WRONG_VERSION_NUMBER"), (hang_up, "during the TLS handshake")])
def test_what_speaks_no_tls_is_told_of(script: Script, words: str) -> None:
    async def work() -> Reply | Failure:
        async with Talker(script).serving() as url, client(url.replace("http:", "https:")) as transport:
            return await transport.send(b"{}")

    found = run(work())
    assert isinstance(found, Failure)
    assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "tls", False)
    assert words in found.message


def test_machines_keep_their_certificates_in_several_ways(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    own: Any = type(ssl.get_default_verify_paths())("", "", "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: own)
    monkeypatch.setattr(tls_trust, "_FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(authority.pem)
    monkeypatch.setattr(tls_trust, "_BUNDLES", ("/none", str(bundle)))
    tls_trust.context.cache_clear()
    try:
        (found,), _ = asked(authority.context(), ca="")
        assert isinstance(found, Reply)
    finally:
        tls_trust.context.cache_clear()
