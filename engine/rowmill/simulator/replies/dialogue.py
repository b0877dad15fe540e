"""What chat completions and responses have in common: messages in, something said out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from rowmill.simulator.replies import wording
from rowmill.simulator.replies.reply import CONTEXT_TOKENS, Completion, Damage, RequestError, fingerprint


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


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A tool of the request."""

    name: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class Said(msgspec.Struct, gc=False):
    """What the model says to the messages, before it is put into a route's shape."""

    text: str
    prompt_tokens: int
    tokens: int
    charge: int  # tokens that the limits are charged
    refused: bool
    cut: bool  # by the cap, or by a fault that looks so
    inputs: int
    structured: bool

    def put_into(self, body: bytes, others: Sequence["Said"] = ()) -> Completion:
        """Return the reply that says it, given its body; `others` are further choices, of the same prompt."""
        tokens = self.tokens + sum(each.tokens for each in others)
        charge = self.charge + sum(each.charge - each.prompt_tokens for each in others)
        return Completion(body, self.prompt_tokens, tokens, charge, self.inputs, self.structured)


def choices(messages: list[ChatMessage], mark: bytes, n: int, **how: Any) -> list[Said]:
    """Answer messages as often as a request asks for it; `how`: see `say`. Each choice but the first has its number.

    So what it says depends on the request and on its place alone, and no two are the same. A content fault strikes the
    first one.
    """
    others = how | {"damage": None}
    return [
        say(messages, mark, **how),
        *(say(_numbered(messages, number), fingerprint(mark + bytes([number])), **others) for number in range(1, n)),
    ]


def _numbered(messages: list[ChatMessage], number: int) -> list[ChatMessage]:
    """Return the messages with the number of a choice behind the question."""
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
    return [
        ChatMessage(message.role, f"{message.text()} #{number}") if place == last else message
        for place, message in enumerate(messages)
    ]


def say(
    messages: list[ChatMessage],
    mark: bytes,
    *,
    cap: int | None,
    mean_tokens: float,
    form: bytes | None = None,
    damage: Damage | None = None,
    param: str = "messages",
    form_param: str = "response_format",
) -> Said:
    """Answer messages of a request whose fingerprint is `mark`. Raises `RequestError` for messages that are wrong.

    form: the JSON Schema of the reply, empty for any JSON object, None for text.
    """
    texts = [message.text() for message in messages]
    prompt_tokens = wording.tokens(sum(map(len, texts)) + (len(form) if form else 0))
    if prompt_tokens > CONTEXT_TOKENS:
        raise RequestError(
            400,
            f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your {param} resulted in "
            f"{prompt_tokens} tokens. Please reduce the length of the {param}.",
            code="context_length_exceeded",
            param=param,
        )
    question = ""
    refuse = False
    for message, text in zip(messages, texts, strict=True):
        if message.role == "user":
            question = text
            if wording.FILTERED in text:
                flagged = "The prompt was flagged by the content filter."
                raise RequestError(400, flagged, code="content_filter", param="prompt")
            refuse = refuse or wording.REFUSED in text
    inputs, cut = 1, False
    structured = form is not None and not refuse
    if form is not None and not refuse:
        # Its validator takes time and memory that a run without schemas does not have to spend.
        from rowmill.simulator.replies.structured import content

        text, inputs = content([message.role for message in messages], texts, form, damage, form_param)
        cut = damage is not None and damage.struck and damage.kind == "cut"
    else:
        text = wording.REFUSAL if refuse else wording.summary(question)
        if mean_tokens and not refuse:
            wanted = wording.length(mark, mean_tokens)
            cut = cap is not None and wanted > cap
            text = wording.fitted(text, (cap if cap is not None and cut else wanted) * wording.CHARS_PER_TOKEN)
    if cap is not None and len(text) > cap * wording.CHARS_PER_TOKEN:
        text = text[: cap * wording.CHARS_PER_TOKEN]
        cut = True
    tokens = wording.tokens(len(text))
    charge = prompt_tokens + (cap if cap is not None else tokens)
    return Said(text, prompt_tokens, tokens, charge, refuse, cut, inputs, structured)


class Form(msgspec.Struct, gc=False):
    """What the reply to messages is to be.

    schema: the JSON Schema of it, empty for any JSON object, None for text. tool: the one whose arguments it is.
    """

    messages: list[ChatMessage]
    schema: bytes | None
    tool: str = ""


def wanted(messages: list[ChatMessage], schema: bytes | None, tools: Sequence[Tool], forced: str) -> Form:
    """Return what a reply is to be: by its format, by a tool that must be called, or by a schema in the last words.

    Whichever it was asked by, the reply says the same.
    """
    for tool in tools:
        if forced and tool.name == forced:
            return Form(messages, bytes(tool.parameters), forced)
    if not schema:
        for place, message in enumerate(messages):
            text, _, said = message.text().partition(_IN_WORDS)
            if said and _is_object(said):
                asked, schema = text.rpartition("\n\n")[0], said.encode()
                messages = [*messages[:place], ChatMessage(message.role, asked), *messages[place + 1 :]]
                break
    return Form(messages, schema)


_IN_WORDS = "JSON Schema:\n"


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


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
