"""How one server wants to be asked, where it does not take what most take: a form of the requests that it is sent.

A form is learned from refusals, or set. It only ever goes one way, so that workers that learn different things of one
server come to the same: streams once they are wanted, and of the ways to ask for a schema the next one in line.
"""

from typing import Literal, get_args

import msgspec

# How a reply is asked for that fits a schema, in the order in which they are tried: by the schema itself; by any
# object, with the schema in words; by the call of a tool whose arguments the schema describes; in words alone.
SchemaForm = Literal["json_schema", "json_object", "tool", "prompt"]
SCHEMA_FORMS: tuple[SchemaForm, ...] = get_args(SchemaForm)
# What of a form a server may refuse: whole replies, to be asked for the usage of a stream, a way to ask for a schema.
FormPart = Literal["whole", "usage", "schema"]


class RequestForm(msgspec.Struct, frozen=True):
    """How requests are formed."""

    stream: bool = False  # replies are asked for as streams
    usage: bool = True  # and these for their usage
    schema: SchemaForm = "json_schema"

    def without(self, refused: FormPart) -> "RequestForm | None":
        """Return the form to be tried next where this part is refused; None where there is none."""
        match refused:
            case "whole" if not self.stream:
                return msgspec.structs.replace(self, stream=True)
            case "usage" if self.stream and self.usage:
                return msgspec.structs.replace(self, usage=False)
            case "schema" if self.schema != SCHEMA_FORMS[-1]:
                return msgspec.structs.replace(self, schema=SCHEMA_FORMS[SCHEMA_FORMS.index(self.schema) + 1])
        return None

    def joined(self, other: "RequestForm") -> "RequestForm":
        """Return the form that has what both have learned."""
        schema = max(self.schema, other.schema, key=SCHEMA_FORMS.index)
        return RequestForm(self.stream or other.stream, self.usage and other.usage, schema)

    def changed_from(self, before: "RequestForm") -> set[FormPart]:
        """Return the parts in which it differs from what it was before."""
        parts: dict[FormPart, bool] = {
            "whole": self.stream != before.stream,
            "usage": self.usage != before.usage,
            "schema": self.schema != before.schema,
        }
        return {part for part, changed in parts.items() if changed}

    @property
    def words(self) -> str:
        """What is unusual about it, for people; empty for nothing."""
        parts = ["as streams" if self.usage else "as streams without usage"] if self.stream else []
        return " and ".join([*parts, *([_SCHEMAS[self.schema]] if self.schema in _SCHEMAS else [])])


_SCHEMAS: dict[SchemaForm, str] = {
    "json_object": "for json_object, with the schema in the prompt",
    "tool": "for the call of a tool that has the schema",
    "prompt": "by the schema in the prompt alone",
}
USUAL = RequestForm()
