"""Deadlines, and requests that nobody waits for any more."""

import asyncio
import socket
from time import monotonic
from typing import Any

import pytest

from rowmill.core.wire import Failure, Reply
from tests.transport.http1.talk import OK, Talk, Talker, client, fine, run, turn


async def silent(talk: Talk) -> None:
    await talk.gone()


async def hold(talk: Talk) -> None:
    await talk.request()
    await talk.gone()


async def drip(talk: Talk) -> None:
    await talk.request()
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    gone = asyncio.ensure_future(talk.gone())
    while not gone.done():
        talk.say(b"{")
        await asyncio.wait([gone], timeout=0.01)


@pytest.mark.parametrize("script", [silent, hold, drip])
def test_a_request_ends_at_its_deadline_and_its_socket_with_it(script: object) -> None:
    async def work() -> None:
        server = Talker(script)  # type: ignore[arg-type]
        async with server.serving() as url, client(url, timeout_s=0.3) as transport:
            start = monotonic()
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(3)))
            took = monotonic() - start
            assert all(isinstance(each, Failure) for each in found)
            assert {each.message for each in found if isinstance(each, Failure)} == {"no whole reply within 0.3 s"}
            assert all(
                each.fault.name == "timeout" and each.maybe_billed for each in found if isinstance(each, Failure)
            )
            assert took >= 0.299
            await server.until(lambda: not server.open)

    run(work())


def test_each_request_has_a_deadline_of_its_own() -> None:
    async def work() -> None:
        async with Talker(hold).serving() as url, client(url, timeout_s=0.4) as transport:

            async def ask(after: float) -> float:
                await asyncio.sleep(after)
                start = monotonic()
                await transport.send(b"{}")
                return monotonic() - start

            took = await asyncio.gather(*(ask(after) for after in (0.0, 0.1, 0.25)))
            assert all(each >= 0.399 for each in took), took
            assert await ask(0.0) >= 0.399  # where none was in flight for a while

    run(work())


def test_a_connection_has_a_deadline_of_its_own_and_costs_nothing() -> None:
    """A server that takes connections and never speaks TLS."""

    async def work() -> Failure | Reply:
        server = Talker(silent)
        async with server.serving() as url, client(url.replace("http:", "https:"), timeout_s=0.5) as transport:
            found = await transport.send(b"{}")
            await server.until(lambda: not server.open)
            return found

    found = run(work())
    assert isinstance(found, Failure)
    assert (found.fault.name, found.maybe_billed, found.message) == ("timeout", False, "no connection in time")
    assert found.part == "connection"


def test_a_machine_that_does_not_answer_is_given_up_by_all_that_wait_for_it_at_once() -> None:
    async def work() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            fillers = [socket.socket() for _ in range(3)]  # nobody accepts: what comes behind them is dropped
            for each in fillers:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            async with client(f"http://127.0.0.1:{port}/v1/x", timeout_s=1.0) as transport:
                start = monotonic()
                found = await asyncio.gather(*(transport.send(b"{}") for _ in range(100)))
                assert monotonic() - start >= 0.89, "0.9 of the request's time"
            for each in fillers:
                each.close()
            assert {each.message for each in found if isinstance(each, Failure)} == {"no connection in time"}
            assert not any(each.maybe_billed for each in found if isinstance(each, Failure))

    run(work())


@pytest.mark.parametrize("script", [silent, hold, drip])
def test_a_request_that_is_given_up_frees_its_socket_at_once(script: object) -> None:
    async def work() -> None:
        server = Talker(script)  # type: ignore[arg-type]
        async with server.serving() as url, client(url) as transport:
            tasks = [asyncio.ensure_future(transport.send(b"{}")) for _ in range(40)]
            await server.until(lambda: server.connections >= 16)
            await turn()
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            await server.until(lambda: not server.open)

    run(work())


def test_a_request_that_is_given_up_while_it_connects_leaves_nothing() -> None:
    async def work() -> None:
        server = Talker(silent)
        async with server.serving() as url, client(url.replace("http:", "https:")) as transport:
            tasks = [asyncio.ensure_future(transport.send(b"{}")) for _ in range(40)]
            await server.until(lambda: server.connections >= 16)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.until(lambda: not server.open)

    run(work())


def test_a_connection_that_comes_as_its_request_is_given_up_serves_another_one() -> None:
    async def work() -> None:
        server = Talker(fine)
        async with server.serving() as url, client(url) as transport:
            assert isinstance(await transport.send(b"{}"), Reply)
            pool = transport._connections
            connection = pool.idle.pop()
            waiting = asyncio.ensure_future(transport.send(b"{}"))
            await asyncio.sleep(0)
            pool.free(connection)  # it is given to the one that waits, which is given up before it hears of it
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(await transport.send(b"{}"), Reply)
            assert len(server.requests) == 2

    run(work())


def test_a_request_that_is_given_up_as_its_reply_comes_leaves_the_next_one_on_its_connection_alone() -> None:
    async def work() -> None:
        server = Talker(fine)
        async with server.serving() as url, client(url) as transport:
            first = asyncio.ensure_future(transport.send(b"{}"))
            await server.until(lambda: bool(server.requests))
            home = transport._connections
            while not home.idle:  # its reply has come, and it has not heard of it
                await asyncio.sleep(0)
                if first.done():  # or it has: another try
                    first = asyncio.ensure_future(transport.send(b"{}"))
            connection = home.idle.pop()
            following: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            connection.ask(b"{}", 1e12, following)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            async with asyncio.timeout(20):
                assert isinstance(await following, Reply)

    run(work())


def test_a_request_that_is_given_up_as_its_reply_comes_leaves_no_reply_for_another_one() -> None:
    async def work() -> None:
        async def numbered(talk: Talk) -> None:
            while True:
                body = (await talk.request()).partition(b"\r\n\r\n")[2]
                talk.say(OK.replace(b"13\r\n\r\n", b"%d\r\n\r\n" % len(body)).partition(b"{")[0] + body)

        server = Talker(numbered)
        async with server.serving() as url, client(url) as transport:
            for number in range(30):
                task = asyncio.ensure_future(transport.send(b'{"given up":%d}' % number))
                await server.until(lambda number=number: len(server.requests) > 2 * number)  # type: ignore[misc]
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                body = b'{"asked":%d}' % number
                found = await transport.send(body)
                assert isinstance(found, Reply)
                assert found.body == body

    run(work())
