"""Values that fit a JSON Schema, made from a question alone.

Every choice (an item of an enum, a number, a character) is drawn from a digest of the question and of the place in the
value, so the same question gets the same value, and strings carry words and the digest of it: whose answer a value is
can be seen. A recursive schema ends because below `_DEEP` levels optional members and items are left out.

Known gaps: `not`, `if`, `dependent...`, `contains` and `patternProperties` are not looked at, nor are references to
other documents or anchors. A schema that needs those may get a value that does not fit it.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from math import ceil, floor
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from rowmill.simulator.replies import pattern, wording
from rowmill.simulator.replies.reply import encode

_DEEP = 5
_DEEPEST = 60  # no value fits a schema that requires itself; this one is cut off
_HOPS = 32  # references and alternatives that lead to one another
_ITEMS = 2  # of an array that says nothing else
_WORDS = 6
_WIDTH = 100  # of a range with one end
_TELLS = {  # a keyword that only makes sense for one type -> that type
    "properties": "object", "required": "object", "additionalProperties": "object", "minProperties": "object",
    "items": "array", "prefixItems": "array", "minItems": "array", "maxItems": "array", "uniqueItems": "array",
    "pattern": "string", "format": "string", "minLength": "string", "maxLength": "string",
    "minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
    "multipleOf": "number",
}  # fmt: skip
_LOWS, _HIGHS = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_TYPES = {
    dict: "object", list: "array", str: "string", float: "number", int: "integer", bool: "boolean", type(None): "null",
}  # fmt: skip
_ANY = frozenset(_TYPES.values())


class InvalidSchemaError(Exception):
    """It is no JSON Schema; the text says why."""


@lru_cache(maxsize=64)
def load(text: bytes) -> "ReplySchema":
    """Read a schema, given as JSON text. Raises `InvalidSchemaError`. A run repeats its own in every request."""
    root = msgspec.json.decode(text)
    if not isinstance(root, dict):
        raise InvalidSchemaError("schema must be a JSON Schema of 'type: \"object\"'")
    try:
        # Offline: no request may make this machine fetch what a reference names.
        validator = jsonschema_rs.validator_for(root, offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise InvalidSchemaError(str(error).splitlines()[0]) from None
    return ReplySchema(root, validator)


class ReplySchema:
    """A JSON Schema. Holds no state of any request."""

    def __init__(self, root: dict[str, Any], validator: jsonschema_rs.Validator) -> None:
        self.root = root
        self.answer = self._of_answers()  # of the answer to one prompt of a pack; None: this is no schema of a pack
        self._validator = validator

    def value(self, question: str) -> Any:
        """Make the value that answers the question."""
        return _Maker(self, question).value(self.root, "", 0)

    def answer_to(self, prompt: str) -> Any:
        """Make the answer to one prompt of a pack: of a text without any rule, what is said to the prompt alone."""
        plain = self.resolved(self.answer).keys() <= {"type", "title", "description"}
        if plain and "string" in self.types(self.answer):
            return wording.summary(prompt)
        return _Maker(self, prompt).value(self.answer, "", 0)

    def fits(self, text: str) -> bool:
        """Tell whether a text is JSON that the schema allows."""
        try:
            return self._validator.is_valid(msgspec.json.decode(text))
        except msgspec.DecodeError:
            return False

    def resolved(self, schema: Any, *, shallow: bool = False) -> dict[str, Any]:
        """Follow references and take the first alternatives, until what is left is a plain schema.

        shallow: take the alternative `null` where there is one.
        """
        for _ in range(_HOPS):
            if not isinstance(schema, dict):
                return {}
            if (reference := schema.get("$ref")) is not None:
                schema = _merged(_without(schema, "$ref"), self._target(reference))
            elif parts := schema.get("allOf"):
                schema = _without(schema, "allOf")
                for part in parts:
                    schema = _merged(schema, part)
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                nulls = (option for option in options if shallow and option == {"type": "null"})
                schema = _merged(_without(schema, "anyOf", "oneOf"), next(nulls, options[0]))
            else:
                return schema
        return {}

    def types(self, schema: Any, hops: int = _HOPS) -> frozenset[str]:
        """Name the JSON types that a value may have there, over all alternatives."""
        if not isinstance(schema, dict) or hops == 0:
            return _ANY
        found = _ANY
        if "const" in schema or "enum" in schema:
            found &= {type_of(value) for value in schema.get("enum", [schema.get("const")])}
        if "type" in schema:
            named = schema["type"]
            found &= set(named) if isinstance(named, list) else {named}
        if "$ref" in schema:
            found &= self.types(self._target(schema["$ref"]), hops - 1)
        for part in schema.get("allOf", ()):
            found &= self.types(part, hops - 1)
        for options in (schema.get("anyOf"), schema.get("oneOf")):
            if options:
                found &= frozenset().union(*(self.types(option, hops - 1) for option in options))
        return found | {"integer"} if "number" in found else found

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        at: Any = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
                at = at[int(key)]
            else:
                at = at.get(key, {}) if isinstance(at, dict) else {}
        return at

    def _of_answers(self) -> Any:
        answers = self.resolved(self.resolved(self.root).get("properties", {}).get("answers"))
        item = self.resolved(answers.get("items")).get("properties", {})
        return item["answer"] if "id" in item and "answer" in item else None


def type_of(value: Any) -> str:
    """Name a value's JSON type; of whole numbers the narrower one."""
    return _TYPES[type(value)]


