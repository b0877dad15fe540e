"""Numbers of a row as its file wrote them: 1.10 reaches the prompt as 1.10, and 1e400 as 1e400.

A number with a point or an exponent becomes a `WrittenFloat`: to a template it is a float like any other, and put into
a text it is what stood in the file. Whole numbers are Python's, of up to 4,300 digits. Columns that nobody names stay
unread.

NaN and the infinities, which some writers put into JSON, are null; that a row had one is told once.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

# Python has no -0 among whole numbers: behind one this makes a float of it, as which it comes back.
_AS_FLOAT = "e-00000"
_MINUS_ZERO = re.compile(rb"(?<![eE])-0(?=\s*(?:[,}\]]|\Z))")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_ZEROS = re.compile(rb"%b|(?<![eE])-0(?![.eE\d])" % _STRING, re.DOTALL)
_NOT_JSON = rb"[-+]?\b(?:NaN|Inf(?:inity)?)\b"
_HAS_NAN = re.compile(_NOT_JSON, re.IGNORECASE)
_NAN = re.compile(rb"%b|%b" % (_STRING, _NOT_JSON), re.DOTALL | re.IGNORECASE)


class WrittenFloat(float):
    """A float that knows how it was written."""

    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        """Return it as it was written."""
        return self.text

    __repr__ = __str__


def written(text: str) -> WrittenFloat:
    """Return the number that a text of JSON is."""
    number = WrittenFloat(text)
    number.text = text.removesuffix(_AS_FLOAT)
    return number


def _encoded(value: Any) -> msgspec.Raw:
    if isinstance(value, WrittenFloat):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


encode = msgspec.json.Encoder(enc_hook=_encoded).encode


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return what decodes JSON to a type, with numbers as they were written wherever any value may stand."""
    decode = msgspec.json.Decoder(kind, float_hook=written).decode

    def decoded(line: bytes) -> Any:
        # The search for two bytes costs a tenth of the one for the pattern.
        if b"-0" not in line or _MINUS_ZERO.search(line) is None:
            return decode(line)
        return decode(_ZEROS.sub(_as_float, line))

    return decoded


class Nulled:
    """Whether a row of this process had NaN or an infinity, and whether that was told."""

    there = False
    told = False

    def note(self) -> str | None:
        """Return what is to be told, once."""
        if self.told or not self.there:
            return None
        self.told = True
        return "the input has NaN or Infinity, which JSON has not: each is taken as null"


nulled = Nulled()


def without_nan(line: bytes) -> bytes | None:
    """Return a line that is no JSON with null in the place of NaN and the infinities; None where it has none."""
    if _HAS_NAN.search(line) is None:
        return None
    found = _NAN.sub(_nulled, line)
    return None if found == line else found


def _as_float(match: re.Match[bytes]) -> bytes:
    token = match[0]
    return token if token[:1] == b'"' else token + _AS_FLOAT.encode()


def _nulled(match: re.Match[bytes]) -> bytes:
    token = match[0]
    return token if token[:1] == b'"' else b"null"


decode = decoder(Any)
