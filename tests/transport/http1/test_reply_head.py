"""The head of a reply: where it ends, what stands in it, and what a server must have meant."""

import pytest

from rowmill.transport.http1.reply_head import ReplyHead, head_end, mended


@pytest.mark.parametrize(
    ("raw", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\nbody\r\n\r\n", 25),
        (b"HTTP/1.1 200 OK\nA: 1\n\nbody\r\n\r\n", 22),
        (b"HTTP/1.1 200 OK\r\nA: 1\n\r\nbody", 24),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n", -1),
        (b"", -1),
    ],
)
def test_a_head_ends_with_its_first_empty_line(raw: bytes, end: int) -> None:
    assert head_end(raw) == end


def test_headers_are_found_whatever_their_case_and_the_first_counts() -> None:
    head = ReplyHead(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nB:  x\r\n\ty \r\nC\r\n\r\nD: body")
    assert [head(name) for name in ("A", "a", "b", "B", "c", "d")] == ["1", "1", "x y", "x y", "", None]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (b"Content-Length: 5\r\ncontent-length: 5\r\n", b"content-length: 5\r\n"),
        (b"Content-Length: 5, 5\r\n", b"content-length: 5\r\n"),
        (b"Content-Length: 5\r\nTransfer-Encoding: gzip, Chunked\r\n", b"transfer-encoding: chunked\r\n"),
        (b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"content-length: 5\r\n"),
        (b"A B: 1\r\nnone\r\n: 2\r\nC : 3\r\nD:4\r\n", b"C: 3\r\nD: 4\r\n"),
    ],
)
def test_a_head_is_read_as_it_must_have_been_meant(lines: bytes, kept: bytes) -> None:
    assert mended(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nbody") == b"HTTP/1.1 200 OK\r\n" + kept + b"\r\nbody"


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"SSH\r\n\r\n", b"HTTP/1.1 2"]
)
def test_what_says_two_things_or_is_none_is_not(raw: bytes) -> None:
    assert mended(raw) is None
