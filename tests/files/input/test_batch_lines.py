"""Batch files: ids that are there once pass, the others say where the first one is."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.rows import BROKEN
from rowmill.files.input import batch_lines as batch
from rowmill.files.input.batch_lines import CustomIds, looks_like_batch


def line(custom_id: object, **more: object) -> bytes:
    row = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}, **more}
    return json.dumps(row).encode()


def checked(*lines: bytes, path: str = "in.jsonl", ids: CustomIds | None = None) -> list[bytes]:
    data = b"".join(each + b"\n" for each in lines)
    return b"".join((ids or CustomIds()).blocks([data], path)).split(b"\n")[:-1]


def test_a_line_with_an_id_of_its_own_is_passed_on_as_it_is() -> None:
    lines = [line("a"), b"  " + line("b") + b"\r", line("", url=7), line("ü\n"), b'{"custom_id":"c"}']
    assert checked(*lines) == lines


def test_a_second_row_with_an_id_says_whose_it_is() -> None:
    found = checked(line("a"), line("b"), line("a"), line("a"), b'{"custom_id": "\\u0061"}')
    assert found[:2] == [line("a"), line("b")]
    assert found[2:] == [
        BROKEN + f'line {number}: the custom_id "a" is that of line 1 too'.encode() + BROKEN + again
        for number, again in ((3, line("a")), (4, line("a")), (5, b'{"custom_id": "\\u0061"}'))
    ]


def test_a_row_without_a_good_id_says_so_and_what_is_no_object_is_left_to_the_task() -> None:
    others = [b"", b"nonsense", b"[1]", b'"text"', b'{"custom_id": "a"', b"\xff"]
    assert checked(b'{"body": {}}', line(7), line(None), *others) == [
        BROKEN + b"line 1: the row has no custom_id",
        BROKEN + b"line 2: the custom_id is no text",
        BROKEN + b"line 3: the custom_id is no text",
        *others,
    ]


def test_a_name_that_is_written_with_escapes_is_the_same_name() -> None:
    odd = b'{"custom\\u005fid": "a"}'
    assert checked(odd, line("a")) == [
        odd,
        BROKEN + b'line 2: the custom_id "a" is that of line 1 too' + BROKEN + line("a"),
    ]


def test_ids_are_told_apart_over_all_files() -> None:
    ids = CustomIds()
    assert checked(line("a"), line("b"), path="one.jsonl", ids=ids) == [line("a"), line("b")]
    assert checked(line("c"), line("b"), path="two.jsonl", ids=ids) == [
        line("c"),
        BROKEN + b'line 2 of two.jsonl: the custom_id "b" is that of line 2 of one.jsonl too' + BROKEN + line("b"),
    ]


@given(st.lists(st.text(max_size=3), max_size=80), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_every_repeated_id_is_found_however_the_lines_lie_in_blocks(names: list[str], size: int) -> None:
    data = b"".join(line(name) + b"\n" for name in names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_SLOTS", 2)  # it grows often
        blocks = (data[start : start + size] for start in range(0, len(data), size))
        found = b"".join(CustomIds().blocks(blocks, "in")).split(b"\n")[:-1]
    first: dict[str, int] = {}
    expected: list[bytes] = []
    for number, name in enumerate(names, 1):
        if name in first:
            text = f"line {number}: the custom_id {json.dumps(name)} is that of line {first[name]} too"
            expected.append(BROKEN + text.encode() + BROKEN + line(name))
        else:
            expected.append(line(name))
        first.setdefault(name, number)
    assert found == expected


def test_a_hundred_thousand_ids_take_4_megabytes_and_none_is_taken_for_another() -> None:
    ids = CustomIds()

    def blocks() -> Iterator[bytes]:
        for start in range(0, 100_000, 1000):
            yield b"".join(b'{"custom_id":"request-%d"}\n' % number for number in range(start, start + 1000))

    assert all(BROKEN not in block for block in ids.blocks(blocks(), "in"))
    assert ids._seen._slots * 16 <= 4 << 20
    assert checked(b'{"custom_id":"request-77777"}', ids=ids)[0].startswith(BROKEN)


@pytest.mark.parametrize(
    ("first", "is_batch"),
    [
        (line("a"), True),
        (b'{"custom_id":1,"method":2,"url":3,"body":4,"more":5}', True),
        (b'{"custom_id":"a","method":"POST","url":"/v1"}', False),
        (b"[]", False),
        (b"no json", False),
        (b"\xff", False),
        (b"", False),
    ],
)
def test_a_batch_file_is_known_by_its_first_line(first: bytes, is_batch: bool) -> None:
    assert looks_like_batch(first) is is_batch
