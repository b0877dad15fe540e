"""A stream of events in the place of a reply: put together to the reply that it would have been.

So it goes where a provider is asked for streams, and where a server streams although nobody asked. The events of one
reply are put together as a client that streams would: texts one behind the other, calls by their `index`, of everything
else what was said first, or, of what a choice or a reply ends with, last. A stream that ends before its reply does is
none, and one with an error in it is that error: never half an answer.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.core.errors import BadReply
from rowmill.tasks.mended import mended_text, text_in

_BEGINS = re.compile(r"\s*(?:data|event|id|retry|error)?:")  # as a body begins that is a stream
_COMMENTS = re.compile(r"\A(?:\s*:[^\n]*\n)+\s*(?=\{)")  # they have kept the connection alive before a whole reply
_DONE = "[DONE]"  # said behind the last event
# The whole reply is in the event that it ends with, or nearly.
_RESPONSE_ENDS = (
    "response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done",
)  # fmt: skip
# Said once, or again with every event: never in pieces.
_NAMES = frozenset({
    "created", "format", "id", "index", "model", "name", "object", "provider", "role", "service_tier",
    "system_fingerprint", "type",
})  # fmt: skip
_LAST = frozenset({"finish_reason", "stop_reason", "usage"})  # null, or empty, until they are known
_PARTS = frozenset({"text", "output_text", "thinking", "reasoning.text", "reasoning.summary"})  # that come in pieces
_CHUNK = ".chunk"  # behind the kind of a reply that an event is a piece of
_ENDS_EARLY = "a stream of events that ends before the reply does"


def is_stream(text: str) -> bool:
    """Whether a body is a stream of events."""
    return _BEGINS.match(text) is not None


def without_comments(text: str) -> str:
    """Return the whole reply behind comments as streams have them; any other text as it is."""
    return _COMMENTS.sub("", text)


def whole_reply(body: bytes, *, choices: int = 1) -> bytes:
    """Return the reply that a stream holds; any other body as it is. Raises `BadReply` as `assembled` does."""
    if body[:1] == b"{" or not is_stream(text := without_comments(text_in(body))):
        return body
    return encoded(assembled(text, choices=choices))


def encoded(reply: dict[str, Any]) -> bytes:
    """Return a reply as JSON that any reader takes."""
    try:
        return msgspec.json.encode(reply)
    except UnicodeEncodeError:  # half of a surrogate pair, as a server has cut its text
        return mended_text(json.dumps(reply)).encode()


def assembled(text: str, *, choices: int = 1) -> dict[str, Any]:
    """Return the reply that a stream holds, or the error. Raises `BadReply` where it is not whole.

    choices: as many were asked for; without the word that there are no more, so many must have come to their ends.
    """
    reply: dict[str, Any] = {}
    found: dict[Any, dict[str, Any]] = {}
    response = _ResponsePieces()
    done = False
    for event in _events(text):
        if event is None:
            done = True
            continue
        if done:  # nothing that is said now is of the reply, but what it has cost
            _add(reply, {"usage": reply.get("usage") or event.get("usage")})
            continue
        if error := _error_in(event):
            return error
        if str(event.get("type")).startswith("response."):
            if (last := response.add(event)) is not None:
                return last
            continue
        for choice in event.pop("choices", None) or []:
            if isinstance(choice, dict):
                delta = choice.pop("delta", None)
                piece = {**choice, "message": delta} if isinstance(delta, dict) else choice
                _add(found.setdefault(_place(choice.get("index")), {}), piece)
        _add(reply, event)
    ended = len(found) >= choices and all(choice.get("finish_reason") for choice in found.values())
    if not found or not (done or ended):
        raise BadReply(_ENDS_EARLY)
    return {**_whole(reply), "choices": [_choice(found[place]) for place in sorted(found)]}


def _whole(reply: dict[str, Any]) -> dict[str, Any]:
    """Return what a reply says beside its choices, as it would have been said at once."""
    reply.pop("obfuscation", None)  # OpenAI's, of each event
    groq = reply.get("x_groq")
    if not reply.get("usage") and isinstance(groq, dict) and groq.get("usage"):
        reply["usage"] = groq["usage"]
    whole: dict[str, Any] = _joined(reply)
    if str(whole.get("object")).endswith(_CHUNK):
        whole["object"] = whole["object"].removesuffix(_CHUNK)
    return whole


def _place(index: Any) -> int:
    """Return the number of a choice; of one that has none, 0."""
    return int(index) if str(index).isdecimal() else 0


class _ResponsePieces:
    """What the events of the responses API have said so far."""

    def __init__(self) -> None:
        self._items: dict[Any, dict[str, Any]] = {}
        self._texts: dict[tuple[Any, str], list[str]] = {}  # by item, and what they are of it

    def add(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Take an event; returns the reply where this is its end."""
        kind, place = event["type"], event.get("output_index", 0)
        if kind == "response.output_item.done" and isinstance(event.get("item"), dict):
            self._items[place] = event["item"]
        elif kind in ("response.output_text.delta", "response.refusal.delta") and isinstance(event.get("delta"), str):
            self._texts.setdefault((place, kind), []).append(event["delta"])
        elif kind in _RESPONSE_ENDS and isinstance(event.get("response"), dict):
            response: dict[str, Any] = event["response"]
            if not response.get("output"):  # of servers that do not repeat what they have said
                response["output"] = self._said()
            return response
        return None

    def _said(self) -> list[dict[str, Any]]:
        items = dict(self._items)
        for (place, kind), pieces in self._texts.items():
            refusal = kind == "response.refusal.delta"
            part = {"type": "refusal", "refusal": "".join(pieces)} if refusal else {
                "type": "output_text", "text": "".join(pieces),
            }  # fmt: skip
            items.setdefault(place, {"type": "message", "role": "assistant", "content": [part]})
        return [items[place] for place in sorted(items, key=lambda each: each if type(each) is int else 0)]


