"""Every content fault breaks what it says, breaks nothing else, and strikes elsewhere with another draw."""

import json
from typing import Any

import jsonschema_rs
import pytest

from rowmill.simulator.replies import Damage, compose, fingerprint
from rowmill.simulator.replies.reply_schema import load
from rowmill.simulator.replies.wording import summary

BOOK = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "author": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}, "required": ["name"]},
    },
    "required": ["title", "year", "tags", "author"],
}
DRAWS = range(40)


def _pack_schema(answer: Any) -> dict[str, Any]:
    item = {"type": "object", "properties": {"id": {"type": "string"}, "answer": answer}, "required": ["id", "answer"]}
    return {"type": "object", "properties": {"answers": {"type": "array", "items": item}}, "required": ["answers"]}


def _choice(schema: Any, question: str, damage: Damage | None) -> tuple[dict[str, Any], bool]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    messages = [{"role": "user", "content": question}]
    body = json.dumps({"model": "m", "messages": messages, "response_format": form}).encode()
    completion = compose(body, fingerprint(body), 0.0, damage)
    assert completion.completion_tokens > 0
    choice: dict[str, Any] = json.loads(completion.body)["choices"][0]
    return choice, damage is not None and damage.struck


def _text(schema: Any, question: str, kind: str, draw: int) -> str:
    choice, damaged = _choice(schema, question, Damage(kind, draw))
    assert damaged
    assert choice["finish_reason"] == ("length" if kind == "cut" else "stop")
    text: str = choice["message"]["content"]
    return text


def _good(schema: Any, question: str) -> str:
    choice, damaged = _choice(schema, question, None)
    assert not damaged
    text: str = choice["message"]["content"]
    return text


@pytest.mark.parametrize("kind", ["wrong-type", "missing"])
def test_a_damaged_value_is_json_that_does_not_fit(kind: str) -> None:
    validator = jsonschema_rs.validator_for(BOOK)
    contents = [_text(BOOK, "A book.", kind, draw) for draw in DRAWS]
    assert not any(validator.is_valid(json.loads(text)) for text in contents)
    assert len(set(contents)) > 3
    assert validator.is_valid(json.loads(_good(BOOK, "A book.")))  # what is damaged is a copy


def test_prose_surrounds_the_right_json() -> None:
    text = _text(BOOK, "A book.", "extra-prose", 0)
    good = _good(BOOK, "A book.")
    assert good in text
    assert not text.startswith(good)
    assert not text.endswith(good)


def test_a_cut_content_is_its_first_half() -> None:
    good = _good(BOOK, "A book.")
    assert _text(BOOK, "A book.", "cut", 0) == good[: len(good) // 2]


@pytest.mark.parametrize("kind", ["duplicate", "wrong-id"])
def test_what_is_of_packs_leaves_a_single_answer_as_it_is(kind: str) -> None:
    choice, damaged = _choice(BOOK, "A book.", Damage(kind, 1))
    assert not damaged
    assert choice["message"]["content"] == _good(BOOK, "A book.")


@pytest.mark.parametrize(
    ("kind", "schema"), [("missing", {"type": "object", "properties": {"a": {}}}), ("wrong-type", {})]
)
def test_where_there_is_nothing_to_strike_the_reply_stays_good(kind: str, schema: Any) -> None:
    assert not _choice(schema, "A book.", Damage(kind, 1))[1]


def test_a_value_without_members_is_struck_itself() -> None:
    assert _text({"type": "integer"}, "A book.", "wrong-type", 0).startswith('"')


def _pack(prompts: list[str]) -> str:
    return json.dumps([{"id": str(place), "prompt": prompt} for place, prompt in enumerate(prompts, 1)])


@pytest.mark.parametrize("answer", [{"type": "string"}, BOOK])
@pytest.mark.parametrize("kind", ["wrong-type", "missing", "duplicate", "wrong-id"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_one_answer_of_a_pack_is_struck_and_the_others_are_right(kind: str, answer: Any, size: int) -> None:
    prompts = [f"Prompt {number}" for number in range(size)]
    right = {
        entry["id"]: entry["answer"] for entry in json.loads(_good(_pack_schema(answer), _pack(prompts)))["answers"]
    }
    fits = jsonschema_rs.validator_for(answer).is_valid
    struck = set()
    for draw in DRAWS:
        entries = json.loads(_text(_pack_schema(answer), _pack(prompts), kind, draw))["answers"]
        ids = [entry["id"] for entry in entries]
        lost = {
            key for key, value in right.items() if ids.count(key) != 1 or entries[ids.index(key)]["answer"] != value
        }
        assert len(lost) == 1
        struck |= lost
        (key,) = lost
        match kind:
            case "wrong-type":
                assert sorted(ids) == sorted(right)
                assert not fits(entries[ids.index(key)]["answer"])
            case "missing":
                assert len(entries) == size - 1
            case "duplicate":
                assert (len(entries), ids.count(key)) == (size + 1, 2)
                assert right[key] in [entry["answer"] for entry in entries if entry["id"] == key]
                assert len({json.dumps(entry["answer"]) for entry in entries if entry["id"] == key}) == 2
            case "wrong-id":
                (stranger,) = set(ids) - set(right)
                assert right[key] == entries[ids.index(stranger)]["answer"]
    assert struck == set(right)


@pytest.mark.parametrize("key", [7, "7", None])
def test_a_wrong_id_is_nobodys(key: Any) -> None:
    pack = [{"id": key, "prompt": "a"}, {"id": 8, "prompt": "b"}, {"id": "7-x", "prompt": "c"}]
    for draw in range(3):
        content = _text(_pack_schema({"type": "string"}), json.dumps(pack), "wrong-id", draw)
        ids = [entry["id"] for entry in json.loads(content)["answers"]]
        assert len([one for one in ids if one not in {key, 8, "7-x"}]) == 1


def test_a_damaged_pack_leaves_the_schema_as_it_was() -> None:
    schema = _pack_schema({"const": {"a": 1}})
    known = load(json.dumps(schema).encode())
    before = json.dumps(known.root)
    _choice(schema, _pack(["a", "b"]), Damage("wrong-type", 0))
    assert json.dumps(known.root) == before
    assert json.loads(_good(_pack_schema({"type": "string"}), _pack(["a"])))["answers"][0]["answer"] == summary("a")
