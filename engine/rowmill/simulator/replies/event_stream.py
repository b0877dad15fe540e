"""A reply as a stream: the same words as the whole reply has, in server-sent events."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from rowmill.simulator.replies.reply import encode

CONTENT_TYPE = "text/event-stream"
_PIECE = re.compile(r"\s*\S+\s*\Z|\s*\S+|\s+")
_DONE = b"data: [DONE]\n\n"


class _Options(msgspec.Struct, gc=False):
    include_usage: bool = False


class _Asked(msgspec.Struct, gc=False):
    stream: bool | None = None
    stream_options: _Options | None = None


class StreamWish(msgspec.Struct, frozen=True):
    """A request for a stream."""

    body: bytes  # the same request without that wish
    usage: bool  # the usage is to come as an event of its own, where it comes only if asked for


_decoder = msgspec.json.Decoder(_Asked)


def asked(path: str, body: bytes) -> StreamWish | None:
    """Return the request for a stream that a body on this route is; None where it wants its reply whole."""
    if path not in _SHAPES or b'"stream"' not in body:
        return None
    try:
        wish = _decoder.decode(body)
        if not wish.stream:
            return None
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # who answers it whole says what is wrong with it
    rest = {name: value for name, value in members.items() if name not in ("stream", "stream_options")}
    return StreamWish(encode(rest), wish.stream_options is not None and wish.stream_options.include_usage)


def events(path: str, reply: bytes, *, usage: bool) -> bytes:
    """Return the events that say what the reply of this route says."""
    return b"".join(_SHAPES[path](msgspec.json.decode(reply), usage))


def _chat(reply: dict[str, Any], usage: bool) -> Iterator[bytes]:
    head = {name: reply[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    more = {"usage": None} if usage else {}
    for choice in reply["choices"]:
        message = choice["message"]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{name: piece} for name in ("content", "refusal") for piece in _pieces(message[name])]
        for index, call in enumerate(message.get("tool_calls") or ()):
            name, text = call["function"]["name"], call["function"]["arguments"]
            begun = {**call, "index": index, "function": {"name": name, "arguments": ""}}
            deltas += [{"tool_calls": [begun]}]
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": each}}]} for each in _pieces(text)]
        for at, delta in enumerate([*deltas, {}]):
            reason = choice["finish_reason"] if at == len(deltas) else None
            chunk = {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": reason}
            yield _data({**head, "choices": [chunk], **more})
    if usage:
        yield _data({**head, "choices": [], "usage": reply["usage"]})
    yield _DONE


def _completions(reply: dict[str, Any], usage: bool) -> Iterator[bytes]:
    head = {name: reply[name] for name in ("id", "object", "created", "model", "system_fingerprint")}
    more = {"usage": None} if usage else {}
    for choice in reply["choices"]:
        for piece in [*_pieces(choice["text"]), None]:
            reason = choice["finish_reason"] if piece is None else None
            chunk = {"index": choice["index"], "text": piece or "", "logprobs": None, "finish_reason": reason}
            yield _data({**head, "choices": [chunk], **more})
    if usage:
        yield _data({**head, "choices": [], "usage": reply["usage"]})
    yield _DONE


def _responses(reply: dict[str, Any], _usage: bool) -> Iterator[bytes]:
    """All of it is in the last event, so is the usage."""
    number = -1

    def event(kind: str, **members: Any) -> bytes:
        nonlocal number
        number += 1
        told = encode({"type": kind, "sequence_number": number, **members})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), told)

    begun = {**reply, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for at, item in enumerate(reply["output"]):
        begun = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        yield event("response.output_item.added", output_index=at, item={**item, "status": "in_progress", **begun})
        for inner, part in enumerate(item.get("content", ())):
            member = "refusal" if part["type"] == "refusal" else "text"
            name = "response.refusal" if member == "refusal" else "response.output_text"
            where = {"item_id": item["id"], "output_index": at, "content_index": inner}
            logprobs: dict[str, Any] = {} if member == "refusal" else {"logprobs": []}
            yield event("response.content_part.added", **where, part={**part, member: ""})
            for piece in _pieces(part[member]):
                yield event(f"{name}.delta", **where, delta=piece, **logprobs)
            yield event(f"{name}.done", **where, **{member: part[member]}, **logprobs)
            yield event("response.content_part.done", **where, part=part)
        yield event("response.output_item.done", output_index=at, item=item)
    yield event(f"response.{reply['status']}", response=reply)


_SHAPES: dict[str, Callable[[dict[str, Any], bool], Iterator[bytes]]] = {
    "/chat/completions": _chat,
    "/completions": _completions,
    "/responses": _responses,
}


STREAMED = frozenset(_SHAPES)  # routes


def _pieces(text: str | None) -> list[str]:
    """Cut a text into words, each with the space before it."""
    return _PIECE.findall(text or "")


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % encode(chunk)
