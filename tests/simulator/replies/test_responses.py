"""`/responses` says what chat completions say, in the shape of its own API."""

import json
from typing import Any

import pytest
from openai.types.responses import Response

from rowmill.simulator.replies import RequestError, digest, fingerprint
from rowmill.simulator.replies.responses import compose

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


def _body(given: Any = "What is a row?", **extra: Any) -> bytes:
    return json.dumps({"model": "sim-small", "input": given, **extra}).encode()


def _reply(body: bytes, mean_tokens: float = 0.0) -> Response:
    return Response.model_validate_json(compose(body, fingerprint(body), mean_tokens).body)


def test_a_text_is_answered_with_its_digest_and_counted_usage() -> None:
    reply = _reply(_body("x" * 400, instructions="y" * 40))
    assert reply.output_text.endswith(f"[{digest('x' * 400)}]")
    assert (reply.status, reply.incomplete_details) == ("completed", None)
    assert reply.usage is not None
    assert reply.usage.input_tokens == 110
    assert reply.usage.total_tokens == 110 + reply.usage.output_tokens
    assert reply.instructions == "y" * 40


def test_the_last_message_of_the_user_is_the_question() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "1", "annotations": []}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ]
    assert _reply(_body(messages)).output_text.endswith(f"[{digest('two')}]")


def test_a_cap_ends_a_reply_as_incomplete() -> None:
    reply = _reply(_body(max_output_tokens=16), mean_tokens=2000)
    assert reply.status == "incomplete"
    assert reply.incomplete_details is not None
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert len(reply.output_text) == 64
    completion = compose(_body(max_output_tokens=500), fingerprint(b""))
    assert completion.charge == completion.prompt_tokens + 500


def test_a_refusal_is_a_part_of_its_own_kind() -> None:
    reply = json.loads(compose(_body("[[refuse]]"), bytes(16)).body)
    assert [part["type"] for part in reply["output"][0]["content"]] == ["refusal"]
    Response.model_validate(reply)


def test_a_schema_gets_json_and_is_told_in_the_reply() -> None:
    text = {"format": {"type": "json_schema", "name": "book", "schema": SCHEMA, "strict": False}}
    reply = _reply(_body(text=text))
    assert digest("What is a row?") in json.loads(reply.output_text)["title"]
    assert reply.text is not None
    assert reply.text.format is not None
    assert reply.text.format.type == "json_schema"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b'{"model":"m"}', 400, None),
        (_body(""), 400, None),
        (_body([]), 400, None),
        (_body(stream=True), 400, "stream"),
        (_body(max_output_tokens=15), 400, "max_output_tokens"),
        (_body("x" * 512_008), 400, "input"),
        (_body("[[filter]]"), 400, "prompt"),
        (_body(text={"format": {"type": "json_schema", "name": "x"}}), 400, None),
        (
            _body(text={"format": {"type": "json_schema", "name": "x", "schema": {"type": 7}}}),
            400,
            "text.format.schema",
        ),
        (_body().replace(b"sim-small", b"unknown-9"), 404, "model"),
    ],
)
def test_a_wrong_request_is_refused(body: bytes, status: int, param: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        compose(body, fingerprint(body))
    assert (caught.value.status, json.loads(caught.value.body)["error"]["param"]) == (status, param)
