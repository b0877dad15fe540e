"""What servers were seen to answer, word for word: each shape's class, and the wait that it asks for.

`refusal_shapes.jsonl` has a shape a line, with its source; "from memory, unverified" where no original was found.
"""

import json
from pathlib import Path

import pytest

from rowmill.core.wire import Reply
from rowmill.transport.faults import classify, inside

_FILE = Path(__file__).with_name("refusal_shapes.jsonl")
SHAPES = [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]
# In the list a class of its own; here what becomes of the row is the same.
_SAME = {"payment": "too_large"}
# A 2xx that holds no error: what the answer is, the task says.
_ANSWERS = ("answer_content_filter", "bad_reply")


# Of an ordinary limit: a later one is let through.
ANTHROPIC = (
    "This request would exceed your organization's rate limit of 30,000 input tokens per minute. Please reduce the "
    "prompt length or the maximum tokens requested, or try again later."
)


@pytest.mark.parametrize("place", range(len(SHAPES)))
def test_each_shape_has_its_class_and_its_wait(place: int) -> None:
    shape = SHAPES[place]
    status, headers, kind, wait = (shape[name] for name in ("status", "headers", "class", "wait"))
    reply = Reply(status, shape["body"].encode(), lambda name: headers.get(name.lower()))
    found = inside(reply) if 200 <= status < 300 else classify(reply)
    if kind in _ANSWERS:
        assert found is None
        return
    assert found is not None
    assert (found.fault.name, found.status) == (_SAME.get(kind, kind), status)
    assert found.retry_after == (None if wait is None else pytest.approx(wait))


def test_there_are_as_many_shapes_as_were_collected() -> None:
    assert len(SHAPES) >= 300
    assert len({shape["server"] for shape in SHAPES}) >= 30


@pytest.mark.parametrize("status", [200, 429])
def test_an_error_within_a_stream_of_events_is_believed(status: int) -> None:
    error = {"error": {"message": "Rate limit reached", "code": 429}}
    body = b": keep-alive\n\nevent: error\ndata: " + json.dumps(error).encode() + b"\n\ndata: [DONE]\n\n"
    reply = Reply(status, body, lambda _: None)
    found = inside(reply) if status == 200 else classify(reply)
    assert found is not None
    assert (found.fault.name, found.message) == ("rate_limited", "Rate limit reached")
    assert inside(Reply(200, b'data: {"error":\n\n', lambda _: None)) is None


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limited"),
        ({"code": "rate_limit_exceeded", "type": "invalid_request_error", "message": "slow"}, "rate_limited"),
        ({"status": "RESOURCE_EXHAUSTED", "message": "slow"}, "rate_limited"),
        ({"type": "ThrottlingException", "message": "slow"}, "rate_limited"),
        ("Too many requests", "rate_limited"),
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"code": "server_error", "message": "oops"}, "server_error"),
        ({"type": "InternalServerError", "message": "oops"}, "server_error"),
        ({"status": "DEADLINE_EXCEEDED", "message": "oops"}, "timeout"),
        ({"type": "authentication_error", "message": "who?"}, "auth"),
        ({"code": "Forbidden", "message": "no"}, "forbidden"),
        ({"code": "model_not_found", "message": "which?"}, "not_found"),
        ({"type": "request_too_large", "message": "long"}, "too_large"),
        ({"type": "BadRequestError", "message": "odd"}, "invalid_request"),
        ({"code": "insufficient_quota", "message": "pay"}, "quota_exhausted"),
        ({"code": "something_else", "message": "odd"}, "bad_reply"),
    ],
)
def test_within_a_200_a_word_stands_for_a_status(error: object, name: str) -> None:
    found = inside(Reply(200, json.dumps({"error": error}).encode(), lambda _: None))
    assert found is not None
    assert (found.fault.name, found.status) == (name, 200)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("This request of 45000 tokens is larger than your quota of 30000 tokens per minute", "too_large"),
        ("Too many tokens in request: 45000 > 30000", "too_large"),
        ("Your prompt (45,000 tokens) exceeds the 30,000 TPM limit", "too_large"),
        ("Limit 6000, Used 0, Requested 14000, please reduce your message size and try again.", "too_large"),
        ("The request is larger than your limit of tokens", "too_large"),
        (ANTHROPIC, "rate_limited"),
        ("Your request rate of 100 is greater than 60 per minute", "rate_limited"),
        ("Rate limit exceeded: 31 requests > 30 requests per minute", "rate_limited"),
        ("In this request's minute 31000 tokens were used: 31000 > 30000", "rate_limited"),
        ("Your request was refused: current usage 31000 tokens exceeds 30000", "rate_limited"),
        ("Limit 30000, Used 29000, Requested 2000. Try again in 1s", "rate_limited"),
    ],
)
def test_a_429_for_a_rows_own_size_is_told_from_one_for_the_rate(message: str, name: str) -> None:
    found = classify(Reply(429, json.dumps({"error": {"message": message}}).encode(), lambda _: None))
    assert found is not None
    assert found.fault.name == name
