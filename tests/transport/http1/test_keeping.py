"""Connections that are kept, and what becomes of a request whose connection is closed under it.

It is sent again where its server cannot have got a byte of it, and only there.
"""

import asyncio
import socket
import struct

import pytest

from rowmill.core.wire import Failure, Reply
from rowmill.transport.direct import DirectTransport
from rowmill.transport.http1 import connection
from tests.transport.http1.talk import BODY, OK, Talk, Talker, answers, client, fine, run, turn


async def close_at_once(talk: Talk) -> None:
    talk.close()


def test_one_connection_serves_requests_one_after_the_other_and_many_serve_many_at_once() -> None:
    async def gather(talk: Talk) -> None:
        while True:
            await talk.request()
            if len(talk.server.requests) > 5:
                await talk.server.until(lambda: len(talk.server.requests) == 55)
            talk.say(OK)

    async def work() -> None:
        server = Talker(gather)
        async with server.serving() as url, client(url) as transport:
            for _ in range(5):
                assert isinstance(await transport.send(b"{}"), Reply)
            assert server.connections == 1
            bodies = [b'{"n":%d}' % number for number in range(50)]
            found = await asyncio.gather(*map(transport.send, bodies))
            assert all(isinstance(each, Reply) for each in found)
            assert server.connections == 50
        assert sorted(each.partition(b"\r\n\r\n")[2] for each in server.requests[5:]) == sorted(bodies)

    run(work())


def test_each_of_many_requests_gets_its_own_reply() -> None:
    async def echo(talk: Talk) -> None:
        while True:
            body = (await talk.request()).partition(b"\r\n\r\n")[2]
            if len(body) % 3 == 0:
                await asyncio.sleep(0.001)
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            talk.say(body)

    async def work() -> None:
        async def ask(number: int) -> None:
            for turn_ in range(20):
                body = b'{"n":"%d-%d%s"}' % (number, turn_, b"x" * (number * turn_ % 7))
                found = await transport.send(body)
                assert isinstance(found, Reply)
                assert found.body == body

        async with Talker(echo).serving() as url, client(url) as transport:
            await asyncio.gather(*(ask(number) for number in range(40)))

    run(work())


def test_a_connection_that_is_closed_while_nobody_uses_it_is_not_used_again() -> None:
    async def once_each(talk: Talk) -> None:
        await talk.request()
        talk.say(OK)

    async def work() -> None:
        server = Talker(once_each)
        async with server.serving() as url, client(url) as transport:
            for number in range(3):
                assert isinstance(await transport.send(b"{}"), Reply)
                await server.until(lambda: not server.open)
                assert server.connections == len(server.requests) == number + 1

    run(work())


