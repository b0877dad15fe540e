"""What one step hands on to the next: rows with its answers, and marks in the place of those that go no further."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from rowmill.core.config.sections import OutputConfig
from rowmill.core.rows import ENDED, LEFT_OUT, NO_LINE, Layout, StepOfRun
from rowmill.core.wire import Answer, Failure
from rowmill.files.output import open_codec
from rowmill.files.output.step_rows import ended_row
from rowmill.store.output_lines import failure_line, result_line
from rowmill.transport import faults

FAILED = Failure(fault=faults.TIMEOUT, message="no reply")


def step(**members: Any) -> StepOfRun:
    return StepOfRun(**{"name": "judge", "previous": None, "last": False, "where": None, "fields": None, **members})


def answer(output: bytes) -> Answer:
    return Answer(output, b"null", b'"m"', b"null", 1, 1)


def line(index: int, output: bytes, row: bytes, *, attempts: int = 1) -> bytes:
    return result_line(index, b'"x"', answer(output), included(row, attempts))


def included(row: bytes, attempts: int) -> bytes:
    return b',"input":%b,"meta":{"provider":"a","attempts":%d,"requests":2,"ms":7}' % (row, attempts)


def handed_on(of: StepOfRun, lines: Iterable[bytes]) -> tuple[list[bytes], int]:
    left_out: Counter[str] = Counter()
    codec = open_codec(OutputConfig(path="o.csv"), Layout(), of)
    return list(codec.chosen(iter(lines), left_out)), left_out.total()


@pytest.mark.parametrize(
    ("fields", "output", "row", "found"),
    [
        (None, b'"yes"', b'{"a":1}', {"a": 1, "judge": "yes"}),
        (None, b'"yes"', b"{}", {"judge": "yes"}),
        (None, b'{"n":1}', b'{ "a" : 1 }', {"a": 1, "judge": {"n": 1}}),
        (("n", "m"), b'{"m":[2],"n":1.50}', b'{"a":1}', {"a": 1, "judge.n": 1.5, "judge.m": [2]}),
        (("n", "m"), b'{"n":1}', b"{}", {"judge.n": 1, "judge.m": None}),
        (("n",), b"null", b"{}", {"judge.n": None}),
        (None, b'"half \\ud83d"', b'{"a":1}', {"a": 1, "judge": "half \\ud83d"}),
    ],
)
def test_a_row_goes_on_with_its_answer_as_columns(
    fields: tuple[str, ...] | None, output: bytes, row: bytes, found: dict[str, Any]
) -> None:
    (made,), left_out = handed_on(step(fields=fields), [line(0, output, row)])
    assert json.loads(made) == found
    assert left_out == 0


def test_numbers_are_written_as_the_reply_has_them() -> None:
    (made,), _ = handed_on(step(fields=("n",)), [line(0, b'{"n":1.50}', b'{"a":2.70}')])
    assert made == b'{"a":2.70,"judge.n":1.50}'


def test_a_failed_row_is_marked_with_all_that_the_last_step_is_to_tell() -> None:
    failed = failure_line(7, b'"x"', FAILED, included(b'{"a":1}', 3))
    (made,), left_out = handed_on(step(where="a = 2"), [failed])
    assert made.startswith(ENDED)
    ended = ended_row(made)
    assert (ended.attempts, bytes(ended.id), bytes(ended.input)) == (3, b'"x"', b'{"a":1}')
    assert json.loads(bytes(ended.error))["class"] == "timeout"
    assert left_out == 0, "a failed row is told, whatever the condition"


@pytest.mark.parametrize(
    ("where", "goes_on"),
    [
        ("score >= 4", [1]),
        ("judge.score >= 4", [1]),
        ("score < 4 and lang = en", [0]),
        ("lang = en", [0, 1]),
        ("judge.why ~ GOOD", [1]),
        ("finish_reason = null", [0, 1]),
    ],
)
def test_rows_for_which_the_condition_does_not_hold_are_left_out(where: str, goes_on: list[int]) -> None:
    lines = [
        line(0, b'{"score":3,"why":"no"}', b'{"lang":"en"}'),
        line(1, b'{"score":5,"why":"a good one"}', b'{"lang":"en"}'),
        NO_LINE,
    ]
    of = step(where=where, fields=("score", "why"))
    made, left_out = handed_on(of, lines)
    assert [place for place, each in enumerate(made) if each != LEFT_OUT] == goes_on
    assert left_out == 3 - len(goes_on)
    # Of the last step the same rows are in the output.
    made, left_out = handed_on(msgspec.structs.replace(of, last=True), lines)
    assert [row.partition(b",")[0] for row in b"".join(made).splitlines()] == [b"%d" % index for index in goes_on]
    assert left_out == 3 - len(goes_on)


def test_a_row_may_have_a_column_of_any_name_and_a_text_is_no_object() -> None:
    (made,), _ = handed_on(step(where='judge = "yes"'), [line(0, b'"yes"', b'{"judge":1,"x.y":2}')])
    assert json.loads(made) == {"judge": "yes", "x.y": 2}, "the answer wins"


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet", "o/"])
def test_the_last_step_writes_the_format_of_the_output(name: str) -> None:
    config = OutputConfig(path=name)
    inner, own = open_codec(config, Layout()), open_codec(config, Layout(), step(last=True))
    assert (own.key, own.end, own.directory_suffix) == (inner.key, inner.end, inner.directory_suffix)
    own.load()
    lines = [result_line(0, b"1", answer(b'"a"'), b""), failure_line(1, b"2", FAILED, b"")]
    assert b"".join(own.encode(iter(lines))) == b"".join(inner.encode(iter(lines)))
    assert own.failed(lines[1], 2) == inner.failed(lines[1], 2)
    assert type(own.join()) is type(inner.join())
