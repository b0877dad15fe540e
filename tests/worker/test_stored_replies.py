"""Stored replies to a row: what they cost, and what was wrong with them."""

import msgspec

from rowmill.core.wire import Answer
from rowmill.store.recovery import StoredReply
from rowmill.worker.stored_replies import invalid_output, tokens_of


def stored(usage: tuple[int, int], output: bytes = b'"no"') -> StoredReply:
    return StoredReply(reply=3, requests=1, usage=usage, problem="no number", output=msgspec.Raw(output))


def test_all_of_them_are_paid_for() -> None:
    assert tokens_of([stored((10, 7)), stored((20, 1))]) == (30, 8)
    assert tokens_of([]) == (0, 0)


def test_the_reply_is_as_it_came() -> None:
    invalid = invalid_output(stored((10, 7), b'"a \\u00e9"'))
    assert str(invalid) == "no number"
    assert invalid.answer == Answer(b'"a \\u00e9"', b"null", b"null", b"null", 10, 7)
