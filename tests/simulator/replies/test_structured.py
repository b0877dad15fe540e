"""Which message is answered in JSON, what a pack's answers are, and what is refused."""

import json
from typing import Any

import jsonschema_rs
import pytest

from rowmill.simulator.replies import RequestError, compose, digest, fingerprint
from rowmill.simulator.replies.wording import summary

BOOK = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": {"type": "integer", "minimum": 1900, "maximum": 2030}},
    "required": ["title", "year"],
    "additionalProperties": False,
}


def packed(answer: Any) -> dict[str, Any]:
    """Make the schema of a pack's reply."""
    item = {"type": "object", "properties": {"id": {"type": "string"}, "answer": answer}, "required": ["id", "answer"]}
    return {"type": "object", "properties": {"answers": {"type": "array", "items": item}}, "required": ["answers"]}


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _content(messages: list[dict[str, str]], schema: Any = BOOK) -> Any:
    form: dict[str, Any] = {"type": "json_object"}
    if schema is not None:
        form = {"type": "json_schema", "json_schema": {"name": "book", "schema": schema}}
    body = json.dumps({"model": "m", "messages": messages, "response_format": form}).encode()
    completion = compose(body, fingerprint(body), 500.0)
    assert completion.structured
    choice = json.loads(completion.body)["choices"][0]
    assert choice["finish_reason"] == "stop"
    return json.loads(choice["message"]["content"])


def test_a_reply_fits_the_schema_and_is_its_questions_own() -> None:
    content = _content([{"role": "system", "content": "Extract."}, _user("A book.")])
    jsonschema_rs.validate(BOOK, content)
    assert digest("A book.") in content["title"]


def test_any_object_carries_the_summary() -> None:
    assert _content([_user("A book.")], None) == {"answer": summary("A book.")}


@pytest.mark.parametrize(
    "wrong",
    ['{"title": 7, "year": 1999}', '{"title": "A bo', 'Sure! Here is the JSON that you asked for:\n\n{"title"}'],
)
def test_a_question_asked_again_with_its_wrong_reply_gets_its_own_answer(wrong: str) -> None:
    messages = [_user("A book."), _assistant(wrong), _user("This does not fit the schema. Reply again.")]
    assert _content(messages) == _content([_user("A book.")])
    twice = [*messages, _assistant(wrong), _user("Still wrong.")]
    assert _content(twice) == _content([_user("A book.")])


@pytest.mark.parametrize("turn", ['{"title": "An example", "year": 1999}', "I see. And what about the other one?"])
def test_an_example_or_a_conversation_before_the_question_is_no_wrong_reply(turn: str) -> None:
    assert _content([_user("Another."), _assistant(turn), _user("A book.")]) == _content([_user("A book.")])


@pytest.mark.parametrize("ids", [["1", "2", "3"], [10, 11, 12], ["a", 7, None]])
def test_the_answers_of_a_pack_are_those_that_each_prompt_gets_alone(ids: list[Any]) -> None:
    prompts = ["A book.", "Summarise:\nanother book", "ein drittes ✓"]
    pack = json.dumps([{"id": key, "prompt": prompt} for key, prompt in zip(ids, prompts, strict=True)])
    for schema, alone in (
        ({"type": "string"}, summary),
        (BOOK, lambda prompt: _content([_user(prompt)])),
    ):
        answers = _content([{"role": "system", "content": "Answer each."}, _user(pack)], packed(schema))["answers"]
        assert [answer["id"] for answer in answers] == ids
        assert [answer["answer"] for answer in answers] == [alone(prompt) for prompt in prompts]


def test_a_pack_is_found_behind_references_and_before_a_complaint() -> None:
    schema = {
        "$defs": {
            "item": {"type": "object", "properties": {"id": {}, "answer": {"$ref": "#/$defs/book"}}},
            "book": BOOK,
        },
        "type": "object",
        "properties": {"answers": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    }
    pack = json.dumps([{"id": "1", "prompt": "A book."}])
    answers = _content([_user(pack), _assistant("{}"), _user("[not a pack]")], schema)["answers"]
    assert answers == [{"id": "1", "answer": _content([_user("A book.")])}]


def test_a_list_without_a_packs_schema_is_a_question_like_any_other() -> None:
    pack = json.dumps([{"id": "1", "prompt": "A book."}])
    assert digest(pack) in _content([_user(pack)])["title"]


def test_the_prompts_of_a_pack_count_as_inputs() -> None:
    pack = json.dumps([{"id": str(number), "prompt": "x"} for number in range(20)])
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": packed({"type": "string"})}}
    body = json.dumps({"model": "m", "messages": [_user(pack)], "response_format": form}).encode()
    assert compose(body, fingerprint(body)).inputs == 20


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"type": "json_schema"}, "Missing required parameter: 'response_format.json_schema'"),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": []}},
            "Invalid schema for response_format: schema must be a JSON Schema of 'type: \"object\"'",
        ),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 7}}}, "Invalid schema"),
    ],
)
def test_what_is_no_schema_is_refused(form: dict[str, Any], said: str) -> None:
    body = json.dumps({"model": "m", "messages": [_user("a")], "response_format": form}).encode()
    with pytest.raises(RequestError, match=said) as caught:
        compose(body, fingerprint(body))
    assert caught.value.status == 400


def test_text_is_still_text_where_it_is_asked_for() -> None:
    body = json.dumps({"model": "m", "messages": [_user("a")], "response_format": {"type": "text"}}).encode()
    completion = compose(body, fingerprint(body))
    assert not completion.structured
    assert summary("a").encode() in completion.body
