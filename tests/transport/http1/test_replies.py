"""What replies look like on the wire, and what is made of them: framing, odd heads, and what comes behind."""

import pytest

from rowmill.core.wire import Failure, Reply
from tests.transport.http1.talk import BODY, OK, Talk, Talker, answers, client, fine, once, run

HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 13\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b'6\r\n{"whol\r\n7;ext=1\r\ne": 13}\r\n0\r\n'

# What is read as a whole reply; and whether its connection is kept.
READ: dict[str, tuple[bytes, bool]] = {
    "a length": (HEAD + LENGTH + b"\r\n" + BODY, True),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + BODY, True),
    "chunks": (HEAD + CHUNKED + b"\r\n" + CHUNKS + b"\r\n", True),
    "chunks and trailers": (HEAD + CHUNKED + b"\r\n" + CHUNKS + b"X-Sum: 1\r\n\r\n", True),
    "spaces behind a chunk's size": (HEAD + CHUNKED + b"\r\nd \r\n" + BODY + b"\r\n0\r\n\r\n", True),
    "a close that is said": (HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, False),
    "HTTP/1.0 that is kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY, True),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + LENGTH + b"\r\n" + BODY, True),
    "102 and 103 before it": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\nX-One: 0\r\n\r\n"
        + HEAD + LENGTH + b"X-One: 1\r\n\r\n" + BODY,
        True,
    ),
    "an upgrade that is offered": (HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + LENGTH + b"\r\n" + BODY, True),
    "lines without CR": (b"HTTP/1.1 200 OK\n" + b"Content-Length: 13\n\n" + BODY, True),
    "a folded header": (HEAD + b"X-One: 1,\r\n\t 2\r\n" + LENGTH + b"\r\n" + BODY, True),
    "300 headers": (HEAD + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(300)) + LENGTH + b"\r\n" + BODY, True),
    "empty lines before it": (b"\r\n\r\n" + HEAD + LENGTH + b"\r\n" + BODY, True),
    "the length twice": (HEAD + LENGTH * 2 + b"\r\n" + BODY, False),
    "the length twice in a line": (HEAD + b"Content-Length: 13, 13\r\n\r\n" + BODY, False),
    "a length beside chunks": (HEAD + b"Content-Length: 99\r\n" + CHUNKED + b"\r\n" + CHUNKS + b"\r\n", False),
    "a coding that is none": (HEAD + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY, False),
    "lines that are no headers": (HEAD + b"X One: 1\r\nnonsense\r\nX-Two : 2\r\n" + LENGTH + b"\r\n" + BODY, False),
}  # fmt: skip


@pytest.mark.parametrize("pieces", ["whole", "in two", "bytes"])
@pytest.mark.parametrize("name", READ)
def test_a_reply_is_read_however_it_is_framed_and_cut(name: str, pieces: str) -> None:
    raw, kept = READ[name]

    async def script(talk: Talk) -> None:
        await talk.request()
        if pieces == "whole":
            await talk.said(raw)
        elif pieces == "in two":
            await talk.said(raw[: len(raw) // 2], raw[len(raw) // 2 :])
        else:
            for start in range(min(len(raw), 120)):
                await talk.said(raw[start : start + 1]) if start % 9 == 0 else talk.say(raw[start : start + 1])
            talk.say(raw[120:])
        await fine(talk)

    (first, second), server = answers(script, times=2)
    assert isinstance(first, Reply), first
    assert (first.status, first.body) == (200, BODY)
    assert isinstance(second, Reply), second
    assert second.body == BODY
    assert (server.connections == 1) == kept
    assert first.header("x-sum") is None
    if "X-One" in raw.decode():
        assert (first.header("X-ONE") or "").replace("\t", " ").split() in (["1"], ["1,", "2"], [])


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (HEAD + b"\r\n" + BODY, BODY),
        (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, BODY),
        (HEAD + b"\r\n", b""),
        (HEAD + b"Content-Length:\r\n\r\n" + BODY, BODY),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n" + BODY, BODY),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + BODY, BODY),
    ],
)
def test_a_reply_without_a_length_ends_with_its_connection(raw: bytes, body: bytes) -> None:
    for pieces in ((raw,), (raw[:30], raw[30:])):
        (first, second), server = answers(once(*pieces, close=True), fine, times=2)
        assert isinstance(first, Reply), first
        assert first.body == body
        assert isinstance(second, Reply)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "more"), [(204, b""), (304, b"Content-Length: 5\r\n"), (429, b"Content-Length: 0\r\n")]
)
def test_a_reply_without_a_body_is_whole_at_once(status: int, more: bytes) -> None:
    (found,), _ = answers(once(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, more)))
    assert isinstance(found, Reply)
    assert (found.status, found.body) == (status, b"")


