"""Requests in the form that a server wants, and its replies as if it had been asked as usual."""

import json
from typing import Any, get_args

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import BadReply
from rowmill.core.request_form import USUAL, RequestForm, SchemaForm
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task
from rowmill.tasks.forms import TOOL, RequestFormer, former

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CHAT = TaskConfig(model="m", prompt="{a}", schema=SCHEMA, params={"max_tokens": 5})
RESPONSES = TaskConfig(model="m", prompt="{a}", schema=SCHEMA, api="responses", params={"text": {"verbosity": "low"}})
PLAIN = TaskConfig(model="m", prompt="{a}")
LINE = b'{"a":"say \\"stream\\" and \\"response_format\\""}'
ASKED = 'say "stream" and "response_format"'


def opened(config: TaskConfig) -> Task:
    return open_task(config, InputConfig(path="in.jsonl"))


def formed(config: TaskConfig, form: RequestForm, line: bytes = LINE) -> dict[str, Any]:
    task = opened(config)
    body: dict[str, Any] = json.loads(RequestFormer(config, form).form(task.pack([task.build(line)]).body))
    return body


def test_a_usual_form_needs_nobody() -> None:
    assert former(CHAT, USUAL) is None
    assert former(CHAT, RequestForm(stream=True)) is not None


def test_a_stream_is_asked_for_beside_all_else_and_for_its_usage_where_the_api_has_that() -> None:
    whole = json.loads(opened(CHAT).build(LINE).body)
    usage = {"stream_options": {"include_usage": True}}
    assert formed(CHAT, RequestForm(stream=True)) == {**whole, "stream": True, **usage}
    assert formed(CHAT, RequestForm(stream=True, usage=False)) == {**whole, "stream": True}
    whole = json.loads(opened(RESPONSES).build(LINE).body)
    assert formed(RESPONSES, RequestForm(stream=True)) == {**whole, "stream": True}


def test_members_of_a_batch_files_line_are_not_there_twice() -> None:
    body = RequestFormer(PLAIN, RequestForm(stream=True)).form(b' { "stream": false, "n":2, "messages":[] } \n')
    assert body == b'{"n":2,"messages":[],"stream":true,"stream_options":{"include_usage":true}}'


def test_a_schema_is_asked_for_by_an_object_with_the_schema_in_words() -> None:
    body = formed(CHAT, RequestForm(schema="json_object"))
    assert body["response_format"] == {"type": "json_object"}
    (message,) = body["messages"]
    assert message["content"].startswith(f"{ASKED}\n\nReply with one JSON object")
    assert message["content"].endswith(json.dumps(SCHEMA, separators=(",", ":")))
    body = formed(RESPONSES, RequestForm(schema="json_object"))
    assert body["text"] == {"verbosity": "low", "format": {"type": "json_object"}}
    assert "JSON Schema" in json.dumps(body["input"])


def test_a_schema_is_asked_for_by_the_call_of_a_tool() -> None:
    body = formed(CHAT, RequestForm(schema="tool"))
    assert "response_format" not in body
    (tool,) = body["tools"]
    assert (tool["function"]["name"], tool["function"]["parameters"]) == (TOOL, SCHEMA)
    assert body["tool_choice"] == {"type": "function", "function": {"name": TOOL}}
    assert body["messages"] == [{"role": "user", "content": ASKED}]
    body = formed(RESPONSES, RequestForm(schema="tool"))
    assert body["text"] == {"verbosity": "low"}
    assert (body["tools"][0]["name"], body["tool_choice"]) == (TOOL, {"type": "function", "name": TOOL})


