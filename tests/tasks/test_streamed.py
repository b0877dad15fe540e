"""Replies that came as a stream of events, asked for or not."""

import json
from typing import Any

import pytest

from rowmill.core.errors import BadReply
from rowmill.tasks.chat import parse
from rowmill.tasks.completions import Completions
from rowmill.tasks.replies import paid, whole
from rowmill.tasks.responses import Responses
from rowmill.tasks.streamed import whole_reply


def events(*made: Any, done: bool = True, between: str = "\n\n") -> bytes:
    lines = [f"data: {json.dumps(each)}" for each in made] + ["data: [DONE]"] * done
    return (between.join(lines) + between).encode()


def part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def delta(finish_reason: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": members, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], "usage": None}


USAGE = {"id": "c", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
TEXT = (delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"), delta("stop"), USAGE)


@pytest.mark.parametrize(
    "body",
    [
        events(*TEXT),
        events(*TEXT, done=False),
        events(*TEXT, between="\r\n\r\n"),
        events(*TEXT, between="\n"),
        b": OPENROUTER PROCESSING\n\n" + events(*TEXT),
        b"event: message\nid: 5\nretry: 10\n" + events(*TEXT),
        b"\xef\xbb\xbf" + events(*TEXT),
        events(*TEXT).rstrip(),
        events(*TEXT).replace(b"data: ", b"data:"),
        events(*TEXT, between="\r\r"),
        events(*TEXT).replace(b"data: ", b" data: "),
        b"data: ping\n\nevent: ping\ndata: {}\n\ndata:\n\n" + events(*TEXT),
        b"data: ping\n" + events(*TEXT, between="\n"),
        events(*TEXT, done=False) + b'data: "[DONE]"\n\n',
        events(*TEXT[:4]) + events(TEXT[4], done=False),
        events(*TEXT) + events(delta("length", content="!"), done=False) + b"data: {",
        events(*TEXT[:3], {**delta("stop"), "x_groq": {"usage": USAGE["usage"]}}),
        events(*({**each, "usage": {"prompt_tokens": 3, "completion_tokens": 1}} for each in TEXT[:4]), USAGE),
        events({"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]}, *TEXT),
        events(
            *(json.loads(json.dumps(each).replace('"finish_reason": null', '"finish_reason": ""')) for each in TEXT)
        ),
        events(*TEXT[:4], delta(""), USAGE, done=False),
        events(*(json.loads(json.dumps(each).replace('"index": 0', '"index": null')) for each in TEXT)),
        events(
            delta(role="assistant", content=""), *(delta(content=[part(each)]) for each in ("Hé", "llo")), *TEXT[3:]
        ),
        events(delta(content="Hé"), delta(content=[part("llo")]), *TEXT[3:]),
        events(delta(content=[part("Hé")]), delta(content="llo"), *TEXT[3:]),
        events(delta(role="assistant", content="Hé", reasoning_content="so"), *TEXT[2:]),
        b"".join(b"data: %b\n" % line for line in json.dumps(TEXT[1], indent=1).encode().split(b"\n"))
        + events(*TEXT[2:]),
        events(*TEXT[:4], {**USAGE, "obfuscation": "abc"}),
    ],
)
def test_the_pieces_of_a_text_are_one_reply(body: bytes) -> None:
    answer = parse(body)
    assert json.loads(answer.output) == "Héllo"
    assert (answer.finish_reason, answer.model) == (b'"stop"', b'"m"')
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert paid(body).prompt_tokens == 3
    kept = json.loads(whole(parse)(body).output)
    message = kept["choices"][0]["message"]
    if isinstance(message["content"], str):
        assert message["content"] == "Héllo"
    else:
        assert message["content"] == [part("Héllo")]
    assert message.get("role", "assistant") == "assistant"
    assert "obfuscation" not in kept


def test_calls_come_in_pieces_by_their_index_and_choices_by_theirs() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        more = {"id": f"c{index}", "type": "function"} if "name" in function else {}
        return {"index": index, **more, "function": function}

    body = events(
        delta(tool_calls=[call(0, name="f", arguments="")]),
        delta(tool_calls=[call(0, arguments='{"a"')]),
        delta(tool_calls=[call(1, name="g", arguments="{}")]),
        delta(tool_calls=[call(0, arguments=":1}")]),
        delta("tool_calls"),
    )
    assert [each["function"] for each in json.loads(parse(body).output)] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    several = events(delta(index=1, content="b"), delta(content="a"), delta("stop"), delta("stop", index=1))
    assert parse(several).output == b'["a","b"]'
    many = events(*(delta("stop", index=index, content=str(index)) for index in range(11, -1, -1)))
    assert json.loads(parse(many).output) == [str(index) for index in range(12)]


def call(index: int | None, id_: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**({} if index is None else {"index": index}), **({} if id_ is None else {"id": id_}), "function": function}


@pytest.mark.parametrize(
    "calls",
    [
        [call(0, "a", "f", '{"a":'), call(0, None, None, "1}"), call(2, "b", "g", "{}")],  # a gap
        [call(0, "a", "f", '{"a":1}'), call(0, "b", "g", "{}")],  # Ollama gives each call the number 0
        [call(None, "a", "f", '{"a":1}'), call(None, "b", "g", "{}")],  # Gemini gives none
        [call(None, "a", "f", '{"a"'), call(None, None, None, ":1}"), call(None, "b", "g", "{}")],
        [call(0, "a", "f", '{"a"'), call(0, "a", "f", ":1}"), call(1, "b", "g", "{}")],  # and says it all again
        [call(1, "b", "g", "{}"), call(0, "a", "f", '{"a":1}')],
    ],
)
def test_calls_are_told_apart_however_they_are_numbered(calls: list[dict[str, Any]]) -> None:
    assert json.loads(parse(events(*(delta(tool_calls=[each]) for each in calls), delta("tool_calls"))).output) == [
        {"id": "a", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "b", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_what_is_said_with_every_event_is_said_once_and_thoughts_are_no_answer() -> None:
    """Of the choice as of the message: words that are no texts are not put together."""
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    thought = {"type": "thinking", "thinking": [part("h")]}
    made = [
        delta(role="assistant", content="", reasoning_details=[{"index": 0, "text": "x", "format": "f"}]),
        delta(role="assistant", content=[thought], reasoning_details=[{"index": 0, "text": "y", "format": "f"}]),
        delta(role="assistant", content=[thought]),
        delta(role="assistant", content=[part("a")]),
        delta("stop"),
    ]
    for each in made:
        each["choices"][0]["content_filter_results"] = filtered
    body = events(*json.loads(json.dumps(made)))
    (choice,) = json.loads(whole_reply(body))["choices"]
    assert choice["content_filter_results"] == filtered
    assert choice["message"]["reasoning_details"] == [{"index": 0, "text": "xy", "format": "f"}]
    assert choice["message"]["content"] == [{"type": "thinking", "thinking": [part("hh")]}, part("a")]
    assert parse(body).output == b'"a"'


def test_the_last_event_of_a_response_has_it_all() -> None:
    response = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}], "model": "m"}
    first: dict[str, Any] = {"type": "response.created", "response": {"status": "in_progress", "output": []}}
    last: dict[str, Any] = {"type": "response.completed", "response": {**response, "status": "completed"}}
    text: dict[str, Any] = {"type": "response.output_text.delta", "delta": "a"}
    body = b"".join(
        b"event: %b\n%b" % (each["type"].encode(), events(each, done=False)) for each in (first, text, last)
    )
    assert Responses.parse(body).output == b'"a"'
    with pytest.raises(BadReply, match="a stream of events that ends before the reply does"):
        Responses.parse(events(first, text, done=False))


def test_completions_are_put_together_too() -> None:
    made = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("a", "b")]
    assert Completions.parse(events(*made)).output == b'"ab"'


def test_whole_reply_behind_comments_that_kept_the_connection_alive() -> None:
    body = b': keep-alive\n\n: keep-alive\n\n{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
    assert parse(body).output == b'"a"'


@pytest.mark.parametrize(
    "body",
    [
        events(*TEXT[:3], done=False),
        events(*TEXT)[:-60],
        events({"error": {"message": "overloaded", "code": 503}}),
        events(*TEXT[:2], {"error": {"message": "overloaded", "code": 503}}),
        events(),
        b"data:",
        b": keep-alive\n\n",
        b"data: x\n\n",
        b"data: [1]\n\n",
        b"event: error\n",
        b": keep-alive\n\n{",
    ],
)
def test_a_stream_that_is_not_whole_is_no_reply(body: bytes) -> None:
    with pytest.raises(BadReply, match=r"^no chat completion: |^a stream of events "):
        parse(body)
    assert paid(body).requests == 1


def test_a_response_is_put_together_where_its_last_event_does_not_repeat_it() -> None:
    last = {"type": "response.completed", "response": {"status": "completed", "model": "m", "output": []}}
    pieces: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": each} for each in "ab"
    ]
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    done: list[dict[str, Any]] = [{"type": "response.output_item.done", "output_index": 0, "item": call}]
    found = json.loads(whole_reply(events(*pieces, *done, last)))
    assert [each["type"] for each in found["output"]] == ["function_call", "message"]
    assert found["output"][1]["content"] == [{"type": "output_text", "text": "ab"}]
    refusal: dict[str, Any] = {"type": "response.refusal.delta", "output_index": 0, "delta": "no"}
    assert json.loads(whole_reply(events(refusal, last)))["output"][0]["content"][0]["refusal"] == "no"


@pytest.mark.parametrize(
    "error",
    [
        events({"error": {"message": "overloaded", "code": 503}}),
        b'event: error\ndata: {"message": "overloaded", "code": 503}\n\n',
        b"event: error\ndata: overloaded\n\n",
        events({"type": "error", "code": "x", "message": "overloaded"}),
        events({"object": "error", "message": "overloaded", "code": 503}),
        events({"error": "overloaded", "error_type": "generation"}),
        b'error: {"code": 503, "message": "overloaded"}\n\n',
        b"error: overloaded\n\n",
        events({"choices": [{"index": 0, "error": {"message": "overloaded"}, "finish_reason": "error"}]}),
    ],
)
def test_an_error_in_mid_stream_is_the_reply(error: bytes) -> None:
    for before in (b"", events(*TEXT[:2], done=False), events(*TEXT[:4], done=False)):
        found = json.loads(whole_reply(before + error))
        assert "choices" not in found
        assert "overloaded" in json.dumps(found["error"])


def test_an_error_without_a_word_is_none_and_a_chunk_becomes_a_completion() -> None:
    body = events(*({**each, "error": {"code": 0, "message": ""}} for each in TEXT))
    reply = json.loads(whole_reply(body))
    assert (reply["object"], reply["choices"][0]["message"]["content"]) == ("chat.completion", "Héllo")
    assert "Héllo".encode() in whole_reply(body)  # as a whole reply would have it


def test_half_a_surrogate_pair_and_a_text_of_many_pieces_are_read() -> None:
    broken = events(*TEXT[:2]).replace(b"\\u00e9", b"\\ud83d")
    assert json.loads(whole_reply(broken))["choices"][0]["message"]["content"] == "H\ufffd"
    long = events(*(delta(content="word ") for _ in range(3000)), delta("stop"))
    assert json.loads(whole_reply(long))["choices"][0]["message"]["content"] == "word " * 3000
