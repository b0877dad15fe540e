"""Answers as columns to be put beside the rows: of texts, of a schema's fields, of a model's."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import msgspec

from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import InputError
from rowmill.core.rows import Column
from rowmill.interface.python.answers import Result
from rowmill.interface.python.instances import Instances, ModelColumn, outputs_of

Figure = Literal["usage", "cost"]  # of a row, beside the parts of its reply

ColumnType = Literal[
    "string", "int64", "double", "bool", "json", "vector", "decimal", "date", "datetime", "time", "duration"
]


class AnswerColumn(NamedTuple):
    """A column to be put beside the rows."""

    name: str
    type: ColumnType
    values: list[Any]  # one for each row, None where there is none; of vectors arrays of numpy


def check_names(
    columns: Sequence[str],
    fields: Sequence[Column],
    prefix: str,
    parts: Sequence[ReplyPart | Figure] = (),
    instances: Instances | None = None,
) -> None:
    """Refuse rows that already have a column of an answer's name, before anything is paid for."""
    for name, _, _ in answers([], fields, prefix=prefix, parts=parts, instances=instances):
        if name in columns:
            raise InputError(
                f"rowmill.map: the rows have a column {name!r} already: rename it, or put a prefix before the names of "
                'the new ones, as prefix="new_"'
            )


def answers(
    results: Sequence[Result[Any]],
    fields: Sequence[Column],
    *,
    prefix: str = "",
    parts: Sequence[ReplyPart | Figure] = (),
    instances: Instances | None = None,
) -> list[AnswerColumn]:
    """Return the columns of the results: `output` or, where there are fields, each of them; `error`; then the parts."""
    outputs = outputs_of(results, instances)
    columns: list[AnswerColumn]
    if instances is not None and instances.columns:
        members = [{} if result.output is None else instances.members(result.output) for result in results]
        columns = [
            AnswerColumn(prefix + own, cast("ColumnType", kind), [each.get(name) for each in members])
            for own, (name, kind) in zip(_own_names(instances.columns, parts), instances.columns, strict=True)
        ]
    elif fields:
        objects = [output if isinstance(output, dict) else {} for output in outputs]
        columns = [
            _typed(prefix + own, each, [object_.get(each.name) for object_ in objects])
            for own, each in zip(_own_names(fields, parts), fields, strict=True)
        ]
    else:
        given = [output for output in outputs if output is not None]
        kind: ColumnType = "json"
        if all(isinstance(output, str) for output in given):
            kind = "string"
        elif all(hasattr(output, "dtype") for output in given):
            kind = "vector"
        columns = [AnswerColumn(f"{prefix}output", kind, outputs)]
    errors = [None if result.error is None else str(result.error) for result in results]
    columns.append(AnswerColumn(f"{prefix}error", "string", errors))
    for part in parts:
        values = [getattr(result, part) for result in results]
        # As text, for they are alike in no two replies.
        alike = part in {"reasoning", "cost"}
        columns.append(
            AnswerColumn(prefix + part, "double" if part == "cost" else "string", values if alike else texts(values))
        )
    return columns


def _own_names(fields: Sequence[Column | ModelColumn], parts: Sequence[str]) -> Iterator[str]:
    """Yield the names of fields, those that other columns have as files have them: "output.error"."""
    used = {"error", *parts}
    for field in fields:
        name = field.name
        while name in used:
            name = f"output.{name}"
        used.add(name)
        yield name


def _typed(name: str, field: Column, values: list[Any]) -> AnswerColumn:
    """Make numbers what their column holds: JSON may write the integer 7 as 7.0, and integers of any length."""
    if field.type == "int64":
        if any(value is not None and not -(2**63) <= value < 2**63 for value in values):
            return AnswerColumn(name, "json", values)
        return AnswerColumn(name, "int64", [None if value is None else int(value) for value in values])
    if field.type == "double":
        return AnswerColumn(name, "double", [None if value is None else float(value) for value in values])
    return AnswerColumn(name, field.type, values)


def texts(values: Iterable[Any]) -> list[str | None]:
    """Return the values as JSON text."""
    return [None if value is None else _encode(value).decode() for value in values]


_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode
