"""What `output.include` asks for of a reply beside its text, cut out of the body: members of the row's line.

They come as the server sent them, byte for byte, but `reasoning`, which is one text whatever its shape was. Of several
choices the first one that has the part counts; `choices` has them all. What a reply does not have is null.
Nothing here is called where the configuration asks for none of it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import Declined, EmptyReply
from rowmill.core.wire import Answer
from rowmill.tasks.contents import CALLS, Content, decoded_object, reasoning_of, texts_in, without_thoughts
from rowmill.tasks.replies import NULL, readable
from rowmill.tasks.rows import UNREADABLE, encode

_NOTHING = frozenset({b"", b"null", b"[]", b"{}", b'""'})
_PARAGRAPH = "\n\n"
Read = TypeVar("Read")


class _PartsMessage(msgspec.Struct, gc=False):
    tool_calls: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL


class _PartsChoice(msgspec.Struct, gc=False):
    message: msgspec.Raw = NULL
    delta: msgspec.Raw = NULL  # in the place of the message, as in a stream
    logprobs: msgspec.Raw = NULL


class _PartsReply(msgspec.Struct, gc=False):
    choices: list[msgspec.Raw] | None = None
    output: list[msgspec.Raw] | None = None  # of the responses API


class _PartsItem(msgspec.Struct, gc=False):
    type: str = "message"
    content: msgspec.Raw = NULL


class _PartsText(msgspec.Struct, gc=False):
    logprobs: list[msgspec.Raw] | None = None


def keeping(parse: Callable[[bytes], Answer], parts: Sequence[ReplyPart]) -> Callable[[bytes], Answer]:
    """Return a reader whose answers have these parts in `more`, and so have refusals and replies without an answer."""

    def parse_keeping(body: bytes) -> Answer:
        try:
            answer = parse(body)
        except (Declined, EmptyReply) as error:
            error.more = cut(body, parts)
            raise
        return msgspec.structs.replace(answer, more=cut(body, parts))

    return parse_keeping


def cut(body: bytes, parts: Iterable[ReplyPart]) -> bytes:
    """Return the parts of a reply as JSON members, a comma before each: `,"reasoning":"...","tool_calls":null`."""
    body = readable(body)
    try:
        reply = _decode_reply(body)
    except UNREADABLE:  # a shape of its own, whose text was found all the same
        reply = _PartsReply()
    found = _of_items(reply.output) if reply.choices is None and reply.output is not None else _of_choices(reply)
    return b"".join(b',"%b":%b' % (part.encode(), found[part]()) for part in parts)


def _of_choices(reply: _PartsReply) -> dict[ReplyPart, Callable[[], bytes]]:
    """Return what reads each part of a chat completion, or of a completion."""
    raw = [bytes(each) for each in reply.choices or ()]
    choices = [_read(_decode_choice, each) or _PartsChoice() for each in raw]
    both = list(zip(choices, raw, strict=True))

    def message() -> bytes:
        # A completion has no message; its choice is all that there is of it.
        return _first(
            _message(choice) if _message(choice) != b"null" or b'"message"' in whole else whole
            for choice, whole in both
        )

    def tool_calls() -> bytes:
        return _first(_calls(_message(choice)) for choice in choices)

    def reasoning() -> bytes:
        return _first(encode(_thoughts(each)) for each in raw)

    def everything() -> bytes:
        return b"[%b]" % b",".join(raw) if raw else b"null"

    return {
        "reasoning": reasoning,
        "tool_calls": tool_calls,
        "logprobs": lambda: _first(bytes(choice.logprobs) for choice in choices),
        "choices": everything,
        "message": message,
    }


def _message(choice: _PartsChoice) -> bytes:
    message = bytes(choice.message)
    return bytes(choice.delta) if message == b"null" else message


def _calls(message: bytes) -> bytes:
    read = _read(_decode_message, message)
    if read is None:
        return b"null"
    if (calls := bytes(read.tool_calls)) not in _NOTHING:
        return calls
    if (call := bytes(read.function_call)) not in _NOTHING:  # as calls were before there were several
        return b'[{"type":"function","function":%b}]' % call
    return b"null"


def _thoughts(choice: bytes) -> str:
    read = decoded_object(choice)
    message = read.get("message") or read.get("delta")
    if isinstance(message, dict) and (thought := reasoning_of(message)):
        return thought
    # Beside the message, as some servers have it; or of a completion, whose text may begin with a block of them.
    return reasoning_of({"content": read.get("text"), **{key: read[key] for key in read if key != "content"}})


def _of_items(items: list[msgspec.Raw]) -> dict[ReplyPart, Callable[[], bytes]]:
    """Return what reads each part of a response."""
    raw = [bytes(each) for each in items]
    read = [_read(_decode_item, each) or _PartsItem("") for each in raw]

    def tool_calls() -> bytes:
        calls = [each for each, item in zip(raw, read, strict=True) if item.type in CALLS]
        return b"[%b]" % b",".join(calls) if calls else b"null"

    def reasoning() -> bytes:
        thoughts: list[str] = []
        for each, item in zip(raw, read, strict=True):
            if item.type == "reasoning":
                thoughts += _item_thoughts(decoded_object(each))
            elif item.type == "message":
                content = Content(decoded_object(each).get("content"))
                thoughts += [*content.thoughts, without_thoughts(content.text)[1]]
        return _first([encode(_PARAGRAPH.join(filter(None, thoughts)))])

    def logprobs() -> bytes:
        found: list[bytes] = []
        for item in read:
            for part in _read(_decode_list, bytes(item.content)) or ():
                text = _read(_decode_text, bytes(part))
                found += [bytes(each) for each in (text.logprobs if text is not None else None) or ()]
        return b"[%b]" % b",".join(found) if found else b"null"

    return {
        "reasoning": reasoning,
        "tool_calls": tool_calls,
        "logprobs": logprobs,
        "choices": lambda: b"null",
        "message": lambda: b"[%b]" % b",".join(raw) if raw else b"null",
    }


def _item_thoughts(item: dict[str, Any]) -> list[str]:
    """Return the paragraphs of a reasoning item: those of its summary, then those of its text."""
    thoughts = []
    for key in ("summary", "content"):
        value = item.get(key)
        thoughts += [texts_in(each) for each in (value if isinstance(value, list) else [value])]
    return thoughts if any(thoughts) else [texts_in(item)]


def _first(parts: Iterable[bytes]) -> bytes:
    return next((part for part in parts if part not in _NOTHING), b"null")


def _read(decode: Callable[[bytes], Read], raw: bytes) -> Read | None:
    try:
        return decode(raw)
    except UNREADABLE:
        return None


_decode_reply = msgspec.json.Decoder(_PartsReply).decode
_decode_choice = msgspec.json.Decoder(_PartsChoice).decode
_decode_message = msgspec.json.Decoder(_PartsMessage).decode
_decode_item = msgspec.json.Decoder(_PartsItem).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(_PartsText).decode