class Bare:
    """A server of bare sockets, which closes at the very moment that a test says."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1/chat/completions"
        self.requests = 0

    async def accepted(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        connection.setblocking(False)
        return connection

    async def answers(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(connection, 65_536)
        self.requests += 1
        connection.send(OK)


async def kept(server: Bare, transport: DirectTransport) -> socket.socket:
    """Return a connection by which one request was answered."""
    first = asyncio.ensure_future(transport.send(b"{}"))
    connection = await server.accepted()
    await server.answers(connection)
    assert isinstance(await first, Reply)
    return connection


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_a_request_that_is_written_as_its_server_closes_is_sent_again(way: str) -> None:
    async def work() -> None:
        server = Bare()
        with server.listener:
            for _ in range(20):
                async with client(server.url) as transport:
                    connection = await kept(server, transport)
                    before = server.requests
                    if way == "resets":
                        resets(connection)
                    connection.close()
                    second = asyncio.ensure_future(transport.send(b"{}"))
                    with await server.accepted() as another:
                        await server.answers(another)
                        assert isinstance(await second, Reply)
                    assert server.requests == before + 1

    run(work())


@pytest.mark.parametrize("way", ["unread", "read", "half read", "reset", "while it is written"])
def test_a_request_that_came_to_its_server_is_not_sent_again(way: str) -> None:
    """Whether it has read it is not to be known: it may have been billed."""

    async def work() -> Failure:
        server = Bare()
        with server.listener:
            async with client(server.url) as transport:
                with await kept(server, transport) as connection:
                    loop = asyncio.get_running_loop()
                    second = asyncio.ensure_future(transport.send(b"x" * (5_000_000 if "while" in way else 2_000)))
                    while not (seen := await loop.sock_recv(connection, 1)):
                        pass
                    if way in ("read", "reset"):
                        await loop.sock_recv(connection, 65_536)
                    elif way == "half read":
                        await loop.sock_recv(connection, 1_000)
                    if way == "reset":
                        resets(connection)
                    assert seen
                    connection.close()
                    found = await second
                server.listener.settimeout(0)
                with pytest.raises(BlockingIOError):
                    server.listener.accept()
                assert isinstance(found, Failure)
                return found

    found = run(work())
    assert (found.fault.name, found.maybe_billed, found.part) == ("connection", True, "http")


def test_a_server_that_closes_every_connection_at_once_has_certainly_billed_nothing() -> None:
    (found,), server = answers(close_at_once)
    assert isinstance(found, Failure)
    assert (found.fault.name, found.maybe_billed) == ("connection", False)
    assert "the server closed the connection" in found.message
    assert server.requests == []
    assert 1 <= server.connections <= 3


def test_connections_that_are_all_closed_by_a_restart_cost_no_request() -> None:
    async def work() -> None:
        server = Talker(fine)
        async with server.serving() as url, client(url) as transport:
            await asyncio.gather(*(transport.send(b"{}") for _ in range(30)))
            for writer in list(server._writers):
                writer.transport.abort()
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(30)))
            assert all(isinstance(each, Reply) and each.body == BODY for each in found)
            assert len(server.requests) == 60

    run(work())


def test_a_server_that_says_that_it_closes_does_so_first() -> None:
    """Whoever closes first keeps the port for a minute: a machine has 28,000 of them."""

    async def work() -> None:
        closes = asyncio.Event()

        async def last(talk: Talk) -> None:
            await talk.request()
            talk.say(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            await closes.wait()
            assert not talk.reader.at_eof()

        server = Talker(last)
        async with server.serving() as url, client(url) as transport:
            assert isinstance(await transport.send(b"{}"), Reply)
            assert isinstance(await transport.send(b"{}"), Reply), "by another connection"
            await turn()
            assert server.open == 2
            closes.set()
            await server.until(lambda: not server.open)
            while transport._connections._all:
                await turn()

    run(work())


@pytest.mark.parametrize(("waits_s", "more", "ends"), [(0.01, b"", False), (60.0, b"more", False), (60.0, b"", True)])
def test_a_server_that_says_that_it_closes_and_does_not_is_left(
    monkeypatch: pytest.MonkeyPatch, waits_s: float, more: bytes, ends: bool
) -> None:
    """After a while, at once where it says more, and at once where nobody wants anything of it any more."""
    monkeypatch.setattr(connection, "_LAST_WORD_S", waits_s)

    async def work() -> None:
        answered = asyncio.Event()

        async def stays(talk: Talk) -> None:
            await talk.request()
            talk.say(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            await answered.wait()
            if more:
                talk.say(more)
            await talk.gone()

        server = Talker(stays)
        async with server.serving() as url:
            async with client(url) as transport:
                assert isinstance(await transport.send(b"{}"), Reply)
                answered.set()
                if not ends:
                    await server.until(lambda: not server.open)
            await server.until(lambda: not server.open)

    run(work())


def test_408_on_a_connection_that_nobody_used_is_no_reply_to_the_next_request() -> None:
    """As HAProxy and others say it when they close one."""
    said = b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def work() -> None:
        server = Bare()
        with server.listener:
            async with client(server.url) as transport:
                with await kept(server, transport) as connection:
                    connection.send(said)
                second = asyncio.ensure_future(transport.send(b"{}"))
                with await server.accepted() as another:
                    await server.answers(another)
                    found = await second
                    assert isinstance(found, Reply)
                    assert found.status == 200
                    # And where it has read the request, it is one
                    third = asyncio.ensure_future(transport.send(b"{}"))
                    await asyncio.get_running_loop().sock_recv(another, 65_536)
                    another.send(said)
                    found = await third
                    assert isinstance(found, Reply)
                    assert found.status == 408

    run(work())
