"""What a batch means that the provider refused as a whole, before any of its requests was done."""

import json
import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import msgspec

from rowmill.core import private_files
from rowmill.core.plain_text import clipped
from rowmill.transport.batch_api import BatchProblem

_BILLING = ("billing", "quota", "credit", "spend_limit")
_TOO_MANY = "token_limit_exceeded"
_MOST_LINES = 0.5  # of a file's lines; where more than that are wrong, what is wrong is not in the lines,
_FEW_LINES = 10.0  # but of so few all may be: a run whose last rows are wrong must come to its end


class Rejection(Enum):
    """What to do about it."""

    LATER = "more is enqueued than the provider allows: again, when less is"
    LINES = "some lines are wrong: their rows fail, the others are asked again"
    NEVER = "it would happen to every batch"


def classify(problems: Sequence[BatchProblem], requests: int) -> Rejection:
    """Tell what the problems of a failed batch of so many requests come down to."""
    codes = {problem.code for problem in problems}
    if _TOO_MANY in codes:
        return Rejection.LATER
    # A line that the file does not have is nobody's: to ask for the same lines again would be refused again, for ever.
    lines = {problem.line for problem in problems if problem.line is not None and 1 <= problem.line <= requests}
    if not lines or len(lines) > max(_FEW_LINES, requests * _MOST_LINES):
        return Rejection.NEVER
    if "model_not_found" in codes or any(word in code for code in codes for word in _BILLING):
        return Rejection.NEVER
    return Rejection.LINES


def words(problems: Sequence[BatchProblem]) -> str:
    """Return the problems in a line."""
    return clipped("; ".join(f"{each.code}: {each.message}" for each in problems[:3])) or "no reason is given"


class _RequestLine(msgspec.Struct):
    custom_id: str


def write_failures(part: Path, problems: Sequence[BatchProblem], path: Path) -> int:
    """Write the error file that the provider might have written for the wrong lines of a part's file.

    Returns how many there are.
    """
    messages = {problem.line: problem for problem in problems if problem.line is not None}
    decode = msgspec.json.Decoder(_RequestLine).decode
    count = 0
    with part.open("rb") as file, os.fdopen(private_files.make_file(path), "w", encoding="utf-8") as errors:
        for number, line in enumerate(file, 1):
            if (problem := messages.get(number)) is None:
                continue
            error = {"message": problem.message, "type": "invalid_request_error", "code": problem.code}
            response = {"status_code": 400, "request_id": None, "body": {"error": error}}
            errors.write(json.dumps({"custom_id": decode(line).custom_id, "response": response, "error": None}) + "\n")
            count += 1
    return count
