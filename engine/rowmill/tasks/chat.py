"""Chat completions: `POST /chat/completions`, of which the text of the choice is the answer, or those of several."""

from collections.abc import Sequence
from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, Declined, EmptyReply
from rowmill.core.wire import Answer
from rowmill.tasks import replies
from rowmill.tasks.api import Api
from rowmill.tasks.contents import Content, beside, decoded_object, filtered, listed, reasoning_of
from rowmill.tasks.conversation import Parts, with_system
from rowmill.tasks.replies import (
    ERROR_BESIDE,
    NULL,
    Count,
    Details,
    Outside,
    believed,
    counted,
    decoded_mended,
    is_error,
)
from rowmill.tasks.rows import UNREADABLE, encode


class _ReplyMessage(msgspec.Struct, gc=False):
    content: msgspec.Raw = NULL
    refusal: Any = None
    tool_calls: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL  # as calls were before there were several
    audio: msgspec.Raw = NULL
    images: msgspec.Raw = NULL


class _ChatChoice(msgspec.Struct, gc=False):
    message: _ReplyMessage | None = None
    finish_reason: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _OddChoice(msgspec.Struct, gc=False):
    """A choice whose message stands under another name."""

    delta: _ReplyMessage | None = None  # as in a stream
    text: msgspec.Raw = NULL  # as of a completion
    content: msgspec.Raw = NULL


class _PlacedChoice(msgspec.Struct, gc=False):
    index: int


class _PlacedCompletion(msgspec.Struct, gc=False):
    choices: list[_PlacedChoice]


class _OddCompletion(msgspec.Struct, gc=False):
    choices: list[_OddChoice]


class _ChatCompletion(Outside, gc=False, kw_only=True):
    choices: list[_ChatChoice]


class _ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    prompt_tokens_details: Details | None = None


def parse(body: bytes) -> Answer:
    """Read the body of a 2xx reply. Raises `BadReply` where it is none, `Declined` where the model declined."""
    try:
        if not body.isascii():
            body.decode()  # raw members are passed on unread; what is no UTF-8 must not reach the output
        completion = _decode_completion(body)
        choices = completion.choices
        choice = choices[0]
    except UNREADABLE:
        completion, body = _read_odd(body)
        choices = completion.choices
        choice = choices[0] if choices else _no_choice(body)
    except IndexError:
        choice = _no_choice(body)
    # A sum of bytes, which is what they are then, takes a third of the time of `bytes`.
    message, finish_reason = choice.message, b"" + choice.finish_reason
    output = b"" if message is None else b"" + message.content
    # A member that is not there is the default itself. A reply that is one text, as nearly all are, is not looked at.
    if (
        len(output) <= _NO_TEXT_BYTES
        or output[0] != _QUOTE
        or message.tool_calls is not NULL  # type: ignore[union-attr]  # there is a content
        or message.function_call is not NULL  # type: ignore[union-attr]
        or message.audio is not NULL  # type: ignore[union-attr]
        or message.images is not NULL  # type: ignore[union-attr]
        or message.refusal  # type: ignore[union-attr]
        or (choice.error is not NULL and is_error(choice.error))
        or (completion.error is not NULL and is_error(completion.error))
        or len(choices) > 1
    ):
        believed(completion)
        output, finish_reason = unusual(body, choices or [choice])
    model, usage = b"" + completion.model, b"" + completion.usage
    try:
        tokens = _decode_usage(usage)
    except msgspec.DecodeError:  # null, or a shape of its own
        return Answer(output, finish_reason, model, usage, *counted(usage))
    prompt_tokens = tokens.prompt_tokens
    details = tokens.prompt_tokens_details
    cached = details.cached_tokens if details is not None else 0
    return Answer(
        output,
        finish_reason,
        model,
        usage,
        prompt_tokens,
        tokens.completion_tokens,
        min(cached, prompt_tokens) if cached else 0,
    )


def unusual(body: bytes, choices: Sequence[_ChatChoice]) -> tuple[bytes, bytes]:
    """Return the output and the finish reason of a reply that is not one text and nothing beside it.

    Where several choices have an answer it is a list of all, with the reason of the first that has one; else it is
    that of the one that has. Raises as `parse` does.
    """
    if len(choices) == 1:
        return _output(body, choices[0], 0)
    order = _order(body, len(choices))
    trouble: BadReply | Declined | None = None
    found: list[tuple[bytes, bytes]] = []
    outputs: list[bytes] = []
    for place in order:
        try:
            one = _output(body, choices[place], place)
        except (BadReply, Declined) as error:
            # Of whom one has an answer and others decline or fail, the answer is what was asked for.
            trouble = trouble or error
            outputs.append(beside(b"null", {"refusal": encode(str(error))}) if isinstance(error, Declined) else b"null")
        else:
            found.append(one)
            outputs.append(one[0])
    if not found:
        assert trouble is not None, "there is a choice"
        raise trouble
    return found[0] if len(found) == 1 else (listed(outputs), found[0][1])


def _order(body: bytes, choices: int) -> list[int]:
    """Return the places of choices in the order that they say themselves, as a stream's are put together."""
    try:
        indexes = [choice.index for choice in _decode_order(body).choices]
    except UNREADABLE:
        indexes = []
    return sorted(range(choices), key=indexes.__getitem__) if len(set(indexes)) == choices else list(range(choices))


