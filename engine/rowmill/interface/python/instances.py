"""Answers as instances of a type: a pydantic model, or what else a `rowmill.map` was given as its schema.

Workers have held the replies against the type already where they could have it; what is refused here, or only here, is
a failed row whose text is kept.
"""

import dataclasses
import datetime as dt
import enum
import types
import typing
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from rowmill.core.config.sections import ModelSchema
from rowmill.interface.python.answers import Result, RowError
from rowmill.tasks import models
from rowmill.tasks.models import ModelReader

REFUSED = "invalid_output"

_TYPES: dict[Any, str] = {
    bool: "bool", int: "int64", float: "double", str: "string", Decimal: "decimal", dt.date: "date",
    dt.datetime: "datetime", dt.time: "time", dt.timedelta: "duration",
}  # fmt: skip

_CELLS = (*_TYPES, bytes)  # values that tables hold as they are
_AS_TEXT = {"ipaddress", "pathlib", "uuid"}  # libraries whose values are what they say of themselves


class ModelColumn(typing.NamedTuple):
    """A field of a model as a column of a table."""

    name: str
    type: str  # of an `AnswerColumn`


class Instances:
    """Turns results with JSON into results with instances, and these into columns."""

    def __init__(self, kind: Any, schema: ModelSchema, *, several: bool) -> None:
        """several: each output is a list, of which every member is a reply."""
        self._reader = ModelReader(kind, schema.name, wrapped=schema.wrapped)
        self._several = several
        self.refused = 0  # rows that no worker has refused
        self._adapter = models.adapter(kind, schema.name)
        self.columns: tuple[ModelColumn, ...] = () if schema.wrapped or several else _columns(kind, self._adapter)

    def of(self, result: Result[Any]) -> Result[Any]:
        """Return the result with its output, JSON as `msgspec.Raw`, as instance."""
        text = b"null" if result.output is None else bytes(result.output)
        if result.error is not None or text == b"null":
            return msgspec.structs.replace(result, output=None)
        try:
            output = self._read_several(text) if self._several else self._reader.instance(text)
        except ValueError as error:
            self.refused += 1
            refused = RowError(REFUSED, str(error), reply=text.decode(errors="replace"))
            return msgspec.structs.replace(result, output=None, error=refused)
        return msgspec.structs.replace(result, output=output)

    def _read_several(self, text: bytes) -> list[Any]:
        each = msgspec.json.decode(text, type=list[msgspec.Raw])
        return [None if bytes(part) == b"null" else self._reader.instance(bytes(part)) for part in each]

    def members(self, output: Any) -> dict[str, Any]:
        """Return the fields of an instance by their names, as values of Python."""
        try:
            dumped = self._adapter.dump_python(output, warnings=False)
        except Exception:  # noqa: BLE001 - a serializer is the user's: it raises what it likes
            dumped = None
        if not isinstance(dumped, dict):
            dumped = output if isinstance(output, dict) else dict(getattr(output, "__dict__", {}))
        return {column.name: _plain(column, dumped.get(column.name)) for column in self.columns}

    def value(self, output: Any) -> Any:
        """Return an instance that is a column by itself as plain values."""
        try:
            return _unwrapped(self._adapter.dump_python(output, warnings=False))
        except Exception:  # noqa: BLE001 - as above
            return output


def _columns(kind: Any, adapter: Any) -> tuple[ModelColumn, ...]:
    """Return the columns of an object's fields, those that are computed too."""
    names: list[str] = []
    for mode in ("serialization", "validation"):  # the first has computed fields, but a serializer may hide them all
        try:
            schema = adapter.json_schema(mode=mode, by_alias=False)
        except Exception:  # noqa: BLE001, S112 - the user's own types may do what they like here
            continue
        if (reference := schema.get("$ref", "")).startswith("#/$defs/"):
            schema = schema["$defs"][reference.removeprefix("#/$defs/")]
        if names := list(schema.get("properties", {})):
            break
    annotations = _annotations(kind)
    return tuple(ModelColumn(name, _type(annotations.get(name, Any))) for name in names)


def _annotations(kind: Any) -> dict[str, Any]:
    """Return the types of a type's fields by their names."""
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, dict):
        computed = getattr(kind, "model_computed_fields", {})
        return {name: field.annotation for name, field in fields.items()} | {
            name: field.return_type for name, field in computed.items()
        }
    origin = typing.get_origin(kind) or kind
    try:
        return typing.get_type_hints(origin, include_extras=True)
    except Exception:  # noqa: BLE001 - names that only the user's module knows
        return (
            {field.name: field.type for field in dataclasses.fields(origin)} if dataclasses.is_dataclass(origin) else {}
        )


def _type(annotation: Any) -> str:
    """Return the type of a column that has such values; "json" for what is more than one value, or of several types."""
    for inner in ("__supertype__", "__value__"):  # of a NewType, of a type alias
        if hasattr(annotation, inner):
            return _type(getattr(annotation, inner))
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated or origin in (typing.Required, typing.NotRequired):
        return _type(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        kinds = {_type(each) for each in typing.get_args(annotation) if each is not type(None)}
        return kinds.pop() if len(kinds) == 1 else "double" if kinds == {"int64", "double"} else "json"
    if origin is typing.Literal:
        kinds = {_TYPES.get(type(_unwrapped(each)), "json") for each in typing.get_args(annotation) if each is not None}
        return kinds.pop() if len(kinds) == 1 else "json"
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            kinds = {_TYPES.get(type(each.value), "json") for each in annotation}
            return kinds.pop() if len(kinds) == 1 else "json"
        if annotation.__module__.partition(".")[0] in _AS_TEXT or annotation.__module__ == "pydantic.networks":
            return "string"
        return next((_TYPES[each] for each in annotation.__mro__ if each in _TYPES), "json")
    return "json"


def _plain(column: ModelColumn, value: Any) -> Any:
    value = _unwrapped(value)
    if column.type == "string" and value is not None:
        return str(value)
    return value


def _unwrapped(value: Any) -> Any:
    """Put the values of enums in their places, and what tables cannot hold as what they can."""
    match value:
        case enum.Enum():
            return _unwrapped(value.value)
        case dict():
            return {str(_unwrapped(key)): _unwrapped(each) for key, each in value.items()}
        case list() | tuple():
            return [_unwrapped(each) for each in value]
        case set() | frozenset():
            return sorted(map(_unwrapped, value), key=repr)
    # An identifier, a path, an address, a URL of pydantic's: what it says of itself.
    return value if value is None or isinstance(value, _CELLS) else str(value)


def outputs_of(results: Sequence[Result[Any]], instances: Instances | None) -> list[Any]:
    """Return the outputs as cells of a table."""
    if instances is None:
        return [result.output for result in results]
    return [None if result.output is None else instances.value(result.output) for result in results]
