"""JSON Schemas of replies: read and checked, put into requests, and held against what came back.

A schema goes to the provider exactly as the user wrote it. OpenAI's strict mode, in which the model cannot but keep to
the schema, takes only some schemas: every object with `additionalProperties: false`, every property required, and a
part of the keywords; anything else is refused with a 400, which would be every row's. So `strict` is asked for only
where the schema is of that kind. Otherwise the provider takes it as a guide, and the validator here has the last word,
as it has in any case.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import ConfigError
from rowmill.core.rows import Column

if TYPE_CHECKING:
    import jsonschema_rs

Document = dict[str, Any]  # a JSON Schema as decoded JSON

MAPS = {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}  # of names to schemas
DATA = {"const", "default", "enum", "examples"}  # JSON values, which may look like schemas and are none

_KEY = "task.schema"
VALUE = "value"  # the member of a reply's object that holds what is no object itself
_PROBLEMS = 3  # of one reply that are told: more would only be read by nobody
_PROBLEM_CHARACTERS = 500
_BEGINNING, _END = 60, 120  # what is left of a long problem: the value's beginning, and the rule that it breaks
_NAME = re.compile(r"[^A-Za-z0-9_-]+")  # what the API does not take in a schema's name
_NAME_CHARACTERS = 64
# The keywords of OpenAI's strict mode.
_STRICT = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "const", "definitions", "description", "enum",
    "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum",
    "multipleOf", "pattern", "properties", "required", "title", "type",
}  # fmt: skip
_AROUND = frozenset({"type", "name", "description", "strict", "schema"})  # members of a format that holds a schema
_BESIDE = frozenset({"$ref", "$defs", "definitions", "$schema", "$id", "title", "description"})  # they add no rule
_COLUMN_TYPES: dict[frozenset[str], Any] = {
    frozenset({"string"}): "string",
    frozenset({"integer"}): "int64",
    frozenset({"number"}): "double",
    frozenset({"integer", "number"}): "double",
    frozenset({"boolean"}): "bool",
}
VALUE_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_DEPTH = 5  # references and alternatives that a column's type is looked for through: they may be a ring


class Reader(Protocol):
    """What reads replies that fit the schema, and may find more wrong with them."""

    def problem(self, text: bytes) -> str | None:
        """Say what is wrong with a reply's JSON, in a short line."""


class OutputSchema:
    """A checked schema, with a validator that is built once."""

    def __init__(self, document: Document, source: str = _KEY, reader: Reader | None = None) -> None:
        """Check the schema. Raises `ConfigError`, which `source` begins, where it is none that replies can have."""
        import jsonschema_rs  # 20 ms, which a run without a schema does not wait for

        self.document = document
        try:
            # Offline: a schema must not make this machine fetch whatever its references name.
            validator = jsonschema_rs.validator_for(document, offline=True)
        except jsonschema_rs.ValidationError as error:
            raise ConfigError(f"{source}: no JSON Schema: {_told(error)}") from None
        except ValueError as error:  # what cannot be turned into the validator's own values: nested too deeply
            raise ConfigError(f"{source}: no JSON Schema: {_shortened(str(error))}") from None
        if document.get("type") != "object":
            raise ConfigError(
                f'{source}: the schema of a reply must have "type": "object" at its top, not '
                f"{_shortened(json.dumps(document.get('type')))}; put the value into a property"
            )
        self._reader = reader
        self.wrapped = False  # the value stands in an object: it is no object itself
        self._is_valid = validator.is_valid
        self._errors = validator.iter_errors

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a decoded reply, in a short line with JSON pointers; None where it is valid."""
        try:
            if self._is_valid(value):
                return None
            errors = list(islice(self._errors(value), _PROBLEMS))
        except ValueError as error:
            return _shortened(str(error))
        problems = "; ".join(_told(error) for error in errors)
        return problems[:_PROBLEM_CHARACTERS] or "does not fit the schema"

    def problem_in(self, text: bytes, value: Any) -> str | None:
        """Say what is wrong with a reply: with its JSON decoded, and then with what the reader makes of its text."""
        problem = self.problem(value)
        return self._reader.problem(text) if problem is None and self._reader is not None else problem


def opened(schema: Document | ModelSchema) -> OutputSchema:
    """Build what holds replies against a resolved schema. Raises `ConfigError` where it is none."""
    if isinstance(schema, dict):
        return OutputSchema(schema)
    from rowmill.tasks import models

    made = OutputSchema(schema.document, f"{_KEY}: {schema.name}", models.reader(schema))
    made.wrapped = schema.wrapped
    return made


def asked(schema: Document | ModelSchema) -> Document:
    """Return the schema as providers are asked for it."""
    return schema if isinstance(schema, dict) else schema.asked


def resolved(config: TaskConfig) -> TaskConfig:
    """Return the configuration with the schema itself in place of its path, or of the name of a type.

    Raises `ConfigError`, which names the file and what is wrong in it.
    """
    if config.schema is None or isinstance(config.schema, ModelSchema):
        return config
    if isinstance(config.schema, dict):
        inner = itself(config.schema)
        OutputSchema(inner)
        return config if inner is config.schema else msgspec.structs.replace(config, schema=inner)
    from rowmill.tasks import models

    named = models.is_name(config.schema)
    document = models.by_name(config.schema) if named else itself(_read(config.schema))
    if isinstance(document, dict):
        OutputSchema(document, f"{_KEY}: {config.schema}")
    return msgspec.structs.replace(config, schema=document)


def itself(document: Document) -> Document:
    """Return the schema alone, where it stands in what requests have around it, or behind a reference at its top.

    That is how people have it at hand: as `response_format` or `text.format`, and as pydantic writes a model that holds
    itself. What is neither is returned as it is.
    """
    around = document.get("json_schema", document) if document.get("type") == "json_schema" else document
    if isinstance(around, dict) and isinstance(around.get("schema"), dict) and _AROUND.issuperset(around):
        return itself(around["schema"])
    for place in ("$defs", "definitions"):
        name = str(document.get("$ref")).removeprefix(f"#/{place}/")
        defined = document.get(place)
        target = defined.get(name) if isinstance(defined, dict) else None
        if isinstance(target, dict) and _BESIDE.issuperset(document):
            return {**{key: value for key, value in document.items() if key != "$ref"}, **target}
    return document


def _meant(path: str) -> str:
    """Return what somebody may have meant who has not named a file."""
    if path.lstrip().startswith("{"):
        return "; a schema itself is written as a table, or from Python handed in as a dict"
    if all(part.isidentifier() for part in path.split(".")) and not path.endswith(".json"):
        return f"; a model is named as package.module:{path.rpartition('.')[2]}"
    return ""


def _read(path: str) -> Document:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{_KEY}: {path}: no such file{_meant(path)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_KEY}: {path}: cannot be read: {error}") from None
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{_KEY}: {path}, line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{_KEY}: {path}: no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f'{_KEY}: {path}: a schema is a JSON object, as {{"type": "object", ...}}')
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def response_format(document: Document) -> dict[str, Any]:
    """Return the member `response_format` of a chat request."""
    return {"type": "json_schema", "json_schema": _named(document)}


def text_format(document: Document) -> dict[str, Any]:
    """Return the member `text.format` of a request to the responses API."""
    return {"type": "json_schema", **_named(document)}


def _named(document: Document) -> dict[str, Any]:
    title = document.get("title")
    name = _NAME.sub("_", title).strip("_")[:_NAME_CHARACTERS] if isinstance(title, str) else ""
    return {"name": name or "answer", "strict": is_strict(document), "schema": document}


def is_strict(document: Document) -> bool:
    """Tell whether OpenAI's strict mode takes the schema."""
    return all(_is_strict(part) for part in _subschemas(document))


