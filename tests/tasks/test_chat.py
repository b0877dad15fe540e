"""The chat task: every line becomes a request or a reason, every reply an answer or a reason, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, ConfigError, Declined, EmptyReply, InputError, InvalidRow
from rowmill.tasks.chat import Chat, parse
from rowmill.tasks.plain import PlainTask
from rowmill.tasks.replies import paid, whole
from rowmill.tasks.rows import input_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["\0", '"\0"', 'x"\0', "\\u0000", '"\\u0000"', "\x1f\x7f\x85\u2028", "{{}}", "</s>", "🙂", "é\r\n"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
parameters = st.dictionaries(texts.filter(lambda key: key not in {"model", "messages"}), values, max_size=4)


def chat(prompt: str = "Say {text}", id_column: str | None = None, **more: Any) -> PlainTask:
    return PlainTask(Chat(), TaskConfig(model=more.pop("model", "m"), prompt=prompt, **more), id_column)


def strict(text: bytes) -> Any:
    """Decode JSON that must be JSON: no NaN, no byte that is not UTF-8."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text.decode(), parse_constant=refuse)


# Requests


@given(row_text=texts.filter(lambda text: text.strip() != ""), system=st.none() | texts, model=texts, params=parameters)
@settings(deadline=None)
@example(row_text="hi", system="\0", model="m", params={})
@example(row_text="hi", system='say "\0', model="m", params={})
@example(row_text="\0", system="s", model="\0", params={"a": "\0", "\0": ["\0"]})
def test_the_body_is_the_request_as_json_whatever_the_texts_hold(
    row_text: str, system: str | None, model: str, params: dict[str, Any]
) -> None:
    task = chat("<{text}>", model=model, system=system, params=params)
    request = task.build(json.dumps({"text": row_text}).encode())
    before = [] if system is None else [{"role": "system", "content": system}]
    assert strict(request.body) == {
        "model": model,
        "messages": [*before, {"role": "user", "content": f"<{row_text}>"}],
        **params,
    }


@given(row=st.dictionaries(st.sampled_from(["text", "id", "other"]), values), ascii_only=st.booleans())
@settings(deadline=None)
def test_any_row_becomes_a_request_or_says_what_it_lacks(row: dict[str, Any], ascii_only: bool) -> None:
    task = chat("{text}", "id")
    line = json.dumps(row, ensure_ascii=ascii_only).encode()
    try:
        request = task.build(line)
    except InvalidRow as error:
        reason = str(error)
    else:
        reason = ""
        prompt = strict(request.body)["messages"][0]["content"]
        value = row["text"]
        assert prompt == value if isinstance(value, str) else strict(prompt.encode()) == value
        assert strict(request.id) == row["id"]
    if reason:
        assert "text" not in row or "id" not in row or not str(row["text"] or "").strip() or "id" in reason


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")))
@settings(deadline=None)
@example(b'{"text":"\\ud800","id":1}')
@example(b'{"text":"\\udc00\\ud800","id":1}')
@example(b'{"text":{"\\ud800":1},"id":"\\ud800"}')
@example(b'{"text":"a","id":1e999}')
@example(b'{"text":"a","id":NaN}')
@example(b'{"text":1e999,"id":1}')
@example(b'{"text":%s,"id":1}' % (b"9" * 5000))
@example(b'{"text":"a","id":%s}' % (b"9" * 5000))
@example(b'{"text":%s%s,"id":1}' % (b"[" * 5000, b"]" * 5000))
@example(b'{"id":1,"x":%s%s,"text":"a"}' % (b"[" * 100_000, b"]" * 100_000))
@example(b"[" * 100_000)
@example(b'{"text":"a","id":1,"x":"\xff"}')
@example(b'{"text":"a\xff","id":1}')
@example(b'{"\xff":1,"text":"a","id":1}')
@example(b'\xef\xbb\xbf{"text":"a","id":1}')
def test_no_line_does_worse_than_an_invalid_row(line: bytes) -> None:
    task = chat("{text}", "id")
    strict(task.id_of(line))
    strict(task.input_of(line))
    try:
        request = task.build(line)
    except InvalidRow:
        return
    strict(request.body)
    strict(request.id)
    assert b"\n" not in request.body + request.id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "the line is blank"),
        (b" \t\r", "the line is blank"),
        (b"[1]", "the line is no JSON object: Expected `object`, got `array`"),
        (b'"text"', "the line is no JSON object: Expected `object`, got `str`"),
        (b'{"text":"a"', "the line is no JSON object: "),
        (b'{"text":"a"} {"text":"b"}', "the line is no JSON object: "),
        (b'{"id":1}', "the row has no column 'text'"),
        (b'{"text":"a"}', "the row has no column 'id'"),
        (b'{"text":null,"id":1}', "the prompt is empty"),
        (b'{"text":" \\n","id":1}', "the prompt is empty"),
        (b'{"text":"a","id":[1]}', "the id in column 'id' is neither text nor a number"),
        (b'{"text":"a","id":{}}', "the id in column 'id' is neither text nor a number"),
    ],
)
def test_a_row_that_cannot_be_asked_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidRow) as error:
        chat("{text}", "id").build(line)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(
    "value", [b'"row \\u00e9"', b"0", b"-1.5", b"null", b"true", b'""', b"123456789012345678901234567890"]
)
def test_an_id_is_passed_on_as_the_value_it_was(value: bytes) -> None:
    task = chat("{text}", "id")
    line = b'{"text":"a","id":%b}' % value
    assert strict(task.build(line).id) == strict(value)
    assert strict(task.id_of(line)) == strict(value)


