"""Structured replies: what fits the schema is the output, everything else says what is wrong and is asked again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, ConfigError, Declined, InvalidOutput
from rowmill.core.wire import Answer, Request
from rowmill.tasks import Task
from rowmill.tasks.api import OWN_MODEL
from rowmill.tasks.chat import Chat
from rowmill.tasks.plain import PlainTask
from rowmill.tasks.responses import Responses
from rowmill.tasks.schema import text_format
from rowmill.tasks.structured import StructuredTask, with_format

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
    "required": ["name", "price"],
    "additionalProperties": False,
}
CONFIG = TaskConfig(model="m", prompt="{text}", system="Be brief.", schema=SCHEMA, params={"temperature": 0})
ROW = b'{"text":"a \\"quoted\\" \\u00e9"}'


def structured(config: TaskConfig = CONFIG) -> StructuredTask:
    assert isinstance(config.schema, dict)
    return StructuredTask(PlainTask(Chat(), with_format(config), None), config.schema)


TASK = structured()


def reply(content: Any, finish_reason: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"content": content, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    return json.dumps({"model": "m-1", "choices": [choice], "usage": usage}).encode()


def invalid(content: Any, finish_reason: str = "stop") -> InvalidOutput:
    with pytest.raises(InvalidOutput) as error:
        TASK.parse(reply(content, finish_reason))
    return error.value


def test_each_of_several_choices_must_fit() -> None:
    def choices(*contents: Any) -> bytes:
        made = [{"message": {"content": content}, "finish_reason": "stop"} for content in contents]
        return json.dumps({"choices": made}).encode()

    good, fenced = '{"name":"a","price":1}', '```json\n{"name":"b", "price":2}\n```'
    assert TASK.parse(choices(good, fenced)).output == b'[{"name":"a","price":1},{"name":"b","price":2}]'
    for wrong, shown in (("{}", "{}"), (None, "null"), ("no", "no")):
        with pytest.raises(InvalidOutput) as error:
            TASK.parse(choices(good, wrong, fenced))
        assert json.loads(error.value.answer.output) == shown
    three = structured(msgspec.structs.replace(CONFIG, params={"n": 3}))
    assert three.parse(reply(good)).output == b'[{"name":"a","price":1}]'  # one is all that came


# Requests


def test_the_request_asks_for_the_schema_and_the_rows_own_parameters() -> None:
    task: Task = TASK
    body = json.loads(task.build(ROW).body)
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": SCHEMA}
    assert body["temperature"] == 0
    assert body["messages"][-1]["content"] == 'a "quoted" é'
    assert json.loads(task.asking("other")(task.build(ROW).body)) == {**body, "model": "other"}


def test_a_format_beside_the_schema_and_an_api_without_one_are_refused() -> None:
    for changes, message in (
        (
            {"params": {"response_format": {"type": "text"}}},
            r"^task\.params\.response_format: is made from task\.schema",
        ),
        ({"api": "responses", "params": {"text": {"format": {}}}}, r"^task\.params\.text\.format: is made from"),
        ({"api": "responses", "params": {"text": "short"}}, r"^task\.params\.text: must be a table"),
        ({"api": "embeddings"}, r'^task\.schema: needs task\.api "chat\.completions" or "responses", not "embeddings"'),
    ):
        with pytest.raises(ConfigError, match=message):
            with_format(msgspec.structs.replace(CONFIG, **changes))


def test_the_format_of_the_responses_api_keeps_what_stands_beside_it() -> None:
    config = msgspec.structs.replace(CONFIG, api="responses", params={"text": {"verbosity": "low"}})
    assert with_format(config).params["text"] == {"verbosity": "low", "format": text_format(SCHEMA)}
    assert config.params == {"text": {"verbosity": "low"}}


# Replies


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ('{"name":"x","price":1.50}', b'{"name":"x","price":1.50}'),
        (' {"price": 1e2, "name": "x\\ny"} ', b'{"price": 1e2, "name": "x\\ny"}'),
        ('{\r\n  "name": "a\\u00e9 é",\n  "price": 12345678901234567890.5\n}\n', None),
        ('{"name":"x",\r"price":1}', b'{"name":"x","price":1}'),
        ('```json\n{"name":"x","price":1}\n```', b'{"name":"x","price":1}'),
        ('```\n{"name":"```","price":1}```\n', b'{"name":"```","price":1}'),
        ('Here it is: {"name":"x","price":1}', b'{"name":"x","price":1}'),
        ('{"name":"x","price":1} I hope this helps.', b'{"name":"x","price":1}'),
        ('Here:\n```json\n{"name":"x","price":1}\n```', b'{"name":"x","price":1}'),
        ('```json\n{"name":"x","price":1}\n```\nDone.', b'{"name":"x","price":1}'),
        ('```json {"name":"x","price":1}```', b'{"name":"x","price":1}'),
        ('<think>\nIs it {"name":"y"}?\n</think>\n\n{"name":"x","price":1}', b'{"name":"x","price":1}'),
        ('hm, so {"a":\n</think>```json\n{"name":"x","price":1}\n```', b'{"name":"x","price":1}'),
        ('As [1] says, {x} is {"name":"x","price":1}, see [2] or {}.', b'{"name":"x","price":1}'),
        ('{"name":"x","price":1}\n{"name":"x","price":1}', b'{"name":"x","price":1}'),
        ('{"name":"a\nb\x00","price":1}', b'{"name":"a\\nb\\u0000","price":1}'),
        ('\ufeff{"name":"\\ud800","price":1}', b'{"name":"\\ufffd","price":1}'),
        ('{"name":"NaN","price":1,"n":NaN}'.replace(',"n":NaN', ""), b'{"name":"NaN","price":1}'),
        ('```JSON \r\n{\n"name":"x","price":1}\r\n```  ', b'{"name":"x","price":1}'),
    ],
)
def test_the_output_is_the_json_that_the_model_wrote_on_one_line(content: str, output: bytes | None) -> None:
    answer = TASK.parse(reply(content))
    assert answer == Answer(answer.output, b'"stop"', b'"m-1"', answer.usage, 9, 4)
    assert b"\n" not in answer.output
    assert b"\r" not in answer.output
    expected = '{"name":"a\\u00e9 é","price":12345678901234567890.5}'.encode() if output is None else output
    assert answer.output == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("Sure!", "the reply is no JSON: "),
        (
            'It is {"name":"x","price":1} or {"name":"x","price":2}.',
            "the reply is no JSON: it has 2 values that differ",
        ),
        ('Well: {"more":{"name":"x","price":1},"cut', "the reply is no JSON: "),
        ('Well: [{"name":"x","price":1},', "the reply is no JSON: "),
        ("<think>hm</think>", "the reply is only reasoning"),
        ("```json\n```", "the reply is empty"),
        ('{"name":"x","price":', "the reply is no JSON: "),
        ('{"name":"x","price":1e999}', "the reply is no JSON: "),
        ('{"name":"x","price":NaN}', '/price: null is not of type "number"'),
        ("[" * 100_000, "the reply is no JSON: "),
        ('{"name":"x","price":"1"}', '/price: "1" is not of type "number"'),
        ('{"name":"x"}', '"price" is a required property'),
        ('{"name":"x","price":1,"more":1}', "Additional properties are not allowed ('more' was unexpected)"),
        ("[]", '[] is not of type "object"'),
        ("null", 'null is not of type "object"'),
        ('"text"', '"text" is not of type "object"'),
    ],
)
def test_a_reply_that_does_not_fit_says_why_and_keeps_its_text(content: str, problem: str) -> None:
    error = invalid(content)
    assert str(error).startswith(problem)
    assert len(str(error)) <= 600
    assert json.loads(error.answer.output) == content
    assert (error.answer.prompt_tokens, error.answer.completion_tokens) == (9, 4)


def test_a_reply_that_was_cut_off_says_so_and_a_whole_one_does_not_care() -> None:
    assert str(invalid('{"name":"x', "length")).startswith(
        'the reply was cut off at its token limit (finish_reason "length"): the reply is no JSON: '
    )
    assert str(invalid(None, "length")).endswith("the reply is empty")
    assert TASK.parse(reply('{"name":"x","price":1}', "length")).output == b'{"name":"x","price":1}'


def test_refusals_and_bad_replies_are_what_they_are_without_a_schema() -> None:
    with pytest.raises(Declined, match=r"^I cannot$"):
        TASK.parse(reply(None, refusal="I cannot"))
    with pytest.raises(Declined, match="content filter"):
        TASK.parse(reply('{"name":"x', "content_filter"))
    with pytest.raises(BadReply):
        TASK.parse(b"{}")


def test_a_content_that_the_server_has_read_already_is_taken() -> None:
    assert TASK.parse(reply({"name": "x", "price": 1})).output == b'{"name": "x", "price": 1}'
    assert str(invalid({"name": "x"})) == '"price" is a required property'
    assert json.loads(invalid({"name": "x"}).answer.output) == '{"name": "x"}'
    assert json.loads(invalid({"text": "x", "price": 1}).answer.output) == '{"text": "x", "price": 1}'


def test_calls_of_tools_are_no_structured_reply() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    with pytest.raises(InvalidOutput, match="the reply is no text") as error:
        TASK.parse(reply(None, "tool_calls", tool_calls=calls))
    assert json.loads(json.loads(error.value.answer.output)) == calls


def test_unpack_reads_the_one_row_whether_or_not_it_fits() -> None:
    good, bad = reply('{"name":"x","price":1}'), reply("no")
    assert TASK.unpack(good, 1) == [TASK.parse(good)]
    (error,) = TASK.unpack(bad, 1)
    assert isinstance(error, InvalidOutput)
    request = TASK.build(ROW)
    assert TASK.pack([request]) is request


@given(st.text(max_size=20) | st.sampled_from(['{"name":"é","price":1}', "```json\n{}\n```"]), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
@example("```", 9)
@example("```\n```", 9)
@example("``````", 9)
def test_any_content_is_valid_json_of_the_schema_or_is_asked_again(content: str, cut: int) -> None:
    try:
        answer = TASK.parse(reply(content[:cut]))
    except InvalidOutput as error:
        assert json.loads(error.answer.output) == content[:cut]  # noqa: PT017 - either end is right
    else:
        assert TASK.schema.problem(json.loads(answer.output)) is None


# Asking again


def test_the_model_sees_its_reply_and_the_problem() -> None:
    request = TASK.build(ROW)
    error = invalid('{"name":"x","price":"1 \\"€\\""}')
    again = TASK.again(request, error)
    first, second = json.loads(request.body), json.loads(again.body)
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2] == {"role": "assistant", "content": '{"name":"x","price":"1 \\"€\\""}'}
    assert second["messages"][3]["role"] == "user"
    assert str(error) in second["messages"][3]["content"]
    assert len(second["messages"]) == 4
    assert {**first, "messages": 0} == {**second, "messages": 0}
    assert again.id == request.id
    assert again.tokens == len(again.body) // 4
    assert json.loads(TASK.asking("other")(again.body)) == {**second, "model": "other"}


def test_only_the_latest_wrong_reply_is_shown_and_a_long_one_in_part() -> None:
    request = TASK.build(ROW)
    once = TASK.again(request, invalid("one"))
    twice = TASK.again(once, invalid("two"))
    assert twice == TASK.again(request, invalid("two"))
    assert once.body != twice.body
    long = json.loads(TASK.again(twice, invalid("x" * 50_000)).body)["messages"][2]["content"]
    assert long == "x" * 8000 + " [...]"


def test_a_reply_without_text_is_not_shown() -> None:
    """Some servers refuse an empty message."""
    request = TASK.build(ROW)
    assert TASK.again(request, invalid("")).body == request.body
    assert TASK.again(TASK.again(request, invalid("one")), invalid(" \n")).body == request.body


@pytest.mark.parametrize(
    "said",
    [
        [("assistant", "a"), ("user", "b")],
        [("assistant", "This reply cannot be used: a"), ("user", "This reply cannot be used: b")],
        [("user", "a"), ("user", "b"), ("user", "This reply cannot be used: c")],
    ],
)
def test_a_conversation_of_the_rows_own_is_not_taken_for_an_earlier_try(said: list[tuple[str, str]]) -> None:
    body = msgspec.json.encode({"messages": [{"role": role, "content": content} for role, content in said]})
    messages = json.loads(TASK.again(Request(body, b"1", 9), invalid("wrong")).body)["messages"]
    assert [(message["role"], message["content"]) for message in messages[:-1]] == [*said, ("assistant", "wrong")]


def test_a_row_that_names_its_own_model_keeps_it() -> None:
    """Such a body begins in a way of its own, by which it is known."""
    body = OWN_MODEL + b'"mine","messages":[{"role":"user","content":"b"}]}'
    assert TASK.again(Request(body, b"1", 9), invalid("c")).body.startswith(OWN_MODEL + b'"mine"')


def test_the_responses_api_is_asked_again_by_its_list_of_inputs() -> None:
    config = msgspec.structs.replace(CONFIG, api="responses")
    task = StructuredTask(PlainTask(Responses(), with_format(config), None), SCHEMA, "input")
    request = task.build(ROW)
    first = json.loads(request.body)
    assert first["text"]["format"]["schema"] == SCHEMA
    content = [{"type": "output_text", "text": '{"name":"x"}', "annotations": []}]
    body = {
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [{"type": "message", "role": "assistant", "status": "completed", "content": content}],
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    }
    with pytest.raises(InvalidOutput, match="required property") as error:
        task.parse(json.dumps(body).encode())
    second = task.again(request, error.value)
    items = json.loads(second.body)["input"]
    asked = first["input"]
    assert items[:-2] == ([{"role": "user", "content": asked}] if isinstance(asked, str) else asked)
    assert items[-2] == {"role": "assistant", "content": '{"name":"x"}'}
    assert task.again(second, error.value) == second
    assert json.loads(task.asking("other")(second.body)) == {**json.loads(second.body), "model": "other"}
    content[0]["text"] = '{"name":"x","price":2}'
    assert task.parse(json.dumps(body).encode()).output == b'{"name":"x","price":2}'


def test_rows_are_read_as_the_task_inside_reads_them() -> None:
    task = StructuredTask(PlainTask(Chat(), with_format(CONFIG), "id"), SCHEMA)
    assert task.columns == ["text", "id"]
    assert task.id_of(b'{"text":"a","id":7}') == b"7"
    assert task.input_of(b' {"a":1}') == b'{"a":1}'
    assert task.rows_per_request == 1
    task.check([b'{"text":"a","id":7}'], "in.jsonl")
