"""What a task raises becomes the same failure wherever the reply came from."""

import msgspec
import pytest

from rowmill.core.errors import BadReply, Declined, EmptyReply, InvalidOutput, InvalidRow
from rowmill.core.wire import Answer, Failure, Reply
from rowmill.transport import faults
from rowmill.worker.failures import failure_in, failure_of, may_be_one_row, redacted, told

ANSWER = Answer(b'"as it came"', b'"stop"', b'"m"', b"null", 10, 7)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (InvalidRow("no text"), Failure(fault=faults.INVALID_ROW, message="no text")),
        (BadReply("no JSON"), Failure(fault=faults.BAD_REPLY, message="no JSON", status=201, maybe_billed=True)),
        (Declined("I won't"), Failure(fault=faults.CONTENT_FILTER, message="I won't", code="refusal", status=201)),
        (
            InvalidOutput("no number", ANSWER),
            Failure(fault=faults.INVALID_OUTPUT, message="no number", reply=b'"as it came"'),
        ),
    ],
)
def test_each_of_them_has_its_class(error: InvalidRow | BadReply | Declined | InvalidOutput, failure: Failure) -> None:
    assert failure_of(error, 201) == failure


def test_a_reply_that_is_no_answer_says_what_it_has_in_its_place() -> None:
    reply = Reply(200, b'{"detail": "Not Authenticated"}', lambda _: None)
    found = failure_in(BadReply("no choices"), reply)
    assert (found.fault, found.message) == (faults.BAD_REPLY, "no choices; the reply says: Not Authenticated")
    for body in (b'{"detail": {}}', b'{"choices": 1, "message": "x"}', b'["x"]', b'{"detail"'):
        assert failure_in(BadReply("no"), Reply(200, body, lambda _: None)).message == "no"


def test_a_refusal_that_is_too_long_for_a_message_is_whole_beside_it() -> None:
    text = "I cannot. " * 200
    failure = redacted(failure_of(Declined(text)), ())
    assert failure.message.endswith("…")
    assert failure.reply == msgspec.json.encode(text)


def test_what_is_kept_of_a_reply_that_was_no_answer_stands_in_its_failure() -> None:
    empty, declined = EmptyReply("nothing"), Declined("no")
    empty.more = declined.more = b',"reasoning":"hm"'
    invalid = InvalidOutput("no number", msgspec.structs.replace(ANSWER, more=b',"reasoning":"hm"'))
    assert [failure_of(each).more for each in (empty, declined, invalid)] == [b',"reasoning":"hm"'] * 3
    assert failure_of(BadReply("no JSON")).more == b""


def test_no_secret_stands_in_any_text_of_the_server() -> None:
    failure = Failure(fault=faults.BAD_REPLY, message="key sk-sec\u200bret\x1b[31m", code="no sk-secret", status=400)
    expected = Failure(fault=faults.BAD_REPLY, message="key [redacted][31m", code="no [redacted]", status=400)
    assert redacted(failure, ("sk-secret",)) == expected


def test_texts_of_a_server_are_clipped_to_a_kib() -> None:
    found = redacted(Failure(fault=faults.BAD_REPLY, message="é" * 5000, code="c" * 5000), ())
    assert (len(found.message.encode()), len((found.code or "").encode())) == (1023, 1024)


def test_no_secret_stands_in_a_message_and_nothing_else_changes() -> None:
    failure = Failure(fault=faults.BAD_REPLY, message="your key sk-secret", code="sk", status=200, maybe_billed=True)
    expected = Failure(fault=faults.BAD_REPLY, message="your key [redacted]", code="sk", status=200, maybe_billed=True)
    assert redacted(failure, ("sk-secret",)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("invalid_request", True),
        ("content_filter", True),
        ("context_length", True),
        ("bad_reply", True),
        ("server_error", False),
        ("rate_limited", False),
        ("timeout", False),
    ],
)
def test_a_pack_may_have_failed_for_one_row_unless_another_try_may_help(name: str, expected: bool) -> None:
    assert may_be_one_row(Failure(fault=faults.TABLE[name], message="")) is expected


def test_what_is_wrong_with_a_reply_is_told_without_the_key() -> None:
    answer = Answer(b'"sk-1234567"', b'"stop"', b'"m"', b"null", 1, 1)
    shown = told(InvalidOutput("the member 'sk-1234567' is not allowed", answer), ("sk-1234567",))
    assert str(shown) == "the member '[redacted]' is not allowed"
    assert shown.answer is answer, "it was paid for"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("server_error", "server_error"),
        ("rate_limit_exceeded", "rate_limited"),
        ("invalid_prompt", "content_filter"),
        ("context_length_exceeded", "context_length"),
        ("invalid_image_url", "invalid_request"),
        ("image_content_policy_violation", "content_filter"),
        ("vector_store_timeout", "timeout"),
        ("of_no_known_kind", "empty_reply"),
    ],
)
def test_a_whole_reply_without_an_answer_is_classified_by_the_error_that_it_holds(code: str, fault: str) -> None:
    body = msgspec.json.encode({"object": "response", "status": "failed", "error": {"code": code, "message": "broke"}})
    found = failure_in(EmptyReply("a response that is failed: broke"), Reply(200, body, lambda _: None))
    assert (found.fault.name, found.status) == (fault, 200)
    assert "broke" in found.message
