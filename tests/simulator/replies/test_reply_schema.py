"""Values are made to fit their schema, follow from the question alone, and show whose answer they are."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.simulator.replies import digest
from rowmill.simulator.replies.reply_schema import InvalidSchemaError, ReplySchema, load

TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
}
LIST = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "string", "maxLength": 5},
    {"type": "string", "maxLength": 30},
    {"type": "string", "minLength": 300, "maxLength": 300},
    {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
    {"type": "integer", "minimum": 3, "maximum": 4},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "multipleOf": 7, "minimum": 100},
    {"type": "integer", "maximum": -5},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "multipleOf": 0.5, "minimum": 1},
    {"type": "number", "minimum": 2.5, "maximum": 2.5},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "string"]},
    {"enum": ["a", 1, None]},
    {"const": {"a": [1]}},
    {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    {"oneOf": [{"type": "string"}, {"type": "array"}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}], "type": "object"},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "minItems": 4, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    {"type": "object", "required": ["unnamed"]},
    {"$defs": {"a/b": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}},
    {"prefixItems": [{"type": "boolean"}], "items": {"$ref": "#/prefixItems/0"}, "type": "array"},
    TREE,
    LIST,
]


def _load(schema: Any) -> ReplySchema:
    return load(json.dumps(schema).encode())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_a_value_fits_its_schema_and_repeats(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(schema)
    for row in range(30):
        question = f"Which one?\n{row}"
        value = _load(schema).value(question)
        assert validator.is_valid(value), value
        assert value == _load(schema).value(question)
        assert _load(schema).fits(json.dumps(value))


_leaves = st.sampled_from(
    [
        {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "number"}, {"type": "boolean"},
        {"enum": ["x", "y"]}, {"type": ["string", "null"]}, {"type": "string", "format": "date"},
    ]
)  # fmt: skip


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.text(max_size=3), inner, max_size=4)
    return properties.map(
        lambda members: {
            "type": "object", "properties": members, "required": list(members), "additionalProperties": False
        }
    )  # fmt: skip


def _arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)
    )


@settings(max_examples=40)
@given(st.recursive(_leaves, lambda inner: _objects(inner) | _arrays(inner), max_leaves=6), st.text(max_size=50))
def test_strict_schemas_of_any_shape_get_a_value_that_fits(schema: dict[str, Any], question: str) -> None:
    jsonschema_rs.validate(schema, _load(schema).value(question))


def test_strings_carry_the_questions_digest_and_its_words() -> None:
    schema = {"properties": {"title": {"type": "string"}, "tags": {"items": {"type": "string"}, "minItems": 2}}}
    question = "Extract:\nA library for dates."
    value = _load(schema).value(question)
    assert value["title"] == f"title: A library for dates. [{digest(question)}]"
    assert [tag.endswith(f"[{digest(question)}]") for tag in value["tags"]] == [True, True]
    assert len(set(value["tags"])) == 2
    short = _load({"type": "string", "maxLength": 12}).value(question)
    assert short.endswith(f"[{digest(question)}]")


def test_questions_draw_every_choice() -> None:
    schema = _load({"enum": ["a", "b", "c"]})
    labels = [schema.value(str(row)) for row in range(300)]
    assert all(labels.count(label) > 60 for label in "abc")


@pytest.mark.parametrize("schema", [[], {"type": 7}, {"type": "text"}, {"$ref": "#/$defs/none"}, {"required": "a"}])
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidSchemaError):
        _load(schema)


def test_a_reference_to_elsewhere_is_never_fetched() -> None:
    with pytest.raises(InvalidSchemaError):
        _load({"$ref": "http://127.0.0.1:9/schema.json"})


def test_a_schema_that_requires_itself_ends() -> None:
    schema = {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]}
    assert _load(schema).value("a") is not None
    assert _load({"$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}).value("a")
