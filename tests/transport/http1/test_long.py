"""Long requests and replies: what of them is in memory at a time, and replies that come before a request is whole."""

import asyncio
import ssl

import pytest
import trustme

from rowmill.core.wire import Failure, Reply
from rowmill.transport.reply_size import AT_ONCE, LONG_REPLIES
from tests.transport.http1.talk import OK, Script, Talk, Talker, client, fine, run, turn

LONG = b'{"image": "' + b"x" * 20_000_000 + b'"}'
REFUSED = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}"
AHEAD = 2_000_000  # bytes of a request that are encrypted or copied and not sent yet


@pytest.fixture(scope="module")
def tls() -> tuple[str, ssl.SSLContext]:
    made = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    return made.cert_pem.bytes().decode(), context


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_long_request_waits_for_its_server_and_comes_whole(tls: tuple[str, ssl.SSLContext], encrypted: bool) -> None:
    ca, context = tls
    go_on = asyncio.Event

    async def work() -> None:
        reads = go_on()

        async def slow(talk: Talk) -> None:
            head = await talk.reader.readuntil(b"\r\n\r\n")
            await reads.wait()
            left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while left:
                left -= len(await talk.reader.read(1 << 20))
            talk.say(OK)
            await fine(talk)

        server = Talker(slow)
        async with server.serving(context if encrypted else None) as url, client(url, ca=ca) as transport:
            sent = asyncio.ensure_future(transport.send(LONG))
            await server.until(lambda: server.connections == 1)
            for _ in range(20):
                await turn()
            (connection,) = transport._connections._all
            assert connection._unsent is not None
            assert connection._transport.get_write_buffer_size() < AHEAD
            reads.set()
            assert isinstance(await sent, Reply)
            assert isinstance(await transport.send(b"{}"), Reply)
            assert server.connections == 1

    run(work())


async def refuse(talk: Talk) -> None:
    await talk.reader.readuntil(b"\r\n\r\n")
    talk.say(REFUSED)


async def refuse_and_reset(talk: Talk) -> None:
    await refuse(talk)
    await turn()
    talk.reset()


async def refuse_and_discard(talk: Talk) -> None:
    await refuse(talk)
    await talk.gone()


async def refuse_and_stay(talk: Talk) -> None:
    await refuse(talk)
    talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
    while not talk.writer.is_closing() and talk.server.connections < 2:
        await turn()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("script", [refuse, refuse_and_reset, refuse_and_discard, refuse_and_stay])
def test_a_reply_that_comes_before_the_request_is_whole_is_the_reply(
    tls: tuple[str, ssl.SSLContext], script: Script, encrypted: bool
) -> None:
    ca, context = tls

    async def work() -> None:
        server = Talker(script, fine)
        async with server.serving(context if encrypted else None) as url, client(url, ca=ca) as transport:
            found = await transport.send(LONG)
            assert isinstance(found, Reply), found
            assert (found.status, found.body) == (413, b"{}")
            assert isinstance(await transport.send(b"{}"), Reply)
            assert server.connections == 2

    run(work())


def test_a_long_request_that_breaks_off_may_have_been_billed_and_one_that_is_given_up_ends(
    tls: tuple[str, ssl.SSLContext],
) -> None:
    async def breaks(talk: Talk) -> None:
        await talk.reader.readexactly(1_000_000)
        talk.reset()

    async def stuck(talk: Talk) -> None:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
        await asyncio.sleep(0)
        await asyncio.wait([asyncio.ensure_future(left.wait())])

    left = asyncio.Event()

    async def work() -> None:
        server = Talker(breaks, stuck)
        async with server.serving() as url, client(url, timeout_s=1.0) as transport:
            found = await transport.send(LONG)
            assert isinstance(found, Failure)
            assert (found.fault.name, found.maybe_billed) == ("connection", True)
            found = await transport.send(LONG)
            assert isinstance(found, Failure)
            assert (found.fault.name, found.maybe_billed) == ("timeout", True)
            left.set()

    run(work())


