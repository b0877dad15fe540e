"""Validation finds what OpenAI's finds, by line; answers come in another order, which is the same every time."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.simulator.batches.request_lines import FILE_BYTES, REQUESTS, Validation, shuffled

GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}}


def _validated(*rows: bytes, size: int = 100) -> Validation:
    validation = Validation("/v1/embeddings", size)
    for number, raw in enumerate(rows, 1):
        validation.take(number, raw)
    validation.end()
    return validation


def _row(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize(
    ("second", "code", "param"),
    [
        (b'{"custom_id": "b",', "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b"[]", "missing_required_parameter", None),
        (b'{"custom_id": "b", "url": "/v1/embeddings", "body": {}}', "missing_required_parameter", None),
        (_row(), "duplicate_custom_id", "custom_id"),
        (_row(custom_id="b", url="/v1/chat/completions"), "mismatched_url", "url"),
        (_row(custom_id="b", url="/embeddings"), "invalid_url", "url"),
        (_row(custom_id="b", method="GET"), "invalid_method", "method"),
        (_row(custom_id="b", body={"model": "n"}), "mismatched_model", "body.model"),
        (_row(custom_id="b", body={}), "missing_required_parameter", "body.model"),
        (_row(custom_id="b", body=[]), "missing_required_parameter", "body"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number(second: bytes, code: str, param: str | None) -> None:
    validation = _validated(_row(), second, _row(custom_id="c"))
    assert [(found.code, found.param, found.line) for found in validation.problems] == [(code, param, 2)]
    assert validation.total == 3


def test_a_model_that_does_not_exist_is_told_once() -> None:
    validation = _validated(*(_row(custom_id=str(row), body={"model": "unknown-7"}) for row in range(3)))
    assert [found.code for found in validation.problems] == ["model_not_found"]


def test_a_file_as_a_whole_can_be_wrong() -> None:
    assert [found.code for found in _validated().problems] == ["empty_file"]
    assert [found.code for found in _validated(_row(), size=FILE_BYTES + 1).problems] == ["file_too_large"]
    rows = (_row(custom_id=str(row)) for row in range(REQUESTS + 2))
    assert [found.code for found in _validated(*rows).problems] == ["too_many_tasks"]
    assert not _validated(_row(), size=FILE_BYTES).problems


def test_problems_are_reported_up_to_a_bound() -> None:
    assert len(_validated(*[b"x"] * 200).problems) == 50


@settings(max_examples=20)
@given(st.integers(min_value=0, max_value=2000), st.integers(min_value=0, max_value=9))
def test_the_order_is_a_permutation_and_depends_on_the_seed_alone(count: int, seed: int) -> None:
    lines = [b"%d\n" % row for row in range(count)]
    drawn = list(shuffled(lines, Random(seed)))
    assert sorted(drawn) == sorted(lines)
    assert drawn == list(shuffled(lines, Random(seed)))
    assert count < 20 or drawn != lines


@pytest.mark.parametrize(("size", "ahead"), [(10, 513), (1_000_000, 6)])
def test_few_lines_are_held(size: int, ahead: int) -> None:
    read = 0

    def source() -> Iterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * size

    for done, _ in enumerate(shuffled(source(), Random(1))):
        assert read - done <= ahead
        if done == 300:
            break


def test_blank_lines_are_left_out() -> None:
    assert list(shuffled([b"\n", b"1\n", b"  \r\n"], Random(0))) == [b"1\n"]
