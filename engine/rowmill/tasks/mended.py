r"""JSON as a sloppy server, or a model, writes it: what is whole but for a few bytes is made readable.

Mended are what is compressed and does not say so, a byte order mark, UTF-16, bytes that are no UTF-8 and halves of
surrogate pairs (`\ufffd` stands for them), raw control characters in strings, escapes that are none, and NaN and the
infinities, which are null. All else stays as it was, byte for byte; what is cut off, or of another shape, is no JSON
by this.

Where that is not enough, what servers put around a value is passed over: a prefix against hijacking, a call's name and
brackets, a line of words, NULs, a list or a string with the value in it; and within it comments, commas before a
closing bracket, and Python's names of true, false and null.
"""

import json
import re

from rowmill.core.compressed import unpacked
from rowmill.core.errors import DeepReply

_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\b(?:NaN|Infinity|nan|inf)\b', re.DOTALL)
_WRONG = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair, which is right
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half of one
    r'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]'  # right as well
    r"|\\"  # of no escape
    r"|[\x00-\x1f\ud800-\udfff]"
)
# A string, which stays, or what is not of JSON. Nothing within a possessive group may go back: Python 3.11.2 gets it
# wrong. A comment has an end soon, so that looking for it costs linear time.
_EXTRAS = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|//[^\n]*|/\*.{0,500}?\*/|\#[^\n]*|\b(?:True|False|None)\b', re.DOTALL
)
_LAST_COMMAS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|,(?=\s*[}\]])', re.DOTALL)
_PYTHONS = {"True": "true", "False": "false", "None": "null"}
_STARTS = 5  # places where an object may begin that are tried
_AROUND = " \t\r\n\0\ufeff"
_PAIR_CHARACTERS = 12
_NAMED = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def mended(body: bytes) -> bytes:
    """Return the same JSON so that any reader takes it."""
    return mended_text(text_in(body)).encode()


def text_in(body: bytes) -> str:
    """Return the text of a body that should be JSON, whichever form of Unicode it has, compressed unsaid or not."""
    try:
        body = unpacked(body, _MOST)
    except ValueError:
        body = b""
    if len(body) > _MOST:
        raise DeepReply(f"the reply is compressed, and longer than {_MOST >> 20} MiB")
    bare = body.lstrip(b"\0")
    body = body if bare[1:2] == b"\0" else bare  # no UTF-16, which begins so too
    return body.decode(json.detect_encoding(body), "replace")


def first_value(text: str) -> str:
    """Return the first JSON value of a text, readable, without what stands around it; the text where there is none.

    An object is looked for behind other words, and within a list or a string.
    """
    whole = mended_text(text).strip(_AROUND)
    found = _object_at(whole, 0)
    if found is not None and found != "{}":
        return found
    if whole[:1] == '"' and (inner := _in_string(whole)):
        return first_value(inner)
    for candidate in (whole, mended_text(_bare(text)).strip(_AROUND)):
        start = candidate.find("{")
        for _ in range(_STARTS):
            if start < 0:
                break
            found = _object_at(candidate, start)
            if found is not None and 2 * len(found) > len(candidate):  # less is a part of something else
                return found
            start = candidate.find("{", start + 1)
    return whole


def _object_at(text: str, start: int) -> str | None:
    """Return the object that begins there; None where none does. Raises RecursionError for one that is too deep."""
    if text[start : start + 1] != "{":
        return None
    try:
        end = _decode_loose(text, start)[1]
    except ValueError:
        return None
    # What came after may be why it is not to be believed.
    return text[start:] if '"error"' in text[end:] else text[start:end]


def _in_string(text: str) -> str:
    """Return the text of a JSON string that holds an object; nothing of any other."""
    try:
        inner = _decode_loose(text)[0]
    except ValueError:
        return ""
    return inner if isinstance(inner, str) and inner.lstrip()[:1] == "{" else ""


def mended_text(text: str) -> str:
    """Return the same JSON text so that any reader takes it."""
    return _TOKENS.sub(_token, text.lstrip("\ufeff"))


_MOST = 64 << 20  # bytes
_decode_loose = json.JSONDecoder(strict=False).raw_decode


def _bare(text: str) -> str:
    """Return a text without comments and commas that end a list."""
    return _LAST_COMMAS.sub(_extra, _EXTRAS.sub(_extra, text))


def _extra(match: re.Match[str]) -> str:
    found = match[0]
    return found if found[0] == '"' else _PYTHONS.get(found, "")


def _token(match: re.Match[str]) -> str:
    token = match[0]
    return _WRONG.sub(_character, token) if token[0] == '"' else "null"


def _character(match: re.Match[str]) -> str:
    found = match[0]
    if found == "\\":
        return r"\\"
    if found[0] != "\\":
        return _NAMED.get(found) or ("\\ufffd" if found >= "\ud800" else f"\\u{ord(found):04x}")
    is_half = found[1] == "u" and found[2] in "dD" and found[3] not in "01234567" and len(found) < _PAIR_CHARACTERS
    return "\\ufffd" if is_half else found