def test_beside_tools_of_the_runs_own_and_at_last_it_is_asked_for_in_words_alone() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    mine = TaskConfig(model="m", prompt="{a}", schema=SCHEMA, params={"tools": tools})
    for config, schema in ((mine, "tool"), (CHAT, "prompt")):
        body = formed(config, RequestForm(schema=schema))  # type: ignore[arg-type]  # one of them
        assert "response_format" not in body
        assert body.get("tools") in (tools, None)
        assert "tool_choice" not in body
        assert "JSON Schema" in body["messages"][0]["content"]
    assert "text" in formed(RESPONSES, RequestForm(schema="prompt"))


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], 0),
        (
            [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
            2,
        ),
        ([{"role": "user", "content": [{"type": "text", "text": "u"}]}], 0),
        ([{"role": "assistant", "content": "2"}], 1),
        ([{"role": "user", "content": None}], 0),
    ],
)
def test_words_stand_where_every_model_reads_them(messages: list[Any], place: int) -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    asked = json.dumps({"model": "m", "response_format": format_, "messages": messages}).encode()
    body = json.loads(RequestFormer(CHAT, RequestForm(schema="prompt")).form(asked))
    found = [number for number, each in enumerate(body["messages"]) if "JSON Schema" in json.dumps(each)]
    assert found == [place]
    assert [each["role"] for each in body["messages"]][: len(messages)] == [each["role"] for each in messages]


def test_a_format_without_a_schema_stays() -> None:
    asked = b'{"response_format":{"type":"json_object"},"messages":[]}'
    for schema in get_args(SchemaForm)[1:]:
        assert RequestFormer(CHAT, RequestForm(schema=schema)).form(asked) == asked


def test_packs_are_asked_for_in_the_same_ways() -> None:
    config = TaskConfig(model="m", prompt="{a}", rows_per_request=2)
    task = opened(config)
    pack = task.pack([task.build(b'{"a":"x"}'), task.build(b'{"a":"y"}')])
    body = json.loads(RequestFormer(config, RequestForm(schema="json_object")).form(pack.body))
    assert body["response_format"] == {"type": "json_object"}
    assert '"answers"' in body["messages"][0]["content"]


def test_the_arguments_of_the_call_are_the_reply() -> None:
    function = {"name": TOOL, "arguments": '{"n":1}'}
    call = {"id": "c", "type": "function", "function": function}
    choice = {"message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    reply = {"model": "m", "choices": [choice, choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    read = RequestFormer(CHAT, RequestForm(schema="tool")).read
    answer = opened(CHAT).parse(read(json.dumps({**reply, "choices": [choice]}).encode()))
    assert (answer.output, answer.finish_reason, answer.prompt_tokens) == (b'{"n":1}', b'"stop"', 3)
    both = json.loads(read(json.dumps(reply).encode()))
    assert [each["message"]["content"] for each in both["choices"]] == ['{"n":1}'] * 2
    item = {"type": "function_call", "call_id": "c", **function}
    response = {"object": "response", "status": "completed", "model": "m", "output": [{"type": "reasoning"}, item]}
    answer = opened(RESPONSES).parse(
        RequestFormer(RESPONSES, RequestForm(schema="tool")).read(json.dumps(response).encode())
    )
    assert answer.output == b'{"n":1}'
    text = b'{"choices":[{"message":{"content":"{\\"n\\":2}"}}]}'
    assert read(text) is text


def test_a_stream_is_read_as_the_reply_that_it_holds() -> None:
    """For as many choices as were asked for."""
    config = TaskConfig(model="m", prompt="{a}", params={"n": 2})
    read = RequestFormer(config, RequestForm(stream=True)).read

    def event(index: int, text: str) -> bytes:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": "stop"}
        return b"data: %b\n\n" % json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode()

    answer = opened(config).parse(read(event(0, "a") + event(1, "b")))
    assert answer.output == b'["a","b"]'
    with pytest.raises(BadReply, match="ends before the reply does"):
        read(event(0, "a"))
    assert json.loads(read(event(0, "a") + b"data: [DONE]\n\n"))["choices"][0]["message"]["content"] == "a"
    whole = b'{"choices":[{"message":{"content":"a"}}]}'
    assert read(whole) is whole
    assert read(b"<html>") == b"<html>"
