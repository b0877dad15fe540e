"""Ways to a server: its addresses, and proxies before it."""

import asyncio
import base64
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from rowmill.core.errors import ConfigError
from rowmill.core.wire import Failure, Reply
from rowmill.transport.http1 import addresses, dialing
from scripts.ports import kept_port
from tests.transport.http1.talk import OK, Talk, Talker, client, fine, run

NAME = "many.example"  # whose addresses a test says


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Give what the machine's resolver says, by name. It is asked by asyncio's own loop, uvloop has one in C."""
    known: dict[str, list[str]] = {"asked": []}
    before = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **named: Any) -> Any:
        if host not in known:
            return before(host, *more, **named)
        known["asked"].append(host)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [each for address in known[host] for each in before(address, *more, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@contextlib.asynccontextmanager
async def several(*hosts: str) -> AsyncIterator[tuple[list[Talker], str]]:
    """Serve on several addresses, at one port; gives the servers, and the URL by the name."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [Talker(fine) for _ in hosts]
        port = kept_port("")  # free at the first address need not be free at the second one
        for host, server in zip(hosts, servers, strict=True):
            await stack.enter_async_context(server.serving(sock=socket.create_server((host, port))))
        yield servers, f"http://{NAME}:{port}/v1/chat/completions"


def test_connections_are_spread_over_the_addresses_of_a_name(names: dict[str, list[str]]) -> None:
    async def work() -> None:
        hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        async with several(*hosts) as (servers, url), client(url) as transport:
            names[NAME] = hosts
            assert all(
                isinstance(each, Reply) for each in await asyncio.gather(*(transport.send(b"{}") for _ in range(12)))
            )
            counts = [server.connections for server in servers]
            assert max(counts) - min(counts) <= 1, counts
            assert names["asked"] == [NAME], "once for all"

    asyncio.run(work())


def test_an_address_where_nobody_is_is_passed_over_and_one_that_is_silent_has_a_rival(
    names: dict[str, list[str]],
) -> None:
    async def work() -> None:
        async with several("127.0.0.1") as ((server,), url), client(url) as transport:
            with socket.socket() as silent:
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what keeps the port has it everywhere
                silent.bind(("127.0.0.3", server.port))
                silent.listen(0)
                fillers = [socket.socket() for _ in range(3)]
                for each in fillers:
                    each.setblocking(False)
                    each.connect_ex(("127.0.0.3", server.port))
                names[NAME] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]  # nobody is at the second one
                for _ in range(5):
                    assert isinstance(await transport.send(b"{}"), Reply)
                    for connection in list(transport._connections._all):
                        connection.abort()
                for each in fillers:
                    each.close()
            assert server.connections == 5
            addresses_known = transport._connections._dial._addresses  # type: ignore[attr-defined]
            for _ in range(3):
                order = [each[4][0] for each in await addresses_known.next()]
                assert order == ["127.0.0.1", "127.0.0.2", "127.0.0.3"], "who does not answer is asked last for a while"

    asyncio.run(work())


def test_a_name_is_asked_again_after_a_while_and_where_nobody_is_any_more(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(addresses, "monotonic", lambda: clock)

    async def work() -> None:
        nonlocal clock
        async with several("127.0.0.1", "127.0.0.2") as ((first, second), url), client(url) as transport:

            async def ask() -> Reply | Failure:
                for connection in list(transport._connections._all):
                    connection.abort()
                return await transport.send(b"{}")

            names[NAME] = ["127.0.0.1"]
            assert isinstance(await ask(), Reply)
            names[NAME] = ["127.0.0.2"]
            assert isinstance(await ask(), Reply)
            assert (first.connections, second.connections) == (2, 0)
            clock += 60
            assert isinstance(await ask(), Reply)
            assert (first.connections, second.connections) == (2, 1)
            names[NAME] = ["127.0.0.9"]
            clock += 60
            failed = await ask()
            assert isinstance(failed, Failure)
            assert (failed.part, failed.maybe_billed) == ("connection", False)
            assert "Connection refused" in failed.message
            names[NAME] = ["127.0.0.1"]
            assert isinstance(await ask(), Reply)
            clock += 60
            names[NAME] = []  # the name server is gone: where it was before is more than nothing
            assert isinstance(await ask(), Reply)

    asyncio.run(work())


def test_a_name_that_is_not_known_is_told(names: dict[str, list[str]]) -> None:
    names[NAME] = []

    async def work() -> None:
        async with client(f"http://{NAME}/v1") as transport:
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(5)))
            for each in found:
                assert isinstance(each, Failure)
                assert (each.fault.name, each.part, each.maybe_billed) == ("connection", "name", False)
                assert "Name or service not known" in each.message

    asyncio.run(work())


