"""A stream of events in the place of a reply: a server that streams although nobody asked is read all the same.

The events of one reply are put together as a client that streams would: texts one behind the other, calls by their
`index`, of everything else what was said first, or, of what a choice or a reply ends with, last. A stream that ends
before its reply does is none.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from rowmill.core.errors import BadReply

_DONE = "[DONE]"  # said behind the last event
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")
# Said once, or again with every event: never in pieces.
_NAMES = frozenset({
    "created", "id", "index", "model", "name", "object", "provider", "role", "service_tier", "system_fingerprint",
    "type",
})  # fmt: skip
_LAST = frozenset({"finish_reason", "stop_reason", "usage"})  # null until they are known


def assembled(text: str) -> dict[str, Any]:
    """Return the reply that a stream holds. Raises `BadReply` where it is not whole."""
    reply: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    done = False
    for event in _events(text):
        if event is None:
            done = True
            break
        if event.get("error"):
            return event
        if isinstance(event.get("response"), dict):
            if event.get("type") in _RESPONSE_ENDS:
                response: dict[str, Any] = event["response"]
                return response
            continue
        for choice in event.pop("choices", None) or []:
            if isinstance(choice, dict):
                delta = choice.pop("delta", None)
                piece = {**choice, "message": delta} if isinstance(delta, dict) else choice
                _add(choices.setdefault(choice.get("index", 0), {}), piece)
        _add(reply, event)
    if not choices or not (done or all(choice.get("finish_reason") for choice in choices.values())):
        raise BadReply("a stream of events that ends before the reply does")
    return {
        **reply,
        "choices": [choices[index] for index in sorted(choices, key=lambda each: each if type(each) is int else 0)],
    }


def _events(text: str) -> Iterator[dict[str, Any] | None]:
    """Yield what each event holds; None for the word that there are no more."""
    data = ""
    for line in re.split(r"\r\n|\n|\r", text):
        if line.startswith("data:"):
            data += line.removeprefix("data:")
        else:
            continue
        if data.strip() == _DONE:
            yield None
            return
        try:
            event = json.loads(data, strict=False)
        except (ValueError, RecursionError):
            continue  # goes on in the next line, or is broken
        data = ""
        if isinstance(event, dict):
            yield event
    if data:
        raise BadReply("a stream of events that is cut off, or broken")


def _add(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        before = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif before is None or key in _LAST:
            whole[key] = value
        elif isinstance(before, str) and isinstance(value, str):
            if key not in _NAMES:
                whole[key] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            _add(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            _add_elements(before, value)


def _add_elements(whole: list[Any], pieces: list[Any]) -> None:
    for piece in pieces:
        index = piece.get("index") if isinstance(piece, dict) else None
        same = next((each for each in whole if isinstance(each, dict) and each.get("index") == index), None)
        if index is None or same is None:
            whole.append(piece)
        else:
            _add(same, piece)
