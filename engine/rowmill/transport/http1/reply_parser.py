"""How the bytes of a connection become a reply: httptools, and what is done about heads that it does not like."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from rowmill.transport.http1.reply_head import LARGEST, ReplyHead, head_end, mended, speaks_http2
from rowmill.transport.squeezed import Squeezed

NOT_UNDERSTOOD = (HttpParserError, HttpParserUpgrade)  # what feeding the parser may raise
_LEAST = 100  # statuses below are none
_FINAL = 200  # statuses below are of replies that announce another one


class ReplyParser:
    """Takes one reply after the other apart. A `Connection` is one, for each call between the two would cost.

    It feeds the parser by `_feed`, keeping in `_raw` what it feeds as long as the head is not whole. A reply is whole
    once it has a `_status`.
    """

    __slots__ = (
        "_extra", "_feed", "_headed", "_interim", "_keep", "_may_begin", "_parser", "_pieces", "_raw", "_refused",
        "_squeezed", "_status", "on_body", "on_message_begin",
    )  # fmt: skip

    def __init__(self) -> None:
        self._raw = b""  # its head; until that is whole, all that came
        self._headed = False
        self._refused: str | None = None  # what the parser said of a head that was not whole
        self._interim = 0  # replies before it that announce it
        self._pieces: list[bytes] = []  # of its body
        self._squeezed: Squeezed | None = None  # of a long stream, what was there before the pieces
        self._status = 0
        self._keep = False  # as its server wants it
        self._extra = False  # something came behind it, or may: it is closed at once
        self._may_begin: list[None] = []  # one for a message that may begin: behind a reply that is whole, none may
        # For the parser, which so calls no function of Python. Where there is nothing to pop, it takes no more.
        self.on_body = self._pieces.append
        self.on_message_begin = self._may_begin.pop
        self._open_parser()

    def _open_parser(self) -> None:
        self._may_begin[:] = [None]
        parser = self._parser = HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            lenient_headers=True,  # folded ones
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_crlf_after_chunk=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._feed = parser.feed_data

    def _drop_parser(self) -> None:
        """Part with it: it holds its callbacks, and these hold it."""
        del self._parser, self._feed, self.on_body

    # What it tells

    def on_message_complete(self) -> None:
        """Hear that a message is whole."""
        parser = self._parser
        status = parser.get_status_code()
        if status >= _FINAL:
            self._status = status
            self._keep = parser.should_keep_alive()
        elif status < _LEAST:
            raise ValueError(f"a status of {status}")
        else:
            self._interim += 1
            self._may_begin.append(None)

    # The head

    def _has_too_long_a_head(self) -> bool:
        """Tell of a reply that is not whole; of what came keep the head alone, once that is there."""
        raw = self._raw if not self._interim else self._without_interim()
        end = head_end(raw)
        if end >= 0:
            self._raw = raw[:end]
            self._headed = True
        return (len(raw) if end < 0 else end) > LARGEST

    def _without_interim(self) -> bytes:
        """Return what came behind the replies that only announce another one."""
        raw = self._raw
        for _ in range(self._interim):
            raw = raw[head_end(raw) :]
        self._raw = raw
        self._interim = 0
        return raw

    def _ends_with_connection(self) -> bool:
        """Whether the head says nothing of where the body ends."""
        head = ReplyHead(self._raw)
        coding = head("transfer-encoding")
        return not head("content-length") if coding is None else not coding.lower().endswith("chunked")

    def _read_mended(self, error: Exception | str) -> str | None:
        """Read a reply whose head the parser does not like, once the head is there, as it must have been meant.

        Returns why that cannot be, None where it can, or the head is not there yet.
        """
        if isinstance(error, HttpParserUpgrade):
            return "the server wants to speak something else than HTTP/1.1"
        raw = self._raw
        words = "the server speaks HTTP/2 alone" if speaks_http2(raw) else f"what the server sent is no HTTP: {error}"
        if self._headed or self._interim or not raw.startswith(b"HTTP/1."[: len(raw)]):
            return words
        self._refused = str(error)
        if head_end(raw) < 0:
            return None  # how long this is looked at, `_has_too_long_a_head` says
        self._refused = None
        self._pieces.clear()
        self._open_parser()
        if (better := mended(raw)) is None:
            return words
        self._extra = True  # what is so odd is not asked again
        try:
            self._feed(better)
        except HttpParserError:
            return None if self._status else words
        return None