def test_a_row_without_an_id_column_has_none_and_one_that_cannot_be_read_too() -> None:
    assert chat().build(b'{"text":"a"}').id == b"null"
    assert chat("{text}", "id").id_of(b"no json") == b"null"
    assert chat("{text}", "id").id_of(b'{"text":"a"}') == b"null"
    assert chat("{text}", "id").id_of(b'{"text":"a","id":[]}') == b"null"


def test_a_row_that_lacks_something_else_keeps_its_id() -> None:
    """It is by its id that a person finds the row to put right."""
    assert chat("{text}", "id").id_of(b'{"id":"row 7"}') == b'"row 7"'
    assert chat("{text}", "id").id_of(b'{"id":"row 7","text":""}') == b'"row 7"'


def test_a_prompt_may_have_no_column_and_the_id_may_be_its_column() -> None:
    assert strict(chat("Hello").build(b"{}").body)["messages"][0]["content"] == "Hello"
    request = chat("{text}", "text").build(b'{"text":"a"}')
    assert request.id == b'"a"'


@pytest.mark.parametrize("column", ["a b", "a.b", "a[0]", "é", "0", "type", "__class__", "c0", "c1"])
def test_a_column_may_have_any_name_that_json_has(column: str) -> None:
    task = chat(f"<{{{column}}}>", column)
    request = task.build(json.dumps({column: "x"}).encode())
    assert strict(request.body)["messages"][0]["content"] == "<x>"
    assert request.id == b'"x"'


@pytest.mark.parametrize("column", ['a"b', "a\\b", "a\tb"])
def test_a_column_that_no_decoder_can_name_is_refused_by_its_key(column: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.prompt: column "):
        chat(f"{{{column}}}")
    with pytest.raises(ConfigError, match=r"^input\.id: column "):
        chat("{text}", column)


@given(
    row=st.fixed_dictionaries({"a": values, "b": values, "c": values}), template=st.lists(st.sampled_from("abc%{}\n"))
)
@settings(deadline=None)
def test_rows_of_texts_and_rows_of_other_things_are_rendered_alike(row: dict[str, Any], template: list[str]) -> None:
    """Text columns take a short way of their own: it must not give another prompt."""
    prompt = "".join({"{": "{{", "}": "}}", "%": "%", "\n": "\n"}.get(piece, f"{{{piece}}}") for piece in template)
    body = chat("!" + prompt).build(json.dumps(row).encode()).body
    got = strict(body)["messages"][0]["content"]
    shown = {
        name: value
        if isinstance(value, str)
        else ""
        if value is None
        else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for name, value in row.items()
    }
    assert got == "!" + "".join(shown.get(piece, piece) for piece in template)


def test_a_wrong_template_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^task\.prompt: "):
        chat("{")


@pytest.mark.parametrize(
    ("params", "reply_tokens"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 300, "max_tokens": 100}, 300),
        ({"max_tokens": None, "max_completion_tokens": None}, 0),
        ({"max_tokens": "100"}, 0),
        ({"max_tokens": 100, "n": 3}, 300),
    ],
)
def test_the_estimate_is_the_prompt_and_the_longest_reply(params: dict[str, Any], reply_tokens: int) -> None:
    task = chat(params=params)
    assert 1000 <= task.build(json.dumps({"text": "x" * 4000}).encode()).tokens <= 1060
    assert task.reply_tokens == reply_tokens


