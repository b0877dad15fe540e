"""NaN and the infinities of tables: null to all that reads JSON, and themselves to a Parquet file of results.

JSON has no word for them. The line of a row has null there, with white space behind it that tells which of them it was:
whatever reads JSON passes over it, whatever copies lines keeps it, and only who looks for it finds it.
"""

from math import isinf, isnan
from typing import Any

import msgspec

MARK = b"null\t \t"  # and more, that tells which; no writer of JSON has this by chance
_NAN, _INFINITY, _MINUS = MARK + b" \t", MARK + b"\t\t", MARK + b"\t \t"
_WORDS = ((_NAN, b'"NaN"'), (_INFINITY, b'"Infinity"'), (_MINUS, b'"-Infinity"'))


def nulls_of(value: Any) -> Any:
    """Return a value with marked nulls for what JSON has not, however deep it lies."""
    if isinstance(value, float):
        if isnan(value):
            return msgspec.Raw(_NAN)
        return msgspec.Raw(_INFINITY if value > 0 else _MINUS) if isinf(value) else value
    if isinstance(value, list):
        return [nulls_of(each) for each in value]
    if isinstance(value, dict):
        return {name: nulls_of(each) for name, each in value.items()}
    return value


def words_of(line: bytes) -> bytes:
    """Return a line that has marked nulls with the words "NaN", "Infinity" and "-Infinity" for them, as texts."""
    for mark, word in _WORDS:
        line = line.replace(mark, word)
    return line