def _error_in(event: dict[str, Any]) -> dict[str, Any]:
    """Return the error that an event is, or has; nothing for any other."""
    error = event.get("error")
    if isinstance(error, dict) and not any(error.values()):
        error = None  # an object without a word in it
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) and not error else ():
        if isinstance(choice, dict) and isinstance(choice.get("error"), dict):
            error = choice["error"]
    if error:
        return {**{name: value for name, value in event.items() if name != "choices"}, "error": error}
    if event.get("type") == "error" or event.get("object") == "error":  # of the responses API; of older vLLM
        return {"error": {name: value for name, value in event.items() if name not in ("type", "error")}}
    return {}


def _events(text: str) -> Iterator[dict[str, Any] | None]:
    """Yield what each event holds; None for the word that there are no more, behind which no event is broken."""
    data = name = ""
    done = False
    for raw in re.split(r"\r\n|\n|\r", text):
        line = raw.lstrip(" \t")
        if not line:
            if data and name == "error":  # in plain words
                yield {"error": {"message": data.strip()}}
                return
            data = _begun(data)
            name = ""
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        if line.startswith("error:"):  # llama.cpp's
            said = line.removeprefix("error:").strip()
            yield {"error": _decoded(said) or {"message": said}}
            return
        if not line.startswith("data:"):
            continue
        data = _begun(data) + line.removeprefix("data:")
        if data.strip().strip('"') == _DONE:
            done = True
            data = ""
            yield None
            continue
        event = _decoded(data)
        if event is None:
            continue  # goes on in the next line, or is broken
        data = ""
        if isinstance(event, dict):
            yield event if name != "error" or "error" in event else {"error": event}
    if data and not done:
        raise BadReply("a stream of events that is cut off, or broken")


def _begun(data: str) -> str:
    """Return data that may go on, or are broken; nothing for words that keep the connection alive, as "ping"."""
    return data if data.lstrip()[:1] in ("{", "[") else ""


def _decoded(data: str) -> Any:
    """Return what the data of an event are; None where they are no JSON, or not yet."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    except RecursionError:
        return None
    try:
        return json.loads(data, strict=False)
    except (ValueError, RecursionError):
        return None


class _Text(list[str]):
    """A text in pieces: to join each to those before it would take the square of their number."""


def _add(whole: dict[str, Any], piece: dict[str, Any], *, message: bool = False) -> None:
    """Put a piece to what came before. message: its texts are pieces; beside it only the text of a completion is."""
    for key, value in piece.items():
        before = whole.get(key)
        if value is None or (key in _LAST and not value):
            whole.setdefault(key, None)
        elif before in (None, "") or key in _LAST:  # Azure's first event names no model
            whole[key] = value
        elif isinstance(value, str):
            if type(before) is _Text:
                before.append(value)
            elif isinstance(before, str) and (message or key == "text") and key not in _NAMES:
                whole[key] = _Text((before, value))
            elif isinstance(before, list) and message:
                _add_elements(before, _parts(value), message=True)
        elif isinstance(before, dict) and isinstance(value, dict):
            _add(before, value, message=message or key == "message")
        elif isinstance(value, list):
            if isinstance(before, str | _Text):  # Mistral's parts, behind a text
                before = whole[key] = _parts(before)
            if isinstance(before, list):
                _add_elements(before, value, message=message)


def _parts(text: "str | _Text") -> list[Any]:
    text = "".join(text)
    return [{"type": "text", "text": text}] if text else []


def _add_elements(whole: list[Any], pieces: list[Any], *, message: bool) -> None:
    for piece in pieces:
        same = _gone_on_with(whole, piece) if isinstance(piece, dict) else None
        if same is None:
            whole.append(piece)
        else:
            _add(same, piece, message=message)


def _gone_on_with(whole: list[Any], piece: dict[str, Any]) -> dict[str, Any] | None:
    """Return the element that a piece belongs to; None where it begins another one.

    Not every server numbers its calls, and some give all the same number.
    """
    index, id_ = piece.get("index"), piece.get("id")
    elements = whole[-1:] if index is None else [each for each in whole if _index_of(each) == index][-1:]
    element = elements[0] if elements else None
    if not isinstance(element, dict) or (id_ and element.get("id") and id_ != element["id"]):
        return None
    if index is not None:
        return element
    if piece.get("type") in _PARTS:
        return element if element.get("type") == piece["type"] else None
    call = piece.get("function")
    return element if isinstance(call, dict) and not id_ and not call.get("name") else None


def _index_of(element: Any) -> Any:
    return element.get("index") if isinstance(element, dict) else None


def _choice(pieces: dict[str, Any]) -> dict[str, Any]:
    """Return a choice as it would have been said at once: its calls in their order, without their numbers."""
    choice: dict[str, Any] = _joined(pieces)
    message = choice.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    if isinstance(calls, list) and all(isinstance(each, dict) for each in calls):
        calls.sort(key=lambda each: index if type(index := each.get("index")) is int else len(calls))
        for each in calls:
            each.pop("index", None)
    return choice


def _joined(value: Any) -> Any:
    """Return the same with its texts in one piece each."""
    if type(value) is _Text:
        return "".join(value)
    if isinstance(value, dict):
        return {key: _joined(each) for key, each in value.items()}
    return [_joined(each) for each in value] if isinstance(value, list) else value