def test_another_model_is_asked_the_same() -> None:
    task = chat(system="Be brief.", params={"temperature": 0, "top_p": 1})
    request = task.build(b'{"text":"a \\"quoted\\" \\u00e9"}')
    mine, other = (json.loads(body) for body in (request.body, task.asking("a/longer-name")(request.body)))
    assert other == {**mine, "model": "a/longer-name"}
    assert list(other) == list(mine)


def test_a_byte_order_mark_before_a_row_is_passed_over() -> None:
    line = b'\xef\xbb\xbf{"text":"a","id":7}'  # as in the middle of files that were put together
    assert (
        json.loads(chat().build(line).body)["messages"][-1]["content"]
        == json.loads(chat().build(line[3:]).body)["messages"][-1]["content"]
    )
    assert chat().build(line).id == chat().build(line[3:]).id
    with pytest.raises(InvalidRow, match="no JSON object"):
        chat().build(line[:3] + b"x" + line)


def test_the_line_for_the_output_is_the_rows_own_json_or_null() -> None:
    assert input_of(b' {"b":1, "a":1.50}\r') == b'{"b":1, "a":1.50}'
    assert input_of(b'\xef\xbb\xbf\xef\xbb\xbf{"b":NaN}') == b'{"b":null}'
    assert input_of(b"not json") == b"null"
    assert input_of(b"\xff") == b"null"
    assert input_of(b"") == b"null"


# The first rows against the configuration


def test_a_column_that_no_row_has_is_refused_with_the_ones_there_are() -> None:
    rows = [b'{"title":"a","body":"b"}\n', b'{"title":"c"}\n']
    with pytest.raises(InputError, match=r"in\.jsonl: no column 'text', which task\.prompt names; .* title, body"):
        chat("{text}").check(rows, "in.jsonl")
    with pytest.raises(InputError, match=r"no column 'id', which input\.id names"):
        chat("{title}", "id").check(rows, "in.jsonl")
    with pytest.raises(InputError, match=r"no column 'id', which task\.prompt names"):
        chat("{id}", "id").check(rows, "in.jsonl")


def test_a_column_that_some_row_has_is_enough_and_broken_rows_prove_nothing() -> None:
    chat("{body}").check([b'{"title":"a"}', b'{"body":"b"}'], "in.jsonl")
    chat("{text}").check([b"", b"no json", b"[1]", b"\xff", b"[" * 100_000], "in.jsonl")
    chat("{text}").check([], "in.jsonl")


# Replies

OPENAI = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x-2026",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'Hé \U0001f642 "q"\n', "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": None,
}


def reply(content: Any = None, finish_reason: Any = "stop", usage: Any = None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"content": content, **message}, "finish_reason": finish_reason}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_openai_reply_is_read(indent: int | None, ascii_only: bool) -> None:
    answer = parse(json.dumps(OPENAI, indent=indent, ensure_ascii=ascii_only).encode())
    assert strict(answer.output) == 'Hé \U0001f642 "q"\n'
    assert strict(answer.finish_reason) == "stop"
    assert strict(answer.model) == "gpt-x-2026"
    assert strict(answer.usage) == OPENAI["usage"]
    assert (answer.prompt_tokens, answer.completion_tokens) == (9, 4)