def _without(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in keys}


def _merged(one: dict[str, Any], other: Any) -> dict[str, Any]:
    if not isinstance(other, dict):
        return one
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


class _Maker:
    """Makes the values of one question. A place in the value is named by its path, as "/authors/0/name"."""

    def __init__(self, schema: ReplySchema, question: str) -> None:
        self._schema = schema
        self._key = blake2b(question.encode(), digest_size=32).digest()
        self._words = wording.telling(question, _WORDS)
        self._mark = f"[{wording.digest(question)}]"

    def value(self, schema: Any, path: str, depth: int) -> Any:
        """Make the value at a place."""
        plain = self._schema.resolved(schema, shallow=depth > _DEEP)
        if depth > _DEEPEST:
            return None
        if "const" in plain:
            return plain["const"]
        if options := plain.get("enum"):
            return options[self._draw(path, len(options))]
        match _type(plain):
            case "object":
                return self._object(plain, path, depth)
            case "array":
                return self._array(plain, path, depth)
            case "integer":
                return self._integer(plain, path)
            case "number":
                return self._number(plain, path)
            case "boolean":
                return bool(self._draw(path, 2))
            case "null":
                return None
        return self._string(plain, path)

    def _draw(self, path: str, below: int) -> int:
        return int.from_bytes(blake2b(path.encode(), key=self._key, digest_size=8).digest()) % below

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", [])
        others = schema.get("additionalProperties", {})
        names = [name for name in properties if depth < _DEEP or name in required]
        names += [name for name in required if name not in properties]
        least = max(schema.get("minProperties", 0), 0 if properties or others in ({}, False, True) else 1)
        names += [f"entry {number}" for number in range(1, least - len(names) + 1)]
        return {name: self.value(properties.get(name, others), f"{path}/{name}", depth + 1) for name in names}

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", max(_ITEMS, schema.get("minItems", 0)))
        first = schema.get("prefixItems", [])
        items = schema.get("items", {})
        wanted = least if depth >= _DEEP else min(most, max(_ITEMS, len(first), least))
        if items is False:
            wanted = min(wanted, len(first))
        unique = schema.get("uniqueItems")
        made: dict[Any, Any] = {}  # by their JSON, where they have to be unique
        for number in range(wanted * 20 if unique else wanted):
            item = self.value(first[number] if number < len(first) else items, f"{path}/{number}", depth + 1)
            made.setdefault(encode(item) if unique else number, item)
            if len(made) == wanted:
                break
        return list(made.values())

    def _integer(self, schema: dict[str, Any], path: str) -> int:
        low, high = _bounds(schema)
        step = max(1, int(schema.get("multipleOf", 1)))
        if low is None:
            low = 0 if high is None else min(0, high - _WIDTH)
        if high is None:
            high = low + _WIDTH * step
        least, most = ceil(low / step), floor(high / step)
        least += least * step == schema.get("exclusiveMinimum")
        most -= most * step == schema.get("exclusiveMaximum")
        return (least + self._draw(path, max(1, most - least + 1))) * step

    def _number(self, schema: dict[str, Any], path: str) -> float:
        if "multipleOf" in schema:
            step = schema["multipleOf"]
            scaled = {key: schema[key] / step for key in (*_LOWS, *_HIGHS) if key in schema}
            return float(self._integer(scaled, path) * step)
        low, high = _bounds(schema)
        if low is None:
            low = 0 if high is None or high > 0 else high - _WIDTH
        if high is None:
            high = low + _WIDTH
        number = round(low + (high - low) * self._draw(path, 101) / 100, 2)
        if low < number < high or (number == low != schema.get("exclusiveMinimum")):
            return number
        return (low + high) / 2

    def _string(self, schema: dict[str, Any], path: str) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        text: str | None = None
        if "pattern" in schema:
            stream = self._stream(path)
            text = pattern.fitting(schema["pattern"], lambda below: next(stream) % below, least, most)
        elif "format" in schema:
            text = pattern.formatted(schema["format"], self._draw(path, 1 << 64))
        if text is None:
            text = self._telling(path)
            if len(text) < least:
                return wording.fitted(text, least)
            if most is not None and len(text) > most:
                # A mark that is cut on its left would not begin with its bracket: plain digits are as good.
                return wording.fitted(text, most) if most > len(self._mark) else self._mark.strip("[]")[:most]
        return text

    def _telling(self, path: str) -> str:
        """Name the place and the question, on one line."""
        names = [name for name in path.split("/") if name]
        name = " ".join(names[-2:]) if names and names[-1].isdecimal() else "".join(names[-1:])
        return f"{name}: {self._words} {self._mark}" if name else f"{self._words} {self._mark}"

    def _stream(self, path: str) -> Iterator[int]:
        for count in range(1 << 30):
            yield from blake2b(f"{path} {count}".encode(), key=self._key).digest()


def _type(schema: dict[str, Any]) -> str:
    named = schema.get("type")
    if isinstance(named, list):
        named = next((name for name in named if name != "null"), "null")
    if isinstance(named, str):
        return named
    return next((tells for keyword, tells in _TELLS.items() if keyword in schema), "string")


def _bounds(schema: dict[str, Any]) -> tuple[float | None, float | None]:
    lows = [schema[key] for key in _LOWS if key in schema]
    highs = [schema[key] for key in _HIGHS if key in schema]
    return max(lows, default=None), min(highs, default=None)
