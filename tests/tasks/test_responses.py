"""The responses API: what is asked, and what is read out of its replies."""

import json
from typing import Any

import pytest
from openai.types.responses import Response

from rowmill.core.errors import BadReply, Declined, EmptyReply
from rowmill.tasks.responses import Responses

parse = Responses.parse
USAGE = {
    "input_tokens": 9,
    "output_tokens": 4,
    "total_tokens": 13,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 2},
}
REASONING = {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": [], "logprobs": []}


def reply(*output: dict[str, Any], status: str = "completed", reason: str | None = None, **more: Any) -> bytes:
    body = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": None,
        "incomplete_details": None if reason is None else {"reason": reason}, "instructions": None, "metadata": {},
        "model": "gpt-x", "output": list(output), "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "temperature": 1, "top_p": 1, "usage": USAGE,
    } | more  # fmt: skip
    return json.dumps(body).encode()


def test_the_reply_of_these_tests_is_one_that_the_package_reads() -> None:
    assert Response.model_validate_json(reply(REASONING, said(text("a")), CALL), strict=True).output_text == "a"


def test_the_texts_of_all_messages_are_the_answer() -> None:
    answer = parse(reply(REASONING, said(text('Hé "q"\n'))))
    assert json.loads(answer.output) == 'Hé "q"\n'
    assert (answer.finish_reason, answer.model) == (b'"stop"', b'"gpt-x"')
    assert json.loads(answer.usage) == USAGE
    assert (answer.prompt_tokens, answer.completion_tokens) == (9, 4)
    several = reply(said(text("one "), text("two")), REASONING, said(text(" three é")))
    assert json.loads(parse(several).output) == "one two three é"
    assert json.loads(parse(b'{"output":[{"type":"message","content":"bare"}]}').output) == "bare", "of a small server"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("other", "other"), (None, None)],
)
def test_a_reply_that_was_cut_says_so_also_before_its_first_word(reason: str | None, told: str | None) -> None:
    cut = parse(reply(said(text("begun")), status="incomplete", reason=reason))
    none = parse(reply(REASONING, status="incomplete", reason=reason))
    assert (json.loads(cut.output), json.loads(none.output)) == ("begun", "")
    assert json.loads(cut.finish_reason) == json.loads(none.finish_reason) == told


def test_calls_are_the_output_where_there_is_no_text() -> None:
    answer = parse(reply(REASONING, CALL, CALL))
    assert json.loads(answer.output) == [CALL, CALL]
    assert answer.finish_reason == b'"tool_calls"'
    assert json.loads(parse(reply(said(text("a")), CALL)).output) == {"content": "a", "tool_calls": [CALL]}
    assert parse(reply(said(text("a")), CALL)).finish_reason == b'"tool_calls"'


def test_calls_of_the_servers_own_tools_are_the_output_only_where_there_is_nothing_else() -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    assert json.loads(parse(reply(search, said(text("a")))).output) == "a"
    assert json.loads(parse(reply(search)).output) == [search]


def test_parts_are_reduced_to_their_text() -> None:
    thinking = {"type": "thinking", "thinking": "hm"}
    assert json.loads(parse(reply(said(thinking, {"type": "text", "text": "a"}, text("b")))).output) == "ab"


def test_a_reply_without_an_answer_keeps_its_reasoning() -> None:
    with pytest.raises(EmptyReply, match=r"^a response without text: only reasoning, of 2 characters$") as error:
        parse(reply(REASONING))
    assert error.value.rest == b'"hm"'


@pytest.mark.parametrize("output", [None, []])
def test_a_text_without_items_is_taken(output: Any) -> None:
    assert parse(json.dumps({"status": "completed", "output": output, "output_text": "a"}).encode()).output == b'"a"'


def test_a_refusal_beside_a_text_stands_beside_it() -> None:
    text = {"type": "output_text", "text": "a"}
    body = reply(said(text, {"type": "refusal", "refusal": "no"}))
    assert json.loads(parse(body).output) == {"content": "a", "refusal": "no"}


def test_a_refusal_is_told_in_the_models_words() -> None:
    with pytest.raises(Declined, match=r"^I cannot$"):
        parse(reply(said({"type": "refusal", "refusal": "I cannot"})))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the reply is empty"),
        (b"<html>", "no response: "),
        (b'{"choices":[]}', "a chat completion without choices"),
        (b'{"output":[5]}', "no response: "),
        (b'{"output":[{"type":"message","content":[{"type":"output_text","text":5}]}]}', "no response: "),
        (reply(), "a response without text"),
        (reply(REASONING), "a response without text"),
        (
            reply(status="failed", error={"code": "server_error", "message": "broke"}),
            "a response that is failed: broke",
        ),
        (reply(status="in_progress"), "a response that is in_progress: "),
    ],
)
def test_what_is_no_reply_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(BadReply) as error:
        parse(body)
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize("output", [{}, {"output": None}, {"output": []}, {"output": {}}])
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired", "in_progress", "queued"])
def test_a_response_without_output_is_an_empty_reply_that_says_how_it_stands(output: Any, status: str) -> None:
    body: dict[str, Any] = {"object": "response", "status": status, "usage": USAGE, **output}
    says = "a response without text" if status == "completed" else f"a response that is {status}: no more is told"
    with pytest.raises(EmptyReply, match=f"^{says}$"):
        parse(json.dumps({**body, "error": None}).encode())
    if status != "completed":
        for error in ({"code": "odd", "message": "broke"}, "broke"):
            with pytest.raises(EmptyReply, match=f"^a response that is {status}: broke$"):
                parse(json.dumps({**body, "error": error}).encode())


def test_one_that_was_cut_before_anything_was_put_out_is_a_result_if_it_says_why() -> None:
    cut = {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert parse(json.dumps(cut).encode()).finish_reason == b'"length"'
    with pytest.raises(EmptyReply):
        parse(b'{"object": "response", "status": "incomplete"}')


def test_a_text_or_one_item_in_the_place_of_the_output_is_taken_and_nothing_else_is_a_response() -> None:
    for output in ("fine", said(text("fine"))):
        assert parse(json.dumps({"output": output}).encode()).output == b'"fine"'
    for body in (b'{"id": "x"}', b'{"object": "response", "output": 5}'):
        with pytest.raises(BadReply, match=r"^no response: its output is none|^no response: it has no output"):
            parse(body)
