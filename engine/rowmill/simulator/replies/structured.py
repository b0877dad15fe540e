"""The content of replies that have to be JSON: by a schema, for a pack of prompts, or just any object."""

from collections.abc import Sequence
from typing import Any

from rowmill.simulator.replies import damage as damages
from rowmill.simulator.replies import packs, reply_schema, wording
from rowmill.simulator.replies.reply import Damage, RequestError, encode


def content(
    roles: Sequence[str], texts: Sequence[str], form: bytes, damage: Damage | None, param: str
) -> tuple[str, int]:
    """Answer messages by the JSON Schema in `form`; by any object, where that is empty.

    Returns the text, and how many prompts it answers. Raises `RequestError` for a schema that is none; `param` is the
    member of the request that it came in.
    """
    asked = [text for role, text in zip(roles, texts, strict=True) if role == "user"]
    value: Any
    pack = None
    if not form:
        value = {"answer": wording.summary(asked[-1] if asked else "")}
    else:
        try:
            known = reply_schema.load(form)
        except reply_schema.InvalidSchemaError as error:
            raise RequestError(400, f"Invalid schema for {param}: {error}", param=param) from None
        if known.answer is not None:
            pack = packs.prompts(reversed(asked))
        if pack is not None:
            answers = [{"id": prompt.id, "answer": known.answer_to(prompt.prompt)} for prompt in pack]
            if damage is not None:
                damages.of_answers(damage, known, pack, answers)
            value = {"answers": answers}
        else:
            value = known.value(_question(roles, texts, known))
            if damage is not None:
                value = damages.of_value(damage, known, known.root, value)
    text = encode(value).decode()
    if damage is not None and not damage.struck:
        text = damages.of_text(damage, text)
    return text, 1 if pack is None else len(pack)


def _question(roles: Sequence[str], texts: Sequence[str], known: reply_schema.ReplySchema) -> str:
    """Find the user's message to answer: the last one, but not one that complains about a reply that did not fit.

    So a question that is asked again, with the wrong reply shown, gets the answer that it would have got at first.
    An example among the messages fits the schema, and a turn of a conversation is no JSON: neither is a wrong reply.
    """
    at = len(roles) - 1
    while at >= 0 and roles[at] != "user":
        at -= 1
    while at > 1 and roles[at - 1] == "assistant" and roles[at - 2] == "user" and _is_wrong(texts[at - 1], known):
        at -= 2
    return texts[at] if at >= 0 else ""


def _is_wrong(text: str, known: reply_schema.ReplySchema) -> bool:
    return text.startswith(("{", "[", '"', damages.BEFORE)) and not known.fits(text)