def test_a_vllm_reply_with_nulls_in_every_optional_place_is_read() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "text",
        "refusal": None,
        "tool_calls": [],
        "reasoning_content": None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    usage = {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}
    body = {
        "id": "x",
        "model": "q",
        "choices": [choice],
        "usage": usage,
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }
    answer = parse(json.dumps(body).encode())
    assert strict(answer.output) == "text"
    assert answer.completion_tokens == 2


def test_a_bare_reply_of_a_small_server_is_read() -> None:
    answer = parse(b'{"choices":[{"message":{"content":""}}]}')
    assert [strict(part) for part in (answer.output, answer.finish_reason, answer.model, answer.usage)] == [
        "",
        None,
        None,
        None,
    ]
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 0)


def test_tool_calls_are_the_output_where_there_is_no_text() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert strict(parse(reply(tool_calls=calls, finish_reason="tool_calls")).output) == calls
    assert strict(parse(reply("", tool_calls=calls)).output) == calls


def test_tool_calls_and_what_else_a_message_has_stand_beside_its_text() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert strict(parse(reply("text", tool_calls=calls)).output) == {"content": "text", "tool_calls": calls}
    call = {"name": "f", "arguments": "{}"}
    assert strict(parse(reply(function_call=call)).output) == {"content": None, "function_call": call}
    assert strict(parse(reply("a", function_call=call)).output) == {"content": "a", "function_call": call}
    audio = {"id": "a", "transcript": "hm", "data": "AA=="}
    assert strict(parse(reply(audio=audio)).output) == {"content": None, "audio": audio}
    assert strict(parse(reply("a", images=[{"image_url": {"url": "u"}}])).output)["images"] == [
        {"image_url": {"url": "u"}}
    ]
    nothing: Any
    for nothing in ([], None, {}):
        assert strict(parse(reply("text", tool_calls=nothing, function_call=nothing)).output) == "text"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "é"}], "aé"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "a"}], "a"),
        (["a", "b"], "ab"),
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], "a"),
    ],
)
def test_parts_are_reduced_to_their_text(content: Any, text: str) -> None:
    assert strict(parse(reply(content)).output) == text


def test_parts_that_no_text_stands_for_are_kept_as_they_are() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]
    assert strict(parse(reply(parts)).output) == parts


def test_a_reply_without_an_answer_is_told_from_a_bad_one_and_keeps_its_reasoning() -> None:
    with pytest.raises(EmptyReply, match=r"^a chat completion without content: only reasoning, of 2 char") as error:
        parse(reply(reasoning_content="hm"))
    assert error.value.rest == b'"hm"'
    for message in (
        {"reasoning": "hm"},
        {"content": "", "reasoning_content": "hm"},
        {"content": [{"type": "thinking", "thinking": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
    ):
        with pytest.raises(EmptyReply, match="only reasoning, of 2 char"):
            parse(reply(**message))
    with pytest.raises(EmptyReply, match=r"^a chat completion without content$"):
        parse(b'{"choices":[{"index":0,"finish_reason":"stop"}]}')


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "content-filter"])
@pytest.mark.parametrize("message", ['"message":null,', "", '"message":{},', '"message":{"content":""},'])
def test_a_reply_that_a_filter_has_held_back_is_a_result_that_says_so(reason: str, message: str) -> None:
    answer = parse(f'{{"choices":[{{"index":0,{message}"finish_reason":"{reason}"}}]}}'.encode())
    assert (answer.output, answer.finish_reason) == (b'""', b'"content_filter"')


def test_a_prompt_that_a_filter_has_held_back_has_no_choices() -> None:
    azure = {"prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": True}}}], "choices": []}
    assert parse(json.dumps(azure).encode()).finish_reason == b'"content_filter"'