def _is_strict(part: Any) -> bool:
    if not isinstance(part, dict) or not _STRICT.issuperset(part):
        return False
    kind = part.get("type")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind) and "properties" not in part:
        return True
    return part.get("additionalProperties") is False and set(part.get("required", ())) == set(
        part.get("properties", ())
    )


def _subschemas(schema: Any) -> Iterator[Any]:
    """Yield the schema and every schema in it."""
    yield schema
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in MAPS and isinstance(value, dict):
            for part in value.values():
                yield from _subschemas(part)
        elif key in DATA:
            continue
        elif isinstance(value, dict):
            yield from _subschemas(value)
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from _subschemas(part)


def fields(document: Document) -> tuple[Column, ...]:
    """Return the top-level properties as columns, in the schema's order. All may be null.

    A JSON Schema's integer may be written 1.0, and may be longer than 64 bits.
    """
    return tuple(
        Column(name, _COLUMN_TYPES.get(_types(part, document) - {"null"}, "json"))
        for name, part in document.get("properties", {}).items()
    )


def _types(part: Any, document: Document, depth: int = 0) -> frozenset[str]:
    """Return the JSON types that values may have; none where the schema does not say."""
    if depth > _DEPTH:
        return frozenset()
    match part:
        case {"$ref": reference}:
            return _types(_pointed(document, reference), document, depth + 1)
        case {"type": str(kind)}:
            return frozenset({kind})
        case {"type": list(kinds)}:
            return frozenset(kinds)
        case {"const": value}:
            return frozenset({VALUE_TYPES.get(type(value), "json")})
        case {"enum": list(values)}:
            return frozenset(VALUE_TYPES.get(type(value), "json") for value in values)
        case {"anyOf": list(parts)} | {"oneOf": list(parts)}:
            each = [_types(part, document, depth + 1) for part in parts]
            return frozenset().union(*each) if all(each) else frozenset()
    return frozenset()


def _pointed(document: Document, reference: Any) -> Any:
    """Return what a reference within the document points to; None where it points elsewhere."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    part: Any = document
    for step in reference[2:].split("/"):
        if not isinstance(part, dict):
            return None
        part = part.get(step.replace("~1", "/").replace("~0", "~"))
    return part


def _told(error: "jsonschema_rs.ValidationError") -> str:
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.instance_path)
    pointer = "".join(f"/{step}" for step in steps)
    return f"{_shortened(pointer)}: {_shortened(error.message)}" if pointer else _shortened(error.message)


def _shortened(text: str) -> str:
    """Return the text on one line, without its middle where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= _BEGINNING + _END else f"{text[:_BEGINNING]} ... {text[-_END:]}"
