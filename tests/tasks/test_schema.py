"""Schemas of replies: what is none is refused with its place, what is one goes out unchanged and has the last word."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.errors import ConfigError
from rowmill.core.rows import Column
from rowmill.tasks.schema import OutputSchema, fields, is_strict, resolved, response_format, text_format

PRODUCT: dict[str, Any] = {
    "title": "Product, of a shop",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "price": {"type": "number", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "price", "tags"],
    "additionalProperties": False,
}


def task(schema: Any) -> TaskConfig:
    return TaskConfig(model="m", prompt="{text}", schema=schema)


# Reading


def test_a_path_is_replaced_by_the_schema_that_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "product.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PRODUCT, indent=2).encode())
    config = resolved(task(str(path)))
    assert config == msgspec.structs.replace(task(str(path)), schema=PRODUCT)
    assert resolved(config) == config
    assert resolved(task(None)) == task(None)


HOLDS_ITSELF = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "below": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
}


@pytest.mark.parametrize(
    ("written", "schema"),
    [
        ({"name": "product", "strict": True, "schema": PRODUCT}, PRODUCT),
        ({"type": "json_schema", "name": "product", "schema": PRODUCT}, PRODUCT),
        ({"type": "json_schema", "json_schema": {"name": "product", "schema": PRODUCT}}, PRODUCT),
        (
            {"$defs": {"Node": HOLDS_ITSELF}, "$ref": "#/$defs/Node"},
            {"$defs": {"Node": HOLDS_ITSELF}, **HOLDS_ITSELF},
        ),
        ({"type": "object", "properties": {"schema": PRODUCT}}, {"type": "object", "properties": {"schema": PRODUCT}}),
        (
            {"type": "object", "schema": {"a": 1}, "required": []},
            {"type": "object", "schema": {"a": 1}, "required": []},
        ),
    ],
)
def test_a_schema_is_taken_out_of_what_stands_around_it(tmp_path: Path, written: Any, schema: Any) -> None:
    path = tmp_path / "format.json"
    path.write_text(json.dumps(written))
    assert resolved(task(str(path))).schema == schema
    assert resolved(task(written)).schema == schema


@pytest.mark.parametrize(
    "written",
    [
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"type": "array"}}, "$ref": "#/$defs/a"},
        {"$defs": {}, "$ref": "#/$defs/a"},
        {"$defs": 1, "$ref": "#/$defs/a"},
        {"$ref": 1},
        {"type": "json_schema", "json_schema": 1},
        {"schema": {"schema": {"schema": {}}}},
    ],
)
def test_what_holds_no_schema_of_an_object_is_refused(written: Any) -> None:
    with pytest.raises(ConfigError, match=r"task\.schema"):
        resolved(task(written))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", ", line 1, column 1: no JSON: "),
        (b'{\n "type": "object",\n}', ", line 3, column 1: no JSON: "),
        (b'{"type": "object", "minProperties": NaN}', ": no JSON: NaN is no value of JSON"),
        (b"[" * 100_000, ": no JSON: "),
        (b'{"type": "\xff"}', ": cannot be read: "),
        (b'"object"', ': a schema is a JSON object, as {"type": "object", ...}'),
        (b'{"properties": {}}', ': the schema of a reply must have "type": "object" at its top, not null; put '),
        (b'{"type": "array"}', ': the schema of a reply must have "type": "object" at its top, not "array"; put '),
        (b'{"type": "objekt"}', ": no JSON Schema: /type: "),
        (b'{"type": "object", "properties": {"a": "string"}}', ": no JSON Schema: /properties/a: "),
        (b'{"type": "object", "properties": {"a/b": {"pattern": "("}}}', ": no JSON Schema: /properties/a~1b/pattern:"),
        (b'{"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}', ": no JSON Schema: Pointer '/$defs/b' "),
        (b'{"type": "object", "properties": %s}' % (b'{"a":' * 400 + b"{}" + b"}" * 400), ": no JSON Schema: "),
    ],
)
def test_what_is_no_schema_is_refused_with_its_file_and_place(tmp_path: Path, text: bytes, problem: str) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as error:
        resolved(task(str(path)))
    assert str(error.value).startswith(f"task.schema: {path}{problem}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for name, meant in (
        ("Ticket", "; a model is named as package.module:Ticket"),
        ("shop.Ticket", "; a model is named as package.module:Ticket"),
        ('{"type": "object"}', "; a schema itself is written as a table, or from Python handed in as a dict"),
        ("none.json", ""),
    ):
        with pytest.raises(ConfigError) as error:
            resolved(task(name))
        assert str(error.value) == f"task.schema: {name}: no such file{meant}"
    with pytest.raises(ConfigError, match=r"^task\.schema: .*/none\.json: no such file$"):
        resolved(task(str(tmp_path / "none.json")))
    with pytest.raises(ConfigError, match=r"^task\.schema: .*: cannot be read: .*directory"):
        resolved(task(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"^task\.schema: .*: cannot be read: .*null"):
        resolved(task("a\0b"))


def test_an_inline_schema_is_checked_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^task\.schema: no JSON Schema: /type: "):
        resolved(task({"type": "objekt"}))


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "file:///etc/hostname"])
def test_a_reference_to_another_place_is_refused_and_never_fetched(reference: str) -> None:
    with pytest.raises(ConfigError, match="is disabled"):
        OutputSchema({"type": "object", "properties": {"a": {"$ref": reference}}})


def test_a_run_without_a_schema_does_not_load_the_validator() -> None:
    code = (
        "import sys; from rowmill.core.config import TaskConfig; from rowmill.tasks import schema;"
        "schema.resolved(TaskConfig(model='m', prompt='p')); assert 'jsonschema_rs' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# In a request


def test_the_schema_goes_out_as_it_is_in_the_form_of_each_api() -> None:
    named = {"name": "Product_of_a_shop", "strict": True, "schema": PRODUCT}
    assert response_format(PRODUCT) == {"type": "json_schema", "json_schema": named}
    assert text_format(PRODUCT) == {"type": "json_schema", **named}
    for title in (None, "", "§§", 7):
        assert text_format({"type": "object", "title": title})["name"] == "answer"
    assert len(text_format({"type": "object", "title": "x" * 100})["name"]) == 64


@pytest.mark.parametrize(
    ("change", "strict"),
    [
        ({}, True),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, True),
        ({"additionalProperties": True}, False),
        ({"required": ["name"]}, False),
        ({"allOf": [{}]}, False),
        ({"properties": {"a": {"type": "object"}}, "required": ["a"]}, False),
        ({"properties": {"a": {"type": ["object", "null"]}}, "required": ["a"]}, False),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {"properties": {}}]}}, "required": ["a"]}, False),
        ({"properties": {"a": {"type": "string", "minLength": 1}}, "required": ["a"]}, False),
        ({"properties": {"a": {"type": "string", "default": ""}}, "required": ["a"]}, False),
        ({"properties": {"a": True}, "required": ["a"]}, False),
        ({"properties": {"a": {"enum": [{"oneOf": 1}]}, "oneOf": {"const": 1}}, "required": ["a", "oneOf"]}, True),
        ({"$defs": {"a": {"type": "object"}}}, False),
    ],
)
def test_strict_mode_is_asked_for_only_where_it_takes_the_schema(change: dict[str, Any], strict: bool) -> None:
    document = {**PRODUCT, **change}
    OutputSchema(document)
    assert is_strict(document) is strict
    assert response_format(document)["json_schema"]["strict"] is strict


@pytest.mark.parametrize(
    ("part", "type_"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer"}, "int64"),
        ({"type": "number"}, "double"),
        ({"type": "boolean"}, "bool"),
        ({"type": ["string", "null"]}, "string"),
        ({"type": ["null", "integer"]}, "int64"),
        ({"type": ["integer", "number"]}, "double"),
        ({"type": ["integer", "string"]}, "json"),
        ({"type": "null"}, "json"),
        ({"type": "array", "items": {"type": "string"}}, "json"),
        ({"type": "object"}, "json"),
        ({}, "json"),
        (True, "json"),
        (False, "json"),
        ({"enum": ["a", "b", None]}, "string"),
        ({"enum": [1, 2.5]}, "double"),
        ({"enum": [True, 1]}, "json"),
        ({"const": 7}, "int64"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "int64"),
        ({"anyOf": [{"type": "integer"}, {}]}, "json"),
        ({"$ref": "#/$defs/colour~1name"}, "string"),
        ({"$ref": "#/$defs/ring"}, "json"),
        ({"$ref": "#"}, "json"),
        ({"oneOf": [{"$ref": "#/$defs/fork"}, {"type": "null"}]}, "json"),
    ],
)
def test_a_property_is_a_column_of_its_type(part: Any, type_: Any) -> None:
    document = {
        "type": "object",
        "properties": {"a": part, "b": {"type": "string"}},
        "$defs": {
            "colour/name": {"enum": ["red", "blue"]},
            "ring": {"$ref": "#/$defs/ring"},
            "fork": {"anyOf": [{"$ref": "#/$defs/fork"}, {"$ref": "#/$defs/fork"}]},
        },
    }
    assert fields(document) == (Column("a", type_), Column("b", "string"))


def test_a_schema_without_properties_has_no_columns() -> None:
    assert fields({"type": "object"}) == ()


# Against a reply


def test_a_valid_value_has_no_problem() -> None:
    assert OutputSchema(PRODUCT).problem({"name": "x", "price": 1, "tags": []}) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"name": "x", "price": "abc", "tags": []}, '/price: "abc" is not of type "number"'),
        ({"name": "x", "price": 1, "tags": [1]}, '/tags/0: 1 is not of type "string"'),
        ({"name": "x", "price": 1}, '"tags" is a required property'),
        ([], '[] is not of type "object"'),
        ({"name": "x", "price": -1, "tags": [], "a": 1}, "/price: -1 is less than the minimum of 0"),
    ],
)
def test_a_problem_is_told_with_its_place(value: Any, problem: str) -> None:
    told = OutputSchema(PRODUCT).problem(value)
    assert told is not None
    assert problem in told


def test_a_long_problem_keeps_the_place_and_the_rule() -> None:
    problem = OutputSchema(PRODUCT).problem({"name": "x", "price": "a\n b" * 10_000, "tags": list(range(100))})
    assert problem is not None
    assert problem.startswith('/price: "a')
    assert 'is not of type "number"' in problem
    assert len(problem) <= 500
    assert problem.count(" is not of type ") == 3
    assert "\n" not in problem


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(anything)
@settings(max_examples=60, deadline=None)
def test_any_value_is_valid_or_has_a_short_problem(value: Any) -> None:
    problem = OutputSchema(PRODUCT).problem(value)
    assert problem is None or 0 < len(problem) <= 500


def test_values_at_the_edge_of_json_are_judged() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    schema = OutputSchema(PRODUCT)
    for value in (deep, {"name": deep, "price": 10**400, "tags": deep}, {"name": "x", "price": 1, "tags": deep}):
        problem = schema.problem(value)
        assert problem is not None
        assert len(problem) <= 500
    assert OutputSchema({"type": "object"}).problem({"any": deep}) is None
