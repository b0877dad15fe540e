"""A row's schema in the schema of a pack means what it meant alone."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.tasks.pack_schema import pack_schema
from rowmill.tasks.schema import OutputSchema, is_strict

TREE: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "tree.json",
    "type": "object",
    "properties": {
        "colour": {"$ref": "#/$defs/colour"},
        "shade": {"$ref": "#/properties/colour"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "$ref": {"enum": [{"$ref": "#"}, None]},
        "const": {"const": {"$ref": "#"}},
        "default": {"$ref": "#/properties/colour"},
    },
    "required": ["colour"],
    "additionalProperties": False,
    "$defs": {"colour": {"enum": ["red", "blue"]}},
}
OLD: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"colour": {"$ref": "#/definitions/colour"}},
    "definitions": {"colour": {"enum": ["red", "blue"]}},
}


def test_texts_without_a_schema_have_one_that_strict_mode_takes() -> None:
    schema = pack_schema(None)
    assert is_strict(schema)
    assert OutputSchema(schema).problem({"answers": [{"id": "1", "answer": "a"}]}) is None
    assert OutputSchema(schema).problem({"answers": [{"id": "1", "answer": 7}]}) is not None


def test_a_pack_is_strict_where_its_rows_schema_is() -> None:
    row = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
    assert is_strict(pack_schema(row))
    assert not is_strict(pack_schema({**row, "required": []}))


colours = st.sampled_from(["red", "blue", "green", 7])
values = st.recursive(
    st.fixed_dictionaries({}, optional={"colour": colours, "shade": colours, "default": colours}),
    lambda inner: st.fixed_dictionaries({"colour": colours}, optional={"children": st.lists(inner, max_size=2)}),
    max_leaves=4,
)


@pytest.mark.parametrize("row", [TREE, OLD])
@given(value=values)
@settings(max_examples=40, deadline=None)
def test_a_value_fits_in_a_pack_exactly_where_it_fits_alone(row: dict[str, Any], value: Any) -> None:
    alone = jsonschema_rs.validator_for({key: part for key, part in row.items() if key != "$id"}, offline=True)
    pack = OutputSchema(pack_schema(row))
    fits = pack.problem({"answers": [{"id": "1", "answer": value}]}) is None
    assert fits == alone.is_valid(value)


@pytest.mark.parametrize("more", [{"$ref": None}, {"const": {"$ref": "#"}}, {"$ref": {"$ref": "#"}}])
def test_data_that_looks_like_a_reference_stays_as_it_is(more: dict[str, Any]) -> None:
    value = {"answers": [{"id": "1", "answer": {"colour": "red", **more}}]}
    assert OutputSchema(pack_schema(TREE)).problem(value) is None
