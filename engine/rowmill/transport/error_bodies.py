"""The error in a reply's body, in whatever shape a server puts it: its object, codes, words, and how long to wait.

OpenAI: {"error": {...}}; Gemini: [{"error": {...}}]; some gateways: {"error": "text"}; vLLM: {"message": ...}; FastAPI:
{"detail": ...}, where the detail can be the JSON of another error; Cloudflare: {"errors": [{...}]}; routers: the
model's own error as text in `metadata.raw`; and any of these within a 200, or beside a choice. What stands before a
model answers in plain text ("Internal Server Error") or with a page.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from rowmill.transport.refusals import FLAGGED, duration, wait_in

_DEPTH = 3  # errors within errors that are followed
_PAGE = 20_000  # bytes of a page that are read
_SEEN = 150  # characters of a page that are told
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LONGEST_TEXT = 2_000  # bytes of a plain text that is an error message rather than a document
_HTTP = range(100, 600)


def error_in(body: bytes) -> dict[str, Any]:
    """Return the error that the body of a failed reply is; an empty dict where there is none."""
    decoded = _decoded(body)
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if isinstance(decoded, dict):
        return _member(decoded) or decoded
    if decoded is None:
        decoded = _plain_text(body)
    return {"message": decoded} if isinstance(decoded, str) and decoded else {}


def page_words(body: bytes) -> str:
    """Return what a reader of an HTML page would see of it; nothing where it is none.

    It tells people what answered; no class is read from it, for pages say much that is not about the request.
    """
    text = body[:_PAGE].decode(errors="replace")
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        return ""
    import html  # its two thousand names, for pages alone

    return " ".join(html.unescape(_MARKUP.sub(" ", text)).split())[:_SEEN]


def error_within(body: bytes) -> dict[str, Any]:
    """Return the error that a 2xx reply holds instead of an answer, or beside a choice; an empty dict for none."""
    decoded = _decoded(body)
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    if error := _member(decoded):
        return error
    if decoded.get("object") == "error":
        return decoded
    return _broken_off(decoded)


def _broken_off(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the error that stands beside a choice, or that its end is; an empty dict for none."""
    choices = reply.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            if error := _member(choice):
                return error
            if (status := BROKEN_OFF.get(str(choice.get("finish_reason")).lower())) is not None:
                return {"message": f"the generation ended with {choice['finish_reason']!r}", "code": status}
    return {}


def words_instead(body: bytes) -> dict[str, Any]:
    """Return a 2xx reply that has words where an answer would be, and calls them no error; an empty dict for any other.

    As {"code": "1302", "msg": "..."} of gateways whose status is always 200.
    """
    decoded = _decoded(body)
    if not isinstance(decoded, dict) or _ANSWERS & decoded.keys() or not _message(decoded):
        return {}
    return decoded


def codes_of(error: dict[str, Any]) -> set[str]:
    """Return every code and type that the error and those within it name."""
    return {
        text.rpartition("#")[2] for each in _all(error) for name in _CODES if isinstance(text := each.get(name), str)
    }


def status_of(error: dict[str, Any]) -> int | None:
    """Return the HTTP status that the error names; None where it names none."""
    for each in _all(error):
        for name in ("code", "status_code", "status", "http_status", "statusCode"):
            value = each.get(name)
            if isinstance(value, str) and value.isdecimal() and len(value) == 3:  # noqa: PLR2004
                value = int(value)
            if isinstance(value, int) and value in _HTTP:
                return value
    return None


def words_of(error: dict[str, Any]) -> str:
    """Return the error's message, and those of the errors within it; nothing of what it repeats of the request."""
    return " ".join(word for each in _all(error) for word in _message(each).split())


def place_of(error: dict[str, Any]) -> str:
    """Return the member of the request that the error is about, as "body.response_format"; nothing for unsaid."""
    for each in _all(error):
        place = each.get("loc")
        if isinstance(place, list) and place and all(isinstance(part, str | int) for part in place):
            return ".".join(map(str, place))
    return ""


def is_flagged(error: dict[str, Any]) -> bool:
    """Whether the error has what only a moderation's has."""
    return any(each.get(name) for each in _all(error) for name in FLAGGED)


def wait_of(error: dict[str, Any]) -> float | None:
    """Return the seconds that the body asks to wait: in a member, else in words; None where it does not say."""
    for each in _all(error):
        for name in ("retryDelay", "estimated_time", "retry_after"):
            value = each.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            if isinstance(value, str) and (wait := duration(value)) is not None:
                return wait
    return wait_in(words_of(error))


# How a choice ends whose generation did not come to its end, and the status that says the same.
BROKEN_OFF = {
    "error": 502, "network_error": 502, "insufficient_system_resource": 503, "abort": 502, "aborted": 502,
    "cancelled": 502, "canceled": 502,
}  # fmt: skip
_CODES = ("code", "type", "status", "error_type", "error_code", "reason", "@type", "__type")
_ANSWERS = frozenset({"choices", "output", "data", "results"})


def _all(error: dict[str, Any], depth: int = _DEPTH) -> Iterator[dict[str, Any]]:
    """Yield the error and those within it."""
    yield error
    if not depth:
        return
    for name in ("innererror", "metadata", "error", "errors", "details", "detail", "raw", "param", "message"):
        value = error.get(name)
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, str) and each[:1] in ("{", "["):
                inner = _decoded(each.encode(errors="replace"))
                each = inner[0] if isinstance(inner, list) and inner else inner  # noqa: PLW2901 - what was looked for
            if isinstance(each, dict):
                yield from _all(each, depth - 1)


def _message(error: dict[str, Any]) -> str:
    for name in ("message", "Message", "detail", "error", "msg", "error_msg", "error_message", "errmsg", "faultstring"):
        found = error.get(name)
        if isinstance(found, str) and found:
            return found
    return ""


def _member(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the member "error", or the first of "errors"; where it is a text or a sign, with what stands beside it.

    "fault" is Apigee's.
    """
    for name in ("error", "errors", "fault"):
        error = holder.get(name)
        if isinstance(error, list):
            error = next(filter(None, error), None)
            if isinstance(error, str) and _message(holder):
                return holder
        if isinstance(error, str) and error:
            return {**holder, "message": error}
        if isinstance(error, dict) and error:
            return error
        if isinstance(error, int) and error:  # a code, or true
            return {"code": error, **holder}
    told = holder.get("base_resp")  # MiniMax
    if isinstance(told, dict) and isinstance(code := told.get("status_code"), int) and code:
        return {"message": told.get("status_msg"), "code": str(code)}
    return {}


def _plain_text(body: bytes) -> str:
    """Return a body that is one short text; nothing for pages, broken JSON, and bytes that are no text."""
    if len(body) > _LONGEST_TEXT:
        return ""
    try:
        text = body.decode().strip("\ufeff \t\r\n")
    except UnicodeDecodeError:
        return ""
    return "" if text[:1] in ("<", "{", "[") or "\0" in text else text


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except _UNREADABLE:
        return _of_stream(body)


def _of_stream(body: bytes) -> Any:
    """Return the event with an error in a body that is a stream of events; None where there is none.

    One in which a generation ends that has not come to its end is such an event, too.
    """
    for line in body.splitlines():
        kind, _, data = line.partition(b":")
        if kind == b"error" or (kind == b"data" and (b'"error"' in data or b'"finish_reason"' in data)):
            try:
                event = msgspec.json.decode(data)
            except _UNREADABLE:
                continue
            if kind == b"error":  # llama.cpp's
                return {"error": event}
            if isinstance(event, dict) and (event.get("error") or _broken_off(event)):
                return event
    return None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