def test_few_long_replies_are_read_at_a_time_and_each_comes_whole() -> None:
    size = 3 * AT_ONCE
    body = b'{"' + b"y" * size + b'":0}'

    go_on = asyncio.Event()

    async def long(talk: Talk) -> None:
        while True:
            await talk.request()
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            talk.say(body[: 2 * AT_ONCE])
            await go_on.wait()
            talk.say(body[2 * AT_ONCE :])

    async def work() -> None:
        async with Talker(long).serving() as url, client(url) as transport:
            reading = transport._connections.long_replies
            asked = asyncio.gather(*(transport.send(b"{}") for _ in range(12)))
            while len(reading._read) + len(reading._waiting) < 12:
                await turn()
            assert len(reading._read) == LONG_REPLIES
            go_on.set()
            assert all(isinstance(each, Reply) and each.body == body for each in await asked)
            again = await asyncio.gather(*(transport.send(b"{}") for _ in range(12)))
            assert all(isinstance(each, Reply) and each.body == body for each in again)
            assert not reading._read
            assert not reading._waiting

    run(work())


def test_a_long_reply_that_waits_for_its_turn_ends_at_its_deadline_and_leaves_its_place() -> None:
    async def never(talk: Talk) -> None:
        await talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 25))
        talk.say(b"{" * (AT_ONCE + 300_000))
        await talk.gone()

    async def work() -> None:
        server = Talker(never)
        async with server.serving() as url, client(url, timeout_s=1.5) as transport:
            found = await asyncio.gather(*(transport.send(b"{}") for _ in range(LONG_REPLIES + 3)))
            assert {each.fault.name for each in found if isinstance(each, Failure)} == {"timeout"}
            reading = transport._connections.long_replies
            assert not reading._read
            assert not reading._waiting

    run(work())


EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
EVENTS = EVENT * (3 * AT_ONCE // len(EVENT))
STREAMED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def test_long_streams_wait_for_no_other_and_are_small_in_memory() -> None:
    """Each is held in the middle: where only a few were read at a time, the others would not come so far."""
    streams = 3 * LONG_REPLIES

    async def work() -> None:
        go_on = asyncio.Event()
        held = 0

        async def slow(talk: Talk) -> None:
            nonlocal held
            for again in range(2):
                await talk.request()
                talk.say(STREAMED + b"Transfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(EVENTS), 100_001):
                    piece = EVENTS[start : start + 100_001]
                    await talk.said(b"%x\r\n%b\r\n" % (len(piece), piece))
                    if not again and start < 2 * AT_ONCE <= start + 100_001:
                        held += 1
                        talk.server.tell()
                        await go_on.wait()
                talk.say(b"0\r\n\r\n")
            await talk.gone()

        server = Talker(slow)
        async with server.serving() as url, client(url) as transport:
            sent = [asyncio.ensure_future(transport.send(b"{}")) for _ in range(streams)]
            await server.until(lambda: held == streams)
            connections = list(transport._connections._all)
            async with asyncio.timeout(30):
                while any(each._size < 2 * AT_ONCE - 200_000 for each in connections):
                    await turn()
            for each in connections:
                assert each._squeezed is not None
                assert each._squeezed.size + sum(map(len, each._pieces)) < AT_ONCE // 2
            go_on.set()
            for reply in await asyncio.gather(*sent):
                assert isinstance(reply, Reply)
                assert reply.body == EVENTS
            reply = await transport.send(b"{}")
            assert isinstance(reply, Reply)
            assert reply.body == EVENTS  # nothing is left of the one before
            assert server.connections == streams

    run(work())


def test_a_long_stream_that_ends_with_its_connection_is_whole_and_a_cut_one_is_none() -> None:
    async def ends(talk: Talk) -> None:
        await talk.request()
        await talk.said(STREAMED + b"\r\n", EVENTS)
        talk.close()

    async def is_cut(talk: Talk) -> None:
        await talk.request()
        await talk.said(STREAMED + b"Content-Length: %d\r\n\r\n" % (len(EVENTS) + 1), EVENTS)
        talk.close()

    async def work() -> None:
        async with Talker(ends, is_cut).serving() as url, client(url) as transport:
            reply = await transport.send(b"{}")
            assert isinstance(reply, Reply)
            assert reply.body == EVENTS
            cut = await transport.send(b"{}")
            assert isinstance(cut, Failure)
            assert cut.maybe_billed

    run(work())
