"""The bytes of output lines."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.wire import Answer, Failure, FaultClass
from rowmill.store.output_lines import error_line, failed_row, failure_line, fault_of, result_line

FAULT = FaultClass(
    "server_error", retryable=True, scope="row", spends_attempt=True, lowers_concurrency=True, unhealthy=True
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_result_has_its_members_in_the_agreed_order() -> None:
    answer = Answer(b'"hi\\nthere"', b'"stop"', b'"gpt"', b'{"total_tokens":7}', 3, 4)
    assert result_line(5, b'"a"', answer, b',"input":{"x":1}') == (
        b'{"index":5,"id":"a","output":"hi\\nthere","error":null,"finish_reason":"stop","model":"gpt",'
        b'"usage":{"total_tokens":7},"input":{"x":1}}'
    )


def test_a_failure_has_a_null_output_and_its_error() -> None:
    failure = Failure(fault=FAULT, message='says "no"', code=None, status=500)
    assert failure_line(5, b"null", failure, b"") == (
        b'{"index":5,"id":null,"output":null,"error":{"class":"server_error","code":null,"status":500,'
        b'"message":"says \\"no\\""},"finish_reason":null,"model":null,"usage":null}'
    )


def test_an_errors_file_line_is_flat_and_has_the_attempts() -> None:
    failed = failure_line(5, b'"a"', Failure(fault=FAULT, message="m", code="c", status=500), b',"input":{"error":1}')
    assert error_line(failed_row(failed), 3) == (
        b'{"index":5,"id":"a","class":"server_error","code":"c","status":500,"message":"m","attempts":3}'
    )


@pytest.mark.parametrize("reply", [b'"not \\"json\\""', b'"\\ud800"'])
def test_a_reply_that_was_no_answer_goes_with_the_failure(reply: bytes) -> None:
    failed = failure_line(5, b'"a"', Failure(fault=FAULT, message="m", reply=reply), b',"input":{"reply":1}')
    assert json.loads(failed)["error"]["reply"] == json.loads(reply)
    listed = error_line(failed_row(failed), 3)
    assert listed.endswith(b',"attempts":3,"reply":' + reply + b"}")
    assert json.loads(listed)["class"] == "server_error"


@pytest.mark.parametrize("make", ["result", "failure"])
def test_line_breaks_between_tokens_of_a_foreign_part_do_not_break_the_line(make: str) -> None:
    foreign = b',"input":{"x":\r\n1}'
    if make == "result":
        made = result_line(1, b'"a"', Answer(b'"x"', b"null", b"null", b'{\n"n":\r1}', 0, 0), foreign)
    else:
        made = failure_line(1, b'"a"', Failure(fault=FAULT, message="x"), foreign)
    assert made.splitlines() == [made]
    assert json.loads(made)["input"] == {"x": 1}


def test_an_id_keeps_its_own_text() -> None:
    failed = failure_line(1, b"1.50", Failure(fault=FAULT, message="x"), b"")
    assert failed.startswith(b'{"index":1,"id":1.50,')
    assert error_line(failed_row(failed), 1).startswith(b'{"index":1,"id":1.50,')


def test_what_the_server_wrote_is_kept_to_the_byte() -> None:
    answer = Answer(b'{"x":"\\ud800 \\u00e9","n":1.50}', b"null", b'"m\\/1"', b"null", 0, 0)
    assert result_line(1, b'"a"', answer, b"") == (
        b'{"index":1,"id":"a","output":{"x":"\\ud800 \\u00e9","n":1.50},"error":null,"finish_reason":null,'
        b'"model":"m\\/1","usage":null}'
    )


@pytest.mark.parametrize("include", [b"", b',"input":{"x":"\\ud800"}'])
@pytest.mark.parametrize("row_id", [b'"a"', b'"\\udfff"'])
def test_an_errors_file_line_is_made_whatever_the_input_had(row_id: bytes, include: bytes) -> None:
    failed = failure_line(1, row_id, Failure(fault=FAULT, message="bad \ud800"), include)
    listed = error_line(failed_row(failed), 2)
    assert fault_of(listed) == failed_row(failed).error.fault == "server_error"
    made = json.loads(listed)
    assert made["id"] == json.loads(row_id)
    assert made["message"] == "bad \ud800"
    assert made["attempts"] == 2


@given(output=JSON, reason=st.none() | st.text(), usage=st.none() | st.dictionaries(st.text(), JSON, max_size=2))
def test_any_answer_is_one_line_of_json_that_reads_back(
    output: Any, reason: str | None, usage: dict[str, Any] | None
) -> None:
    written = [json.dumps(value, indent=1).encode() for value in (output, reason, usage)]  # breaks lines
    made = result_line(3, b'"a"', Answer(written[0], written[1], b'"m"', written[2], 1, 2), b"")
    assert b"\n" not in made
    assert b"\r" not in made
    read = json.loads(made)
    assert list(read) == ["index", "id", "output", "error", "finish_reason", "model", "usage"]
    assert (read["output"], read["finish_reason"], read["usage"]) == (output, reason, usage)


@given(message=st.text(st.characters(codec=None)), code=st.none() | st.text(), status=st.none() | st.integers(100, 599))
def test_any_failure_is_listed_in_the_errors_file_as_it_is_in_the_output(
    message: str, code: str | None, status: int | None
) -> None:
    failed = failure_line(3, b'"a"', Failure(fault=FAULT, message=message, code=code, status=status), b"")
    listed = error_line(failed_row(failed), 4)
    assert b"\n" not in failed + listed
    assert json.loads(listed) == {"index": 3, "id": "a", **json.loads(failed)["error"], "attempts": 4}
    assert json.loads(failed)["error"] == {"class": "server_error", "code": code, "status": status, "message": message}
