"""The bytes of replies in which each row has its own text, in all the forms in which servers send them."""

import gzip
import zlib
from random import Random

ROW = b"row "
DIGITS, SHOWN = 8, 64
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NO_HTTP = b"220 mail.example ESMTP\r\n"
_STATUSES = {500: b"500 Internal Server Error", 503: b"503 Service Unavailable"}
_ERROR = b'{"error":{"message":"The server had an error.","type":"server_error"}}'
_CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
_INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
)
_LONG = 3 << 19  # bytes: more than what the replies of all requests in flight may have in memory


def answer_to(text: bytes) -> bytes:
    """Return what the model says of a row: how the row begins, and a digest of all of it."""
    return b"%b %08x" % (text[:SHOWN], zlib.crc32(text))


def row_of(body: bytes) -> int:
    """Return the row's number in the body of a request, or in the beginning of one."""
    at = body.index(ROW) + len(ROW)
    return int(body[at : at + DIGITS])


def completion(content: bytes) -> bytes:
    """Return the body of a reply that says this."""
    return (
        b'{"id":"c","object":"chat.completion","created":1,"model":"sim-small","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"%b"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}' % content
    )


def completion_of(body: bytes) -> bytes:
    """Return the body of the reply to the row whose request has this body."""
    return completion(answer_to(body[body.index(ROW) :].partition(b'"')[0]))


def plain(body: bytes, header: bytes = b"") -> bytes:
    """Return a reply with its length, and with lines of its head in `header`."""
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (HEAD, header, len(body), body)


def refusal(status: int) -> bytes:
    """Return an error."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (_STATUSES[status], len(_ERROR), _ERROR)


def chunked(body: bytes, rng: Random) -> bytes:
    """Return a reply in chunks, with a trailer now and then."""
    size = rng.choice((1, 7, 100, len(body)))
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    trailer = rng.choice((b"", b"X-Took: 3\r\n"))
    return (
        HEAD + _CHUNKS + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n%b\r\n" % trailer
    )


def cut_chunk(body: bytes, rng: Random) -> bytes:
    """Return a chunked reply up to somewhere in its only chunk."""
    return HEAD + _CHUNKS + b"%x\r\n%b" % (len(body), body[: rng.randrange(len(body))])


def cut(reply: bytes, rng: Random) -> bytes:
    """Return a reply up to somewhere."""
    return reply[: rng.randrange(1, len(reply))]


def announced(reply: bytes, rng: Random) -> bytes:
    """Return a reply behind those that only announce it."""
    return rng.choice(_INTERIM) + reply


def gzipped(body: bytes) -> bytes:
    """Return a reply that is compressed."""
    return plain(gzip.compress(body, 1), b"Content-Encoding: gzip\r\n")


def long(body: bytes) -> bytes:
    """Return a reply with a body of 1.5 MB."""
    return plain(body + b" " * _LONG)
