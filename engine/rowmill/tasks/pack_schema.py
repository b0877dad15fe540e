"""The schema of the reply to several rows, with the schema of the reply to one in it."""

from typing import Any

from rowmill.tasks.schema import DATA, MAPS, Document

_DEFINITIONS = ("$schema", "$defs", "definitions")  # what stands at the top of a document, for all of it
_DEFINED = ("#/$defs/", "#/definitions/")
_ANSWER = "#/properties/answers/items/properties/answer"  # where the row's schema stands


def pack_schema(row: Document | None) -> Document:
    """Return the schema of a pack's reply. What a row's schema defines for all of it goes to the top of this one."""
    answer: Any = {"type": "string"}
    top: Document = {}
    if row is not None:
        moved = _moved(row)
        top = {key: moved[key] for key in _DEFINITIONS if key in moved}
        answer = {key: value for key, value in moved.items() if key not in {*_DEFINITIONS, "$id"}}
    entry = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "answer": answer},
        "required": ["id", "answer"],
        "additionalProperties": False,
    }
    return {
        "title": "answers",
        "type": "object",
        "properties": {"answers": {"type": "array", "items": entry}},
        "required": ["answers"],
        "additionalProperties": False,
        **top,
    }


def _moved(schema: Any) -> Any:
    """Return the schema with its references as they must be where it stands deeper in a document."""
    if isinstance(schema, list):
        return [_moved(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved: Document = {}
    for key, value in schema.items():
        if key in MAPS and isinstance(value, dict):
            moved[key] = {name: _moved(part) for name, part in value.items()}
        elif key in DATA:
            moved[key] = value
        elif key == "$ref" and isinstance(value, str):
            moved[key] = _moved_reference(value)
        else:
            moved[key] = _moved(value)
    return moved


def _moved_reference(reference: str) -> str:
    within = reference == "#" or reference.startswith("#/")
    return _ANSWER + reference[1:] if within and not reference.startswith(_DEFINED) else reference
