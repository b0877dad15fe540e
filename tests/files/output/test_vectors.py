"""Vectors keep every bit on the way to a list of numbers, and their numbers are short."""

import base64
import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.files.output.vectors import decoded, texts

FLOATS = st.lists(st.floats(width=32), max_size=6)


@settings(max_examples=200, deadline=None)  # the first example imports numpy
@given(vectors=st.lists(st.none() | FLOATS, max_size=4))
def test_any_vectors_come_back_as_the_same_float32(vectors: list[list[float] | None]) -> None:
    coded = [None if v is None else base64.b64encode(struct.pack(f"<{len(v)}f", *v)) for v in vectors]
    for vector, text in zip(vectors, texts(decoded(coded)), strict=True):
        if vector is None:
            assert text is None
            continue
        assert text is not None
        finite = [value if math.isfinite(value) else None for value in vector]
        again = [
            None if value is None else struct.unpack("<f", struct.pack("<f", value))[0] for value in json.loads(text)
        ]
        assert again == finite


def test_numbers_have_no_more_digits_than_they_need() -> None:
    (text,) = texts([struct.pack("<6f", 0.1, 0.123456789, 1 / 3, -1e-5, 100, 16777216)])
    assert text == b"[0.1,0.12345679,0.33333334,-0.00001,100.0,16777216.0]"


def test_what_is_no_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="no base64 of float32"):
        decoded([base64.b64encode(b"12345")])
