"""Vectors: base64 of little-endian float32, as embeddings are asked for, into bytes or into JSON lists.

A list has the shortest numbers that give back the same float32: 0.1 and not 0.10000000149011612. They are found by
rounding to 7, 8 and 9 digits, of which 9 always suffice, and written by msgspec, which writes a double's shortest form:
a third of the time and of the bytes that the doubles themselves take.
"""

from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_FLOAT32_BYTES = 4
_DIGITS = (7, 8, 9)
_EXACT_POWERS = 22  # powers of ten up to this one are doubles, and division by them rounds right


def load() -> Any:
    """Import numpy, which takes a tenth of a second."""
    import numpy as np

    return np


def decoded(coded: Iterable[bytes | str | None]) -> list[bytes | None]:
    """Decode the base64 of vectors; None stays None. Raise ValueError where one is no vector of float32."""
    vectors = [None if each is None else a2b_base64(each) for each in coded]
    if any(each is not None and len(each) % _FLOAT32_BYTES for each in vectors):
        raise ValueError("a vector is no base64 of float32 numbers")
    return vectors


def texts(vectors: Sequence[bytes | None]) -> list[bytes | None]:
    """Return each vector as a JSON list; NaN and the infinities, which JSON has not, are null."""
    np = load()
    exact = np.frombuffer(b"".join(each for each in vectors if each is not None), "<f4")
    numbers = _shortest(np, exact)
    encode = msgspec.json.Encoder().encode
    made: list[bytes | None] = []
    start = 0
    for each in vectors:
        if each is None:
            made.append(None)
            continue
        end = start + len(each) // _FLOAT32_BYTES
        made.append(encode(numbers[start:end].tolist()))
        start = end
    return made


def _shortest(np: Any, exact: Any) -> Any:
    """Return doubles with the fewest digits that are the same float32."""
    with np.errstate(all="ignore"):  # zeros, NaN and the infinities have no magnitude
        wide = exact.astype(np.float64)
        magnitude = np.floor(np.log10(np.abs(wide)))
        magnitude[~np.isfinite(magnitude)] = 0
        result = wide
        for digits in reversed(_DIGITS):
            power = digits - 1 - magnitude
            scale = 10.0 ** np.clip(power, 0, _EXACT_POWERS)
            rounded = np.rint(wide * scale) / scale
            result = np.where(rounded.astype(np.float32) == exact, rounded, result)
    return result
