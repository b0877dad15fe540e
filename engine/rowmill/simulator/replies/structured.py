"""The content of replies that have to be JSON: by a schema, for a pack of prompts, or just any object."""

from collections.abc import Sequence

import msgspec

from rowmill.simulator.replies import damage as damages
from rowmill.simulator.replies import packs, reply_schema, wording
from rowmill.simulator.replies.reply import Damage, RequestError, encode


class Content(msgspec.Struct, gc=False):
    """What a reply says."""

    text: str
    inputs: int = 1  # prompts that it answers
    damaged: bool = False


def content(roles: Sequence[str], texts: Sequence[str], form: bytes, damage: Damage | None, param: str) -> Content:
    """Answer messages by the JSON Schema in `form`; by any object, where that is empty.

    Raises `RequestError` for a schema that is none; `param` is the member of the request that it came in.
    """
    if not form:
        text = encode({"answer": wording.summary(_last_of_user(roles, texts))}).decode()
        return _finished(Content(text), damage)
    try:
        known = reply_schema.load(form)
    except reply_schema.InvalidSchemaError as error:
        raise RequestError(400, f"Invalid schema for {param}: {error}", param=param) from None
    if known.answer is not None:
        of_user = (text for role, text in zip(reversed(roles), reversed(texts), strict=True) if role == "user")
        pack = packs.prompts(of_user)
        if pack is not None:
            answers, damaged = packs.answers(known, pack), False
            if damage is not None:
                answers, damaged = damages.of_answers(damage, known, pack, answers)
            text = encode({"answers": answers}).decode()
            return _finished(Content(text, len(pack), damaged), damage)
    value, damaged = known.value(_question(roles, texts, known)), False
    if damage is not None:
        value, damaged = damages.of_value(damage, known, known.root, value)
    return _finished(Content(encode(value).decode(), 1, damaged), damage)


def _finished(made: Content, damage: Damage | None) -> Content:
    if damage is not None and not made.damaged:
        made.text, made.damaged = damages.of_text(damage, made.text)
    return made


def _last_of_user(roles: Sequence[str], texts: Sequence[str]) -> str:
    return next((text for role, text in zip(reversed(roles), reversed(texts), strict=True) if role == "user"), "")


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
