"""Batches that were refused as a whole: whose fault it is, and the rows of lines that are wrong."""

import json
from pathlib import Path

import pytest

from rowmill.transport.batch_api import BatchProblem
from rowmill.worker.batch import rejection
from rowmill.worker.batch.rejection import Rejection


def at(code: str, *lines: int | None) -> list[BatchProblem]:
    return [BatchProblem(code, "m", line) for line in lines]


@pytest.mark.parametrize(
    ("problems", "requests", "expected"),
    [
        (at("token_limit_exceeded", None), 100, Rejection.LATER),
        (at("token_limit_exceeded", 1), 100, Rejection.LATER),
        (at("invalid_url", 7), 100, Rejection.LINES),
        (at("invalid_url", *range(1, 51)), 100, Rejection.LINES),
        (at("invalid_url", *range(1, 52)), 100, Rejection.NEVER),
        (at("invalid_url", *[7] * 99), 100, Rejection.LINES),
        # The last few rows of a run may all be wrong.
        (at("invalid_url", 1, 2, 3), 3, Rejection.LINES),
        (at("invalid_url", *range(1, 12)), 11, Rejection.NEVER),
        # A line that the file does not have leads to no row.
        (at("invalid_url", 0), 100, Rejection.NEVER),
        (at("invalid_url", 101), 100, Rejection.NEVER),
        (at("invalid_url", 100), 100, Rejection.LINES),
        (at("invalid_url", None), 100, Rejection.NEVER),
        ([], 100, Rejection.NEVER),
        (at("model_not_found", 3), 100, Rejection.NEVER),
        (at("billing_hard_limit_reached", None), 100, Rejection.NEVER),
        (at("insufficient_quota", 3), 100, Rejection.NEVER),
        (at("credit_balance_exhausted", 3), 100, Rejection.NEVER),
        (at("project_spend_limit_exceeded", 3), 100, Rejection.NEVER),
    ],
)
def test_what_is_to_be_done(problems: list[BatchProblem], requests: int, expected: Rejection) -> None:
    assert rejection.classify(problems, requests) == expected


def test_the_words_are_those_of_the_provider_and_not_all_of_them() -> None:
    problems = [BatchProblem("a", "one", 1), BatchProblem("b", "two", None), *at("c", 3, 4, 5)]
    assert rejection.words(problems) == "a: one; b: two; c: m"
    assert rejection.words([]) == "no reason is given"


def test_each_wrong_line_becomes_a_result_of_its_request(tmp_path: Path) -> None:
    part, errors = tmp_path / "part", tmp_path / "errors"
    part.write_text("".join(json.dumps({"custom_id": f"r{row}", "body": {}}) + "\n" for row in (4, 5, 8)))
    problems = [
        BatchProblem("bad_url", 'no "such" page\n', 2),
        BatchProblem("far", "m", 9),
        BatchProblem("x", "m", None),
    ]
    assert rejection.write_failures(part, problems, errors) == 1
    (line,) = map(json.loads, errors.read_text().splitlines())
    assert line["custom_id"] == "r5"
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"] == {
        "message": 'no "such" page\n',
        "type": "invalid_request_error",
        "code": "bad_url",
    }
