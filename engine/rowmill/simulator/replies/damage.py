"""Content faults: replies of the right status and shape whose content is not what was asked for.

Where a kind has nothing to strike (`missing` in a schema that requires nothing, `wrong-id` outside a pack), the reply
stays as it was, and counts as good; `Damage.struck` tells.
"""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.simulator.replies.packs import Prompt
from rowmill.simulator.replies.reply import Damage
from rowmill.simulator.replies.reply_schema import ReplySchema, type_of

BEFORE = "Sure! Here is the JSON that you asked for:\n\n"
_AFTER = "\n\nLet me know if there is anything else that I can do."
_WRONG: tuple[Any, ...] = (7, "none", True, None, [], {})


class _Place(msgspec.Struct, gc=False):
    """One value inside another."""

    container: Any  # the object or array that holds it
    key: Any
    types: frozenset[str]  # JSON types that the schema allows there
    required: bool


def of_value(damage: Damage, known: ReplySchema, schema: Any, value: Any) -> Any:
    """Damage a value that fits a schema, where the damage is one of values."""
    if damage.kind not in {"wrong-type", "missing"}:
        return value
    holder = [copy.deepcopy(value)]  # its parts can belong to the schema
    whole, *inner = _places(known, schema, holder, 0, required=False)
    if damage.kind == "missing":
        places = [place for place in inner if place.required]
    else:
        places = [place for place in inner or [whole] if place.types]
    if not places:
        return value
    place = places[damage.draw % len(places)]
    if damage.kind == "missing":
        damage.struck = True
        del place.container[place.key]
        return holder[0]
    found = place.container[place.key]
    # A number in quotes is how models err most.
    likely = [str(found)] if isinstance(found, int | float) else []
    wrong = [other for other in (*likely, *_WRONG) if type_of(other) not in place.types]
    if wrong:
        damage.struck = True
        place.container[place.key] = wrong[0]
    return holder[0]


def of_answers(damage: Damage, known: ReplySchema, prompts: list[Prompt], answers: list[dict[str, Any]]) -> None:
    """Damage one answer of a pack, where the damage is one of answers."""
    at = damage.draw % len(answers)
    one = answers[at]
    match damage.kind:
        case "missing":
            del answers[at]
        case "wrong-type":
            one["answer"] = of_value(damage, known, known.answer, one["answer"])
            return
        case "duplicate":
            other = prompts[(at + 1) % len(prompts)].prompt if len(prompts) > 1 else prompts[0].prompt + " Again."
            answers.insert(at + 1, {**one, "answer": known.answer_to(other)})
        case "wrong-id":
            one["id"] = _stranger(prompts, one["id"])
        case _:
            return
    damage.struck = True


def of_text(damage: Damage, text: str) -> str:
    """Damage a content as text, where the damage is one of texts."""
    damage.struck = damage.kind in {"extra-prose", "cut"}
    if damage.kind == "extra-prose":
        return BEFORE + text + _AFTER
    return text[: len(text) // 2] if damage.struck else text


def _places(known: ReplySchema, schema: Any, container: Any, key: Any, *, required: bool) -> Iterator[_Place]:
    value = container[key]
    plain = known.resolved(schema)
    types = known.types(schema)
    yield _Place(container, key, types, required)
    if isinstance(value, dict):
        properties = plain.get("properties", {})
        for name in value:
            inner = properties.get(name, plain.get("additionalProperties"))
            yield from _places(known, inner, value, name, required=name in plain.get("required", ()))
    elif isinstance(value, list):
        first = plain.get("prefixItems", ())
        for number in range(len(value)):
            inner = first[number] if number < len(first) else plain.get("items")
            yield from _places(known, inner, value, number, required=False)


def _stranger(prompts: list[Prompt], known: Any) -> Any:
    """Make an id of the same type that no prompt has."""
    ids = [prompt.id for prompt in prompts]
    if isinstance(known, int):
        return max(one for one in ids if isinstance(one, int)) + 1
    stranger = f"{known}-x"
    while stranger in ids:
        stranger += "x"
    return stranger