def test_the_output_of_several_choices_is_the_list_of_all() -> None:
    def listed(*messages: Any) -> Any:
        choices = [{"message": message, "finish_reason": "stop"} for message in messages]
        return json.loads(parse(json.dumps({"choices": choices}).encode()).output)

    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    a, b, no = {"content": "a"}, {"content": "b"}, {"refusal": "no"}
    assert listed(a, b) == ["a", "b"]
    assert listed(a, {"content": None}, b) == ["a", None, "b"]
    assert listed(a, b, no) == ["a", "b", {"content": None, "refusal": "no"}]
    for places, texts in (((1, 0), ["b", "a"]), ((0, 0), ["a", "b"]), ((1, None), ["a", "b"])):
        turned = [{"index": index, "message": message} for index, message in zip(places, (a, b), strict=True)]
        assert json.loads(parse(json.dumps({"choices": turned}).encode()).output) == texts
    assert listed(a, {"content": None, "tool_calls": calls}) == ["a", calls]
    assert listed({"content": "a", "tool_calls": calls}, b) == [{"content": "a", "tool_calls": calls}, "b"]
    held_back = [{"message": None, "finish_reason": "content_filter"}, {"message": b, "finish_reason": "stop"}]
    answer = parse(json.dumps({"choices": held_back}).encode())
    assert (answer.output, answer.finish_reason) == (b'["","b"]', b'"content_filter"')
    with pytest.raises(Declined, match=r"^no$"):
        listed(no, {"refusal": "never"})
    with pytest.raises(EmptyReply):
        listed({"content": None}, {"content": None})


def test_a_refusal_beside_a_text_stands_beside_it() -> None:
    assert json.loads(parse(reply(content="a", refusal="no")).output) == {"content": "a", "refusal": "no"}
    nothing: tuple[Any, ...] = (None, "", {}, [])
    for none in nothing:
        assert json.loads(parse(reply(content="a", refusal=none)).output) == "a"


def test_the_first_choice_that_has_an_answer_is_the_output() -> None:
    choices = [{"message": {"content": None}, "finish_reason": "stop"}, {"message": {"content": "b"}}]
    assert parse(json.dumps({"choices": choices}).encode()).output == b'"b"'


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'\xef\xbb\xbf{"choices":[{"message":{"content":"a"}}]}', "a"),
        (b'{"choices":[{"message":{"content":"a\xffb"}}]}', "a\ufffdb"),
        (b'{"choices":[{"message":{"content":"a\nb\x00\x1f"}}]}', "a\nb\x00\x1f"),
        (b'{"choices":[{"message":{"content":"a"},"logprobs":{"x":[NaN,-Infinity]}}],"usage":{"cost":NaN}}', "a"),
        (b'{"choices":[{"message":{"content":"NaN \\" Infinity"},"x":NaN}]}', 'NaN " Infinity'),
        *(
            ('{"choices":[{"message":{"content":"é"}}]}'.encode(coding), "é")
            for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")
        ),
        *(
            (b'{"choices":[{"message":{"content":"a"}}]}' + behind, "a")
            for behind in (b"\0", b"\0\0\n", b"\n{}", b"</html>", b"\r\n0\r\n\r\n", b"data: [DONE]", b"}")
        ),
        (b'\n\n {"choices":[{"message":{"content":"a"}}],"usage":null,"usage":null}\n', "a"),
        (b'{"choices":[],"choices":[{"message":{"content":"a","content":"b"}}]}', "b"),
        (b'{"choices":[{"message":{"content":"a\\q\\u12"}}]}', "a\\q\\u12"),
        (b'{"choices":[{"message":{"content":"\\ud83d\\ude42","note":"\xff"}}]}', "\U0001f642"),
    ],
)
def test_a_whole_reply_with_a_few_broken_bytes_is_read(body: bytes, output: str) -> None:
    assert strict(parse(body).output) == output


@pytest.mark.parametrize("begin", [b"\xef\xbb\xbf", b": keep-alive\n\n", b"", b"\n"])
def test_a_mended_reply_is_kept_whole_as_what_it_was_mended_to(begin: bytes) -> None:
    body = b'{"choices":[{"message":{"content":"a","x":NaN}}],"usage":{"prompt_tokens":3}}'
    assert paid(begin + body + b"\0").prompt_tokens == 3
    kept = json.loads(whole(parse)(begin + body + b"\0").output)
    assert kept == {"choices": [{"message": {"content": "a", "x": None}}], "usage": {"prompt_tokens": 3}}
    declined = whole(parse)(begin + b'{"choices":[{"message":{"content":null,"refusal":"no\x01"}}]}')
    assert json.loads(declined.output)["choices"][0]["message"]["refusal"] == "no\x01"


