r"""JSON as a sloppy server, or a model, writes it: what is whole but for a few bytes is made readable.

Mended are gzip that nobody has declared, a byte order mark, UTF-16, bytes that are no UTF-8 and halves of surrogate
pairs (`\ufffd` stands for them), raw control characters in strings, escapes that are none, and NaN and the infinities,
which are null. All else stays as it was, byte for byte; what is cut off, or of another shape, is no JSON by this.
"""

import json
import re
import zlib

from rowmill.core.errors import DeepReply

_TOKENS = re.compile(r'"(?:[^"\\]+|\\.)*+"|-?\b(?:NaN|Infinity|nan|inf)\b', re.DOTALL)
_WRONG = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair, which is right
    r"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half of one
    r'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]'  # right as well
    r"|\\"  # of no escape
    r"|[\x00-\x1f\ud800-\udfff]"
)
_PAIR_CHARACTERS = 12
_NAMED = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def mended(body: bytes) -> bytes:
    """Return the same JSON so that any reader takes it."""
    return mended_text(text_in(body)).encode()


def text_in(body: bytes) -> str:
    """Return the text of a body that should be JSON, whichever form of Unicode it has, compressed unsaid or not."""
    while body[:2] == _GZIP:
        body = _unzipped(body)
    return body.decode(json.detect_encoding(body), "replace")


def first_value(text: str) -> str:
    """Return the first JSON value of a text, without whatever stands behind it; the text itself where there is none."""
    text = text.strip()
    try:
        end = _decode_loose(text)[1]
    except (ValueError, RecursionError):
        return text
    return text if '"error"' in text[end:] else text[:end]  # what came after may be why it is not to be believed


def mended_text(text: str) -> str:
    """Return the same JSON text so that any reader takes it."""
    return _TOKENS.sub(_token, text.lstrip("\ufeff"))


def _unzipped(body: bytes) -> bytes:
    """Return what a gzip file holds; nothing where it is broken, or longer than any reply."""
    found, unread = b"", body
    try:
        while unread and len(found) <= _MOST:
            reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
            found += reader.decompress(unread, _MOST + 1 - len(found))
            if not reader.eof:
                return b""
            unread = reader.unused_data
    except zlib.error:
        return b""
    if len(found) > _MOST:
        raise DeepReply(f"the reply is compressed, and longer than {_MOST >> 20} MiB")
    return found


_GZIP = b"\x1f\x8b"
_MOST = 64 << 20  # bytes
_decode_loose = json.JSONDecoder(strict=False).raw_decode


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
