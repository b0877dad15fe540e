"""The Batch API's lines, held against the openai package's own types."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types import BatchError, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.shared import ErrorObject

from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import Layout
from rowmill.files.output import open_codec

Joined = Callable[..., bytes]
Made = Callable[..., bytes]

CODEC = open_codec(OutputConfig(path="o.jsonl", format="batch"), Layout())
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "h\u00e9", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
EMBEDDING = {
    "object": "list",
    "model": "e",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}


def errors_line(line: bytes) -> Any:
    made = CODEC.failed(line, 2)
    assert made is not None
    assert b"\n" not in made
    return json.loads(made)


@pytest.mark.parametrize(("body", "kind"), [(CHAT, ChatCompletion), (EMBEDDING, CreateEmbeddingResponse)])
def test_a_result_has_the_whole_reply_as_its_body(
    body: dict[str, Any], kind: Any, joined: Joined, result: Made
) -> None:
    text = json.dumps(body).encode()
    made = joined(CODEC, [[result(7, text, row_id=b'"request-1"')]])
    assert text in made, "the reply is left as it came"
    line = json.loads(made)
    assert kind.model_validate(line["response"].pop("body"), strict=True).to_dict() == body
    assert line == {
        "id": "batch_req_7",
        "custom_id": "request-1",
        "response": {"status_code": 200, "request_id": "req_7"},
        "error": None,
    }


def test_failed_rows_are_only_in_the_errors_file(joined: Joined, result: Made, failed: Made) -> None:
    body = json.dumps(CHAT).encode()
    made = joined(CODEC, [[failed(0), result(1, body)], [failed(2)], [], [result(3, body)]])
    assert [json.loads(line)["id"] for line in made.splitlines()] == ["batch_req_1", "batch_req_3"]


def test_an_error_of_the_server_has_a_response(failed: Made) -> None:
    line = errors_line(failed(7, row_id=b'"r"', status=400, code="bad", message='no "x"\n'))
    error = line["response"]["body"].pop("error")
    assert ErrorObject.model_validate(error, strict=True).to_dict() == error
    assert error == {"message": 'no "x"\n', "type": "timeout", "param": None, "code": "bad"}
    assert line == {
        "id": "batch_req_7",
        "custom_id": "r",
        "response": {"status_code": 400, "request_id": "req_7", "body": {}},
        "error": None,
    }


@pytest.mark.parametrize("status", [None, 200])
def test_a_failure_without_an_error_of_the_server_has_no_response(status: int | None, failed: Made) -> None:
    line = errors_line(failed(7, status=status, code="c", reply=b'"raw"'))
    assert BatchError.model_validate(line["error"], strict=True).to_dict() == line["error"]
    assert line["error"] == {"code": "timeout", "message": "it took too long"}
    assert line["response"] is None


@pytest.mark.parametrize("row_id", [b"null", b"7", b"1.5", b"true"])
def test_an_id_that_is_no_text_becomes_one(row_id: bytes, joined: Joined, result: Made, failed: Made) -> None:
    assert json.loads(joined(CODEC, [[result(3, b"{}", row_id=row_id)]]))["custom_id"] == "row-3"
    assert errors_line(failed(3, row_id=row_id))["custom_id"] == "row-3"


def test_half_a_surrogate_pair_costs_no_row(joined: Joined, result: Made, failed: Made) -> None:
    line = json.loads(joined(CODEC, [[result(1, b'{"a":"\\ud800"}', row_id=b'"\\udfff"')]]))
    assert (line["custom_id"], line["response"]["body"]) == ("\\udfff", {"a": "\\ud800"})
    assert errors_line(failed(1, row_id=b'"\\udfff"', message="bad \ud800"))["error"]["message"] == "bad \\ud800"
