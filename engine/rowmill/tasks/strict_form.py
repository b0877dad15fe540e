"""The JSON Schema of a Python type in the form that OpenAI's strict mode takes, in which a model cannot but keep to it.

What pydantic writes is meant for checking: what has a default may be missing, more members may be there. Strict mode
wants every object closed and every property required, and knows a part of the keywords. A reply to the stricter schema
fits the other one too, and that one is what replies are held against. What no strict schema can say, as a dict of any
keys, is left as it is: the provider then takes it as a guide.
"""

import re
from typing import Any

from rowmill.tasks.schema import MAPS, VALUE_TYPES, Document, is_strict

# Of pydantic's: what says nothing that a reply could break, and what strict mode does not know.
_DROPPED = {
    "contentEncoding", "contentMediaType", "default", "deprecated", "discriminator", "examples", "readOnly",
    "uniqueItems", "writeOnly",
}  # fmt: skip
_TOLD = ("minLength", "maxLength")  # in words: strict mode does not know them
_FORMATS = {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
_LOOKING = re.compile(r"\(\?<?[=!]")  # in a pattern: what no provider's grammar has
_TYPED = {"type", "$ref", "anyOf"}


def strict_form(document: Document) -> Document:
    """Return the schema in the strict form where it has one, else as it is."""
    made: Document = _made(document)
    return made if is_strict(made) and _all_typed(made) else document


def _made(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_made(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DROPPED or (key == "format" and value not in _FORMATS):
            continue
        if key == "pattern" and _LOOKING.search(str(value)):
            continue
        if key in _TOLD:
            made["description"] = f"{made.get('description', schema.get('description', ''))} ({key}: {value})".strip()
        elif key in MAPS and isinstance(value, dict):
            made[key] = {name: _made(part) for name, part in value.items()}
        elif key in {"const", "enum"}:
            made[key] = value
        elif key == "oneOf":
            made["anyOf"] = _made(value)
        elif key != "description" or key not in made:
            made[key] = _made(value)
    if "type" not in made and ("enum" in made or "const" in made):  # of a Literal of several types
        kinds = {VALUE_TYPES.get(type(each), "") for each in made.get("enum", [made.get("const")])}
        if "" not in kinds:  # an enum may have lists too, whose items would have to be told
            made["type"] = sorted(kinds)
    if made.get("type") == "object" and "additionalProperties" not in made and "properties" in made:
        made["additionalProperties"] = False
    if "properties" in made and made.get("additionalProperties") is False:
        made["required"] = list(made["properties"])
    if "$ref" in made and len(made) > 1:  # a reference stands alone
        reference = made.pop("$ref")
        made.pop("title", None)
        made = {"anyOf": [{"$ref": reference}], **made} if made else {"$ref": reference}
    return made


def _all_typed(schema: Any) -> bool:
    """Tell whether each part says of what type it is: strict mode wants that too."""
    if not isinstance(schema, dict):
        return False
    parts = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    if "items" in schema:
        parts.append(schema["items"])
    elif schema.get("type") == "array":
        return False
    return not _TYPED.isdisjoint(schema) and all(map(_all_typed, parts))