@pytest.mark.parametrize(("proxied", "part"), [(False, "name"), (True, "proxy")])
def test_name_servers_that_do_not_answer_in_time_are_told(
    monkeypatch: pytest.MonkeyPatch, proxied: bool, part: str
) -> None:
    go_on = threading.Event()
    before = socket.getaddrinfo

    def slow(host: Any, *more: Any, **named: Any) -> Any:
        if host == NAME:
            go_on.wait(60)
        return before("127.0.0.1", *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    if proxied:
        monkeypatch.setenv("http_proxy", f"http://{NAME}:9")

    async def work() -> None:
        async with client(f"http://{'elsewhere.example' if proxied else NAME}:9/v1", timeout_s=0.5) as transport:
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(40)))
            go_on.set()
        for each in found:
            assert isinstance(each, Failure)
            assert (each.fault.name, each.part, each.maybe_billed) == ("timeout", part, False)
            assert each.message == "no connection in time: no name server says at which address it is"

    asyncio.run(work())


def test_the_name_of_a_proxy_that_is_not_known_is_that_of_the_proxy(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names[NAME] = []
    monkeypatch.setenv("http_proxy", f"http://{NAME}:9")

    async def work() -> None:
        async with client("http://elsewhere.example/v1") as transport:
            found = await transport.send(b"{}")
        assert isinstance(found, Failure)
        assert found.part == "proxy"
        assert f"the name {NAME!r} is not known" in found.message

    asyncio.run(work())


def test_a_name_is_asked_once_for_all_that_want_it_whenever_they_come() -> None:
    async def work() -> None:
        known = addresses.Addresses("127.0.0.1", 80)

        async def late(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            assert [each[4] for each in await known.next()] == [("127.0.0.1", 80)]

        await asyncio.gather(*(late(turns) for turns in range(20)))

    run(work())


def test_ipv6_is_spoken() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def work() -> None:
        server = Talker(fine)
        async with server.serving(host="::1") as url, client(url) as transport:
            assert isinstance(await transport.send(b"{}"), Reply)
            assert f"host: [::1]:{server.port}".encode() in server.requests[0].lower()

    run(work())


def test_sockets_find_out_by_themselves_where_the_other_side_is_gone() -> None:
    async def work() -> None:
        async with Talker(fine).serving() as url, client(url) as transport:
            await transport.send(b"{}")
            (connection,) = transport._connections.idle
            raw = connection._transport.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            probes = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [raw.getsockopt(socket.IPPROTO_TCP, each) for each in probes] == [30, 10, 3]

    run(work())


@pytest.mark.parametrize("lacking", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_requests_share_the_few_connections_for_which_this_machine_has_room(
    monkeypatch: pytest.MonkeyPatch, lacking: int
) -> None:
    made: list[socket.socket] = []
    before = dialing._made

    def scarce(info: addresses.AddressInfo) -> socket.socket:
        if len(made) == 3:
            raise OSError(lacking, os.strerror(lacking))
        made.append(before(info))
        return made[-1]

    monkeypatch.setattr(dialing, "_made", scarce)

    async def work() -> None:
        server = Talker(fine)
        async with server.serving() as url, client(url) as transport:
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(50)))
            assert all(isinstance(each, Reply) for each in found), found
            assert server.connections <= 3
            assert len(server.requests) == 50

    run(work())


# Proxies

SERVER = "127.0.0.2"  # loopback, but not what goes without a proxy
LOGIN = base64.b64encode(b"me:p@ss word").decode()


class Relay(Talker):
    """A proxy: of requests, of tunnels, or by SOCKS5."""

    def __init__(self, kind: str, *, login: bool = False) -> None:
        super().__init__({"http": self._forward, "connect": self._tunnel, "socks": self._socks}[kind])
        self.login = login
        self.targets: list[str] = []

    async def _forward(self, talk: Talk) -> None:
        while True:
            head = await talk.request()
            self.targets.append(head.split(b" ")[1].decode())
            if self.login and f"proxy-authorization: basic {LOGIN}".lower().encode() not in head.lower():
                talk.say(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
            else:
                talk.say(OK.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1))

    async def _tunnel(self, talk: Talk) -> None:
        head = await talk.reader.readuntil(b"\r\n\r\n")
        self.targets.append(head.split(b" ")[1].decode())
        if self.login and f"proxy-authorization: basic {LOGIN}".lower().encode() not in head.lower():
            talk.say(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno")
            return
        talk.say(b"HTTP/1.1 200 Connection established\r\nX: 1\r\n\r\n")
        await self._through(talk, *self.targets[-1].rsplit(":", 1))

    async def _socks(self, talk: Talk) -> None:
        version, count = await talk.reader.readexactly(2)
        ways = await talk.reader.readexactly(count)
        assert version == 5
        way = 2 if self.login else 0
        if way not in ways:
            talk.say(b"\x05\xff")
            return
        talk.say(bytes([5, way]))
        if self.login:
            _, length = await talk.reader.readexactly(2)
            user = await talk.reader.readexactly(length)
            password = await talk.reader.readexactly((await talk.reader.readexactly(1))[0])
            right = base64.b64encode(user + b":" + password).decode() == LOGIN
            talk.say(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return
        kind = (await talk.reader.readexactly(4))[3]
        if kind == 3:
            host = (await talk.reader.readexactly((await talk.reader.readexactly(1))[0])).decode()
        else:
            host = socket.inet_ntoa(await talk.reader.readexactly(4))
        port = int.from_bytes(await talk.reader.readexactly(2), "big")
        self.targets.append(f"{host}:{port}")
        # Its own address as a name, in a read of its own.
        await talk.said(b"\x05\x00\x00\x03", b"\x04host\x01\x02")
        await self._through(talk, host, str(port))

    async def _through(self, talk: Talk, host: str, port: str) -> None:
        reader, writer = await asyncio.open_connection(SERVER if host == NAME else host, int(port))

        async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    target.write(data)
            target.close()

        await asyncio.gather(pipe(talk.reader, writer), pipe(reader, talk.writer))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """Give an authority's certificate, and a server's context of it."""
    made = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert(SERVER, "127.0.0.1", NAME).configure_cert(context)
    return made.cert_pem.bytes().decode(), context


def test_a_name_with_a_dot_at_its_end_is_the_one_in_the_certificate(
    names: dict[str, list[str]], authority: tuple[str, ssl.SSLContext]
) -> None:
    ca, context = authority
    names[f"{NAME}."] = ["127.0.0.1"]

    async def work() -> None:
        server = Talker(fine)
        async with server.serving(context), client(f"https://{NAME}.:{server.port}/v1", ca=ca) as transport:
            found = await transport.send(b"{}")
            assert isinstance(found, Reply), found

    asyncio.run(work())


# How a proxy is asked, whether the server speaks TLS behind it, and whether the proxy does.
RELAYS = [
    ("http", False, False), ("http", False, True), ("connect", True, False), ("connect", True, True),
    ("socks", False, False), ("socks", True, False),
]  # fmt: skip


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.parametrize("relayed", RELAYS)
def test_a_proxy_of_the_environment_is_gone_through(
    monkeypatch: pytest.MonkeyPatch,
    authority: tuple[str, ssl.SSLContext],
    relayed: tuple[str, bool, bool],
    login: bool,
) -> None:
    kind, tls, relay_tls = relayed
    ca, context = authority

    async def work() -> None:
        server, relay = Talker(fine), Relay(kind, login=login)
        async with (
            server.serving(context if tls else None, SERVER) as url,
            relay.serving(context if relay_tls else None) as proxy,
        ):
            who = "me:p%40ss%20word@" if login else ""
            scheme = "socks5h" if kind == "socks" else "https" if relay_tls else "http"
            monkeypatch.setenv("HTTPS_PROXY" if tls else "http_proxy", f"{scheme}://{who}127.0.0.1:{relay.port}")
            async with client(url, ca=ca) as transport:
                for _ in range(3):
                    assert isinstance(await transport.send(b"{}"), Reply)
            assert proxy
            if kind == "http":
                assert relay.targets == [url] * 3
                assert not server.requests
                assert f"host: {SERVER}:{server.port}".encode() in relay.requests[0].lower()
            else:
                assert relay.targets == [f"{SERVER}:{server.port}"], "one connection is kept"
                assert server.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
                assert b"proxy-authorization" not in server.requests[0].lower()
            assert relay.connections == 1

    run(work())


@pytest.mark.parametrize(
    ("kind", "tls", "words"),
    [("connect", True, "HTTP 407 Proxy Authentication Required"), ("socks", False, "it wants a login")],
)
def test_a_proxy_that_wants_to_know_who_asks_is_told_of(
    monkeypatch: pytest.MonkeyPatch, authority: tuple[str, ssl.SSLContext], kind: str, tls: bool, words: str
) -> None:
    async def work() -> None:
        relay = Relay(kind, login=True)
        async with relay.serving():
            monkeypatch.setenv("ALL_PROXY", f"{'socks5' if kind == 'socks' else 'http'}://127.0.0.1:{relay.port}")
            async with client(f"http{'s' if tls else ''}://{SERVER}:9/v1", ca=authority[0]) as transport:
                found = await transport.send(b"{}")
        assert isinstance(found, Failure)
        assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "proxy", False)
        assert words in found.message

    run(work())


async def hang_up(talk: Talk) -> None:
    await talk.reader.read(10)
    talk.close()


async def chatter(talk: Talk) -> None:
    await talk.reader.read(10)
    talk.say(b"220 mail.example ESMTP\r\n")
    await talk.gone()


@pytest.mark.parametrize("script", [hang_up, chatter])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_what_is_no_proxy_is_told_of(monkeypatch: pytest.MonkeyPatch, script: Any, scheme: str) -> None:
    async def work() -> None:
        relay = Talker(script)
        async with relay.serving():
            monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{relay.port}")
            async with client(f"https://{SERVER}:9/v1") as transport:
                found = await transport.send(b"{}")
        assert isinstance(found, Failure)
        assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "proxy", False)

    run(work())


def test_a_proxy_where_nobody_is_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            monkeypatch.setenv("http_proxy", f"127.0.0.1:{held.getsockname()[1]}")
            async with client(f"http://{SERVER}:9/v1") as transport:
                found = await transport.send(b"{}")
        assert isinstance(found, Failure)
        assert (found.fault.name, found.part, found.maybe_billed) == ("connection", "proxy", False)

    run(work())


@pytest.mark.parametrize(
    "url", ["ftp://proxy:21", "socks4://proxy", "http://", "http://proxy:none", "http://proxy:99999"]
)
def test_a_proxy_that_cannot_be_one_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("https_proxy", url.replace("://", "://me:secret@"))

    async def work() -> None:
        async with client(f"https://{SERVER}/v1"):
            pass

    with pytest.raises(ConfigError, match=r"^the proxy .* of the environment") as refused:
        run(work())
    assert "secret" not in str(refused.value)