NO_REPLY: dict[str, tuple[bytes, str]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "is no HTTP"),
    "frames of HTTP/2": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), "the server speaks HTTP/2 alone"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "is no HTTP"),
    "another version": (b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", "is no HTTP"),
    "a status that is none": (b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "is no HTTP"),
    "no number": (b"HTTP/1.1 fine\r\nContent-Length: 0\r\n\r\n", "is no HTTP"),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "is no HTTP"),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", "is no HTTP"),
    "a chunk without a size": (HEAD + CHUNKED + b"\r\nxyz\r\n", "is no HTTP"),
    "switched": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "something else than HTTP/1.1",
    ),
    "a long header": (HEAD + b"X: " + b"a" * 70_000 + b"\r\n" + LENGTH + b"\r\n" + BODY, "more than 64 KiB of headers"),
    "headers without end": (HEAD + b"X: 1\r\n" * 12_000, "more than 64 KiB of headers"),
}


@pytest.mark.parametrize("name", NO_REPLY)
def test_what_is_no_reply_says_so_at_once_and_may_have_been_billed(name: str) -> None:
    raw, words = NO_REPLY[name]
    (found, after), server = answers(once(raw), fine, times=2)
    assert isinstance(found, Failure), found
    assert (found.fault.name, found.maybe_billed, found.part, found.status) == ("connection", True, "http", None)
    assert words in found.message
    assert isinstance(after, Reply)
    assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + LENGTH + b"\r\n" + BODY[:5],
        HEAD + CHUNKED + b"\r\n" + CHUNKS[:9],
        HEAD + b"X: 1\r\n",
        b"HTT",
        HEAD + CHUNKED + b"\r\n" + CHUNKS,
    ],
)
def test_a_reply_that_breaks_off_is_none(raw: bytes) -> None:
    (found,), _ = answers(once(raw, close=True))
    assert isinstance(found, Failure)
    assert (found.fault.name, found.maybe_billed) == ("connection", True)
    assert "closed the connection before its reply was complete" in found.message


@pytest.mark.parametrize("more", [b"", b"Content-Length: 900\r\n", CHUNKED])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_of_an_error_that_breaks_off_the_status_is_enough(more: bytes, how: str) -> None:
    """As proxies send them that refuse a request which they have not read: they reset the connection."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.said(b"HTTP/1.1 407 Login\r\n" + more + b"\r\n" + (b"3\r\n" if more == CHUNKED else b"") + b"no!")
        if how == "reset":
            talk.reset()

    (found,), _ = answers(script)
    assert isinstance(found, Reply), found
    assert (found.status, found.body) == (407, b"no!")


def test_a_kept_connection_that_ends_with_a_reply_is_not_asked_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        talk.say(OK)
        await talk.request()
        talk.say(HEAD + b"\r\n" + BODY)

    found, server = answers(script, times=4)
    assert [each.body for each in found if isinstance(each, Reply)] == [BODY] * 4
    assert server.connections == 2


EXTRA = (b"junk", b"HTTP/1.1 200", HEAD + b"Content-Length: 1000\r\n\r\n{", HEAD + b"Content-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("when", ["with it", "behind it", "with the last piece"])
def test_what_comes_behind_a_reply_is_never_taken_for_the_next_one(extra: bytes, when: str) -> None:
    pieces = {"with it": [OK + extra], "behind it": [OK, extra], "with the last piece": [OK[:30], OK[30:] + extra]}

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.said(*pieces[when])
        await talk.gone()

    async def work() -> tuple[Reply | Failure, Reply | Failure]:
        server = Talker(script, fine)
        async with server.serving() as url, client(url) as transport:
            first = await transport.send(b"{}")
            await server.until(lambda: not server.open)  # it is closed, and not asked again
            return first, await transport.send(b"{}")

    for found in run(work()):
        assert isinstance(found, Reply)
        assert found.body == BODY


def test_one_header_of_several_is_the_first_one_and_its_bytes_are_as_they_came() -> None:
    raw = HEAD + b"Retry-After: 7\r\nretry-after:8\r\nX-Odd:  a\xe4 \r\nX-Empty:\r\n" + LENGTH + b"\r\n" + BODY
    (found,), _ = answers(once(raw))
    assert isinstance(found, Reply)
    names = ("retry-after", "RETRY-AFTER", "x-odd", "x-empty", "absent", "http/1.1 200 ok")
    assert [found.header(name) for name in names] == ["7", "7", "a\xe4", "", None, None]
