"""What chat completions and responses have in common: messages in, something said out."""

import msgspec

from rowmill.simulator.replies.reply import CONTEXT_TOKENS, Completion, Damage, RequestError, filtered, too_long
from rowmill.simulator.replies.wording import (
    CHARS_PER_TOKEN,
    FILTERED,
    REFUSAL,
    REFUSED,
    length,
    stretched,
    summary,
    tokens,
)


class ContentPart(msgspec.Struct, gc=False):
    """One part of a message's content; parts without text count as empty."""

    text: str = ""


class ChatMessage(msgspec.Struct, gc=False):
    """A message of the request."""

    role: str = ""
    content: str | list[ContentPart] | None = None

    def text(self) -> str:
        """Join the text of all parts."""
        content = self.content
        if isinstance(content, str):
            return content
        return "".join(part.text for part in content or ())


class Said(msgspec.Struct, gc=False):
    """What the model says to the messages, before it is put into a route's shape."""

    text: str
    prompt_tokens: int
    tokens: int
    refused: bool
    cut: bool  # by the cap, or by a fault that looks so
    inputs: int = 1
    structured: bool = False
    damaged: bool = False

    def charge(self, cap: int | None) -> int:
        """Tell the tokens that the limits are charged."""
        return self.prompt_tokens + (cap if cap is not None else self.tokens)

    def put_into(self, body: bytes, cap: int | None) -> Completion:
        """Return the reply that says it, given its body."""
        charge = self.charge(cap)
        return Completion(body, self.prompt_tokens, self.tokens, charge, self.inputs, self.structured, self.damaged)


def say(
    messages: list[ChatMessage],
    mark: bytes,
    *,
    cap: int | None,
    mean_tokens: float,
    form: bytes | None,
    damage: Damage | None,
    param: str = "messages",
    form_param: str = "response_format",
) -> Said:
    """Answer messages of a request whose fingerprint is `mark`. Raises `RequestError` for messages that are wrong.

    form: the JSON Schema of the reply, empty for any JSON object, None for text.
    """
    texts = [message.text() for message in messages]
    prompt_tokens = tokens(sum(map(len, texts)) + (len(form) if form else 0))
    if prompt_tokens > CONTEXT_TOKENS:
        raise too_long(prompt_tokens, param)
    question = ""
    refuse = False
    for message, text in zip(messages, texts, strict=True):
        if message.role == "user":
            question = text
            if FILTERED in text:
                raise filtered()
            if REFUSED in text:
                refuse = True
    inputs, structured, damaged, cut = 1, False, False, False
    if form is not None and not refuse:
        # Its validator takes time and memory that a run without schemas does not have to spend.
        from rowmill.simulator.replies.structured import content

        made = content([message.role for message in messages], texts, form, damage, form_param)
        text, inputs, structured, damaged = made.text, made.inputs, True, made.damaged
        cut = damage is not None and damaged and damage.kind == "cut"
    else:
        text = REFUSAL if refuse else summary(question)
        if mean_tokens and not refuse:
            wanted = length(mark, mean_tokens)
            cut = cap is not None and wanted > cap
            text = stretched(text, cap if cap is not None and cut else wanted)
    if cap is not None and len(text) > cap * CHARS_PER_TOKEN:
        text = text[: cap * CHARS_PER_TOKEN]
        cut = True
    return Said(text, prompt_tokens, tokens(len(text)), refuse, cut, inputs, structured, damaged)


def form_of(kind: str, schema: msgspec.Raw, param: str) -> bytes | None:
    """Return what the reply must be by the format of a request, as `say` wants it.

    schema: the one that the format has, empty for none; `param` is where it belongs. Raises `RequestError` where it is
    missing.
    """
    if kind != "json_schema":
        return b"" if kind == "json_object" else None
    if not bytes(schema):
        raise RequestError(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter")
    return bytes(schema)
