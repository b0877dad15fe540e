"""Records with a checksum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.store.framing import framed, unframed


def test_a_record_is_a_checksum_a_space_json_and_a_newline() -> None:
    assert framed(b'{"a":1}') == b'561bacaf {"a":1}\n'
    assert unframed(b'561bacaf {"a":1}\n') == b'{"a":1}'


@given(st.binary(max_size=50))
def test_what_was_framed_reads_back(json: bytes) -> None:
    assert unframed(framed(json)) == json


def test_every_flipped_bit_is_found() -> None:
    record = framed(b'{"row":1,"line":{"index":1}}')
    for bit in range(len(record) * 8):
        broken = bytearray(record)
        broken[bit // 8] ^= 1 << bit % 8
        assert unframed(bytes(broken)) is None


def test_every_torn_record_is_found() -> None:
    record = framed(b'{"row":1,"line":{"index":1}}')
    assert all(unframed(record[:length]) is None for length in range(len(record)))


@pytest.mark.parametrize("nonsense", [b"\n", b"\0" * 100, b"\0" * 20 + b"\n", b'{"row":1}\n', b'561BACAF {"a":1}\n'])
def test_nonsense_is_no_record(nonsense: bytes) -> None:
    assert unframed(nonsense) is None