def _output(body: bytes, choice: _ChatChoice, place: int) -> tuple[bytes, bytes]:
    """Return what stands for the text of a choice, and why it ends."""
    message, reason = choice.message, bytes(choice.finish_reason)
    if is_error(choice.error):
        raise BadReply(ERROR_BESIDE)
    if message is None:
        message = _elsewhere(body, place)
    if message is None:
        if reason == b"null" or b'"text"' in body:
            raise BadReply("no chat completion: its choice has no message")
        message = _ReplyMessage()
    text, refusal = bytes(message.content), ""
    if text[:1] in (b"[", b"{"):
        content = Content(_decode_any(text))
        refusal = content.refusal
        if not content.other:
            text = encode(content.text) if content.texts else b"null"
    # Any other is a text, none, or a number or a truth value, which the server has read out of the text already.
    if isinstance(message.refusal, str):
        refusal = refusal or message.refusal
    members = {
        name: value
        for name in ("tool_calls", "function_call", "audio", "images")
        if (value := bytes(getattr(message, name))) not in _NOTHING
    }
    if refusal and (members or text not in _NOTHING):
        members["refusal"] = encode(refusal)
    if members:
        return beside(text, members), reason
    if text not in _NOTHING:
        return text, reason
    if refusal:
        raise Declined(refusal)
    if filtered(reason):
        return b'""', b'"content_filter"'  # a result, and finish_reason says so
    if reason == b'"length"':
        return b'""', reason  # cut before the first word: as well
    thoughts = reasoning_of(_message_in(body, place))
    if text == b'""' and not thoughts:
        return text, reason
    if thoughts:
        raise EmptyReply(f"{_NO_CONTENT}: only reasoning, of {len(thoughts)} characters", encode(thoughts))
    raise EmptyReply(_NO_CONTENT)


def _no_choice(body: bytes) -> _ChatChoice:
    """Return the choice of a reply without any, where a filter has held it back."""
    reply = decoded_object(body)
    for held_back in map(reply.get, _HELD_BACK):
        if held_back and any(
            word in encode(held_back) for word in (b'"filtered":true', b'lock_reason"', b'lockReason"')
        ):
            return _ChatChoice(_ReplyMessage(), msgspec.Raw(b'"content_filter"'))
    # As Gemini has it where the prompt was blocked, and says no more: a property of the row.
    raise EmptyReply(_NO_CHOICES) if is_whole(reply) else BadReply(_NO_CHOICES)


def is_whole(reply: dict[str, Any]) -> bool:
    """Whether a reply without an answer is a completion in all else, so that nothing broke off."""
    return isinstance(reply.get("usage"), dict) or str(reply.get("object")).endswith("completion")


def _read_odd(body: bytes) -> tuple[_ChatCompletion, bytes]:
    """Read a reply that is no completion as it is; without choices where it has none, and is one else."""
    try:
        return decoded_mended(_decode_completion, body, "chat completion")
    except BadReply:
        reply = decoded_object(body)
        if reply.get("choices") is None and (_HELD_BACK & reply.keys() or is_whole(reply)):
            outside = msgspec.json.decode(body, type=Outside)
            return _ChatCompletion(model=outside.model, usage=outside.usage, choices=[]), body
        raise


def _elsewhere(body: bytes, place: int) -> _ReplyMessage | None:
    """Return the message of a choice that has it under another name; None where there is none."""
    try:
        choices = _decode_odd(body).choices
    except UNREADABLE:
        return None
    choice = choices[place] if place < len(choices) else _OddChoice()
    if choice.delta is not None:
        return choice.delta
    text = next((bytes(each) for each in (choice.text, choice.content) if bytes(each) != b"null"), b"")
    return _ReplyMessage(msgspec.Raw(text)) if text else None


def _message_in(body: bytes, place: int) -> dict[str, Any]:
    choices = decoded_object(body).get("choices")
    choice = choices[place] if isinstance(choices, list) and place < len(choices) else None
    message = (choice.get("message") or choice.get("delta")) if isinstance(choice, dict) else None
    return message if isinstance(message, dict) else {}


class Chat(Api):
    """The API as tasks know it. The rows of a request are told apart by `packing`."""

    caps = ("max_completion_tokens", "max_tokens")
    member = "messages"
    parts = Parts(
        text=lambda text: {"type": "text", "text": text},
        image=lambda url: {"type": "image_url", "image_url": {"url": url}},
    )
    parse = staticmethod(parse)

    def plain(self, config: TaskConfig) -> tuple[str, Any]:
        """Return the messages with null in the prompt's place."""
        system = [] if config.system is None else [{"role": "system", "content": config.system}]
        return self.member, [*system, {"role": "user", "content": None}]

    def content(self, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:
        """Return the messages of one row."""
        return {self.member: with_system(system, question)}


_QUOTE = ord('"')
_NO_TEXT = b'""'
_NO_TEXT_BYTES = len(_NO_TEXT)
_NOTHING = frozenset({b"null", b"[]", b"{}", _NO_TEXT})
_NO_CONTENT = "a chat completion without content"
_decode_completion = msgspec.json.Decoder(_ChatCompletion).decode
_HELD_BACK = frozenset({"prompt_filter_results", "promptFeedback", "prompt_feedback"})
_NO_CHOICES = "a chat completion without choices"
_decode_odd = msgspec.json.Decoder(_OddCompletion).decode
_decode_order = msgspec.json.Decoder(_PlacedCompletion).decode
_decode_usage = msgspec.json.Decoder(_ChatUsage).decode


def _decode_any(raw: bytes) -> Any:
    return replies.decoded(msgspec.json.decode, raw, "chat completion")