def test_what_an_error_stands_behind_is_no_reply() -> None:
    with pytest.raises(BadReply):
        parse(b'{"choices":[{"message":{"content":"a"}}]}{"error":{"message":"overloaded"}}')


def test_a_refusal_is_told_in_the_models_words() -> None:
    with pytest.raises(Declined, match=r"^I cannot help with that$"):
        parse(reply(refusal="I cannot help with that"))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_reply_cut_before_its_first_word_is_a_result(reason: str) -> None:
    answer = parse(reply(finish_reason=reason))
    assert strict(answer.output) == ""
    assert strict(answer.finish_reason) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the reply is empty"),
        (json.dumps(OPENAI).encode()[:200], "no chat completion: "),
        (b"<html><body>Sign in</body></html>", "no chat completion: "),
        (b"null", "no chat completion: "),
        (b"[]", "no chat completion: "),
        (b"{}", "no chat completion: "),
        (b'{"error":{"message":"no"}}', "no chat completion: "),
        (b'{"choices":null}', "no chat completion: "),
        (b'{"choices":[]}', "a chat completion without choices"),
        (b'{"choices":[null]}', "no chat completion: "),
        (b'{"choices":[{"message":null}]}', "no chat completion: "),
        (b'{"choices":[{"words":"no text"}]}', "no chat completion: "),
        (reply(), "a chat completion without content"),
        (reply(tool_calls=[]), "a chat completion without content"),
        (reply(refusal=""), "a chat completion without content"),
        (reply(finish_reason=None), "a chat completion without content"),
        (b"\xff\xfe", "no chat completion: "),
    ],
)
def test_what_is_no_reply_says_why_and_is_worth_another_try(body: bytes, reason: str) -> None:
    with pytest.raises(BadReply) as error:
        parse(body)
    assert str(error.value).startswith(reason)


def mangled() -> st.SearchStrategy[bytes]:
    """Give replies with a piece cut out, changed or put in."""
    whole = json.dumps(OPENAI).encode()

    def mangle(start: int, length: int, patch: bytes) -> bytes:
        return whole[:start] + patch + whole[start + length :]

    return st.builds(mangle, st.integers(0, len(whole)), st.integers(0, 12), st.binary(max_size=6))


shapes = st.builds(
    lambda content, reason, usage, calls, refusal: reply(content, reason, usage, tool_calls=calls, refusal=refusal),
    values, values, values, values, values,
)  # fmt: skip


@given(st.binary(max_size=80) | mangled() | shapes | values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
@example(b'{"choices":[{"message":{"content":"\\ud800"}}]}')
@example(b'{"choices":[{"message":{"content":"\\q"}}]}')
@example(b'{"choices":[{"message":{"content":"\n"}}]}')
@example(b'{"choices":[{"message":{"content":"a"},"finish_reason":01}]}')
@example(b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":1e999}}')
@example(b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":NaN}}')
@example(b'{"choices":[{"message":{"content":[1e999]}}]}')
@example(b'{"choices":[{"message":{"content":null,"refusal":"\\ud800"}}]}')
@example(b'{"choices":[{"message":{"content":"a","tool_calls":%s%s}}]}' % (b"[" * 100_000, b"]" * 100_000))
@example(b'{"choices":[{"message":{"content":"a"}}],"usage":{"x":%s%s}}' % (b"[" * 900, b"]" * 900))
@example(b'\xef\xbb\xbf{"choices":[{"message":{"content":"a"}}]}')
def test_no_body_does_worse_than_a_bad_reply_and_what_is_read_is_json(body: bytes) -> None:
    try:
        answer = parse(body)
    except (BadReply, Declined):
        return
    for part in (answer.output, answer.finish_reason, answer.model, answer.usage):
        strict(part)


@pytest.mark.parametrize("count", [-5, 2**63, 10**30, 1.5, "7", None, True, [1]])
def test_token_counts_that_cannot_be_are_not_counted(count: Any) -> None:
    answer = parse(reply("a", usage={"prompt_tokens": count, "completion_tokens": 3}))
    assert answer.prompt_tokens == 0, "a sum of such counts would be no figure, or fit no message"
    assert answer.completion_tokens in (0, 3)
