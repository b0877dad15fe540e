"""Parts of replies beside their text: what `output.include` can ask for."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rowmill.core.config.sections import REPLY_PARTS, InputConfig, TaskConfig
from rowmill.core.errors import Declined, EmptyReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.factory import open_task
from rowmill.tasks.kept_parts import cut

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}


def parts(reply: Any) -> dict[str, Any]:
    """All parts of a reply, and that nothing is asked for that the others would hide."""
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    found: dict[str, Any] = json.loads(b"{%b}" % cut(body, REPLY_PARTS)[1:])
    assert list(found) == list(REPLY_PARTS)
    for part in REPLY_PARTS:
        assert json.loads(b"{%b}" % cut(body, [part])[1:]) == {part: found[part]}
    return found


def chat(*messages: Any, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": n, "message": message, **choice} for n, message in enumerate(messages)], "model": "m"}


@pytest.mark.parametrize(
    ("reply", "reasoning"),
    [
        (chat({"content": "a"}), None),
        (chat({"content": "a", "reasoning_content": "hm"}), "hm"),
        (chat({"content": "a", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}), "hm"),
        (chat({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "h"}, {"text": "m"}]}), "hm"),
        (chat({"content": "<think>\nhm\n</think>\n\na"}), "hm"),
        (chat({"content": "hm</think>a"}), "hm"),
        (chat({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}), "hm"),
        (chat({"content": "a"}, reasoning="hm"), "hm"),
        (chat({"content": "a"}, {"content": "b", "reasoning_content": "hm"}), "hm"),
        (chat({"content": "a", "reasoning_content": ""}), None),
        (chat({"content": "a", "reasoning_content": None, "reasoning": {"effort": "low"}}), None),
        ({"choices": [{"text": "<think>hm</think>a"}]}, "hm"),
        ({"choices": [{"text": "a", "reasoning_content": "hm"}]}, "hm"),
        ({"choices": [{"text": "a"}]}, None),
        ({"output": [{"type": "reasoning", "summary": [{"text": "h"}, {"text": "m"}]}]}, "h\n\nm"),
        ({"output": [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}]}, "hm"),
        ({"output": [{"type": "reasoning", "summary": [{"text": "a"}]}] * 2}, "a\n\na"),
        ({"output": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, None),
        ({"output": [{"type": "message", "content": [{"type": "thinking", "thinking": "hm"}]}]}, "hm"),
        ({"output": [{"type": "message", "content": "hm"}]}, None),
        ({"output": [{"type": "message", "content": "<think>hm</think>a"}]}, "hm"),
        ({"output": [{"content": [{"type": "output_text", "text": "<think>hm</think>a"}]}]}, "hm"),
    ],
)
def test_reasoning_is_one_text_whatever_its_shape(reply: Any, reasoning: str | None) -> None:
    assert parts(reply)["reasoning"] == reasoning


@pytest.mark.parametrize(
    ("reply", "calls"),
    [
        (chat({"content": "a", "tool_calls": [CALL]}), [CALL]),
        (chat({"content": "", "tool_calls": []}), None),
        (chat({"content": "a", "tool_calls": None}), None),
        (chat({"content": "a"}, {"content": None, "tool_calls": [CALL]}), [CALL]),
        (
            chat({"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
            [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
        ),
        ({"choices": [{"text": "a"}]}, None),
        (
            {"output": [{"type": "function_call", "name": "f"}, {"type": "web_search_call"}, {"type": "mcp_call"}]},
            [{"type": "function_call", "name": "f"}],
        ),
        ({"output": [{"type": "message", "content": []}]}, None),
    ],
)
def test_calls_are_those_that_the_asker_is_to_act_on(reply: Any, calls: Any) -> None:
    assert parts(reply)["tool_calls"] == calls


def test_logprobs_are_as_the_server_has_them() -> None:
    assert parts(chat({"content": "a"}, logprobs=LOGPROBS))["logprobs"] == LOGPROBS
    assert parts(chat({"content": "a"}, logprobs=None))["logprobs"] is None
    assert parts({"choices": [{"text": "a", "logprobs": {"tokens": ["a"]}}]})["logprobs"] == {"tokens": ["a"]}
    texts = [{"type": "output_text", "text": "a", "logprobs": [{"token": each}]} for each in "ab"]
    response = {"output": [{"type": "message", "content": texts[:1]}, {"type": "message", "content": texts[1:]}]}
    assert parts(response)["logprobs"] == [{"token": "a"}, {"token": "b"}]
    loose = b'{"choices":[{"message":{"content":"a"},"logprobs":{"x":[NaN,-Infinity,-inf,1e999]}}]}'
    assert b'"logprobs":{"x":[null,null,null,1e999]}' in cut(loose, ["logprobs"])


def test_choices_and_the_message_are_byte_for_byte_what_was_sent() -> None:
    message = (
        b'{"content": "a",  "annotations":[{"type":"url_citation","n":1.50}],"refusal":"no","x":12345678901234567890}'
    )
    body = b'{"choices":[{"index":0,"message":%b},{"index":1,"message":null}],"usage":null}' % message
    made = cut(body, ["choices", "message"])
    assert made == b',"choices":[{"index":0,"message":%b},{"index":1,"message":null}],"message":%b' % (message, message)
    assert parts({"choices": [{"text": "a", "finish_reason": "stop"}]})["message"]["finish_reason"] == "stop"
    items = [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "refusal", "refusal": "n"}]},
    ]
    assert parts({"output": items})["message"] == items
    assert parts({"output": items})["choices"] is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":null}',
        b'{"choices":[]}',
        b'{"choices":[null,1,"a",{"message":1}]}',
        b'{"output":[1,null,{"type":1},{"type":"message","content":[1,{"logprobs":5}]},{"type":"reasoning"}]}',
        b'{"output":{}}',
        b"{}",
        b'{"choices":[{"message":{"tool_calls":"x","content":{"a":1},"reasoning":5}}]}',
    ],
)
def test_shapes_of_their_own_have_no_parts_and_break_nothing(body: bytes) -> None:
    assert parts(body)["reasoning"] is None
    assert parts(body)["logprobs"] is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.decode().encode("utf-16"),
        lambda body: body + b"\0</html>",
        lambda body: body.replace(b"hm", b"h\x01m\xff"),
    ],
)
def test_parts_of_a_mended_reply_are_mended(spoil: Callable[[bytes], bytes]) -> None:
    body = spoil(json.dumps(chat({"content": "a", "reasoning_content": "hm", "tool_calls": [CALL]})).encode())
    found = parts(body)
    assert found["reasoning"] in {"hm", "h\x01m\ufffd"}
    assert found["tool_calls"] == [CALL]


def task(api: str = "chat.completions", **more: Any) -> Callable[[bytes], Answer]:
    config = TaskConfig(model="m", prompt="{q}", api=api, **more)  # type: ignore[arg-type]  # a name of one
    return open_task(config, InputConfig(path="in.jsonl"), parts=["reasoning"]).parse


def test_a_task_has_them_with_what_is_an_answer_and_with_what_is_none() -> None:
    kept = b',"reasoning":"hm"'
    schema = {"type": "object", "required": ["a"]}
    good = chat({"content": '{"a":1}', "reasoning_content": "hm"}, finish_reason="stop")
    assert task()(json.dumps(good).encode()).more == kept
    answer = task(schema=schema)(json.dumps(good).encode())
    assert (answer.output, answer.more) == (b'{"a":1}', kept)
    with pytest.raises(InvalidOutput) as invalid:
        task(schema=schema)(json.dumps(chat({"content": "{}", "reasoning_content": "hm"})).encode())
    assert invalid.value.answer.more == kept
    for error, message in (
        (EmptyReply, {"content": None, "reasoning_content": "hm"}),
        (Declined, {"content": None, "refusal": "no", "reasoning_content": "hm"}),
    ):
        with pytest.raises(error) as caught:
            task()(json.dumps(chat(message, finish_reason="stop")).encode())
        assert caught.value.more == kept  # type: ignore[attr-defined]  # of both


def test_a_batch_file_has_them_as_well() -> None:
    config = TaskConfig(api="responses")
    opened = open_task(config, InputConfig(path="in.jsonl"), input_format="batch", parts=["reasoning"])
    items = [{"type": "reasoning", "summary": [{"text": "hm"}]}, {"content": [{"type": "output_text", "text": "a"}]}]
    answer = opened.parse(json.dumps({"output": items}).encode())
    assert (answer.output, answer.more) == (b'"a"', b',"reasoning":"hm"')
