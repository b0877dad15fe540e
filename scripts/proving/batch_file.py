"""A batch file as people write it for OpenAI, with lines in it that are wrong in every way that lines are."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from scripts.proving import faults
from scripts.proving.format_files import URL, request
from scripts.proving.runs import SOME_FAILED, ItemError, Run, Tables, check, simulator

LINES = 50_000
WORKERS = 2
TOO_LONG = 520_000  # characters: more tokens than the model has room for
SHOWN = 5  # problems

# Kind of line -> lines in a thousand, and the class of its failure.
KINDS: dict[str, tuple[int, str | None]] = {
    "valid": (800, None),
    "mistyped url": (30, "invalid_row"),
    "other url": (30, "invalid_row"),
    "no body": (30, "invalid_row"),
    "method GET": (20, "invalid_row"),
    "custom_id again": (29, "invalid_row"),
    "no JSON": (20, "invalid_row"),
    "too long": (1, "context_length"),
    "filtered": (20, "content_filter"),
    "no messages": (20, "invalid_request"),
}
AGAIN = "request-0"  # the custom_id that some lines repeat
NOT_SENT = "invalid_row"  # no server has seen such a line, so there is no response of one


class Line(NamedTuple):
    """A line of the batch file."""

    kind: str
    custom_id: str  # as the output must have it
    digest: str  # of what it asks


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    status_code: int
    request_id: str
    body: dict[str, Any]


class _Answered(BaseModel):
    """A line of an output or errors file, as OpenAI's documentation has it; the package has types of its parts only."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str
    custom_id: str
    response: _Response | None
    error: dict[str, Any] | None


def batch_file(folder: Path) -> bool:
    """Run a batch file; hold each line of what comes out against the package's types, and against what was asked."""
    source = folder / "batch.jsonl"
    lines = _write(folder, source)
    counts = Counter(line.kind for line in lines)
    print(f"  {len(lines):,} lines: {', '.join(f'{count:,} {kind}' for kind, count in counts.most_common())}")
    tables: Tables = {
        "input": {"id": None},
        "task": {"model": None, "prompt": None},
        "output": {"path": "out.batch.jsonl", "format": "batch"},
    }
    with simulator(SimulatorSettings(latency_ms=faults.LATENCY_MS)) as witness:
        run = Run(folder / "batch-run", source, witness.url, "", workers=WORKERS, tables=tables)
        run.finish(SOME_FAILED)
        asked = witness.stats()["requests"]
    print(f"  {run.session['rows_per_s']:,.0f} rows/s, {run.session['elapsed_s']:.1f} s")
    valid = [line for line in lines if line.kind == "valid"]
    invalid = [line for line in lines if line.kind != "valid"]
    holds = _holds("results", run.output, valid)
    holds &= _holds("failures", run.errors, invalid)
    sent = sum(KINDS[line.kind][1] != NOT_SENT for line in lines)
    return holds & check("requests", asked == sent, f"{asked:,} for {sent:,} lines that a server can be asked about")


def _write(folder: Path, path: Path) -> list[Line]:
    source, _ = faults.input_of(folder)
    random = Random(4)  # noqa: S311 - repeatable, no secret
    kinds = random.choices(list(KINDS), [share for share, _ in KINDS.values()], k=LINES)
    kinds[0] = "valid"  # so that there is an id to repeat
    lines = []
    with source.open("rb") as rows, path.open("wb") as file:
        for index, (kind, row) in enumerate(zip(kinds, rows, strict=False)):
            if kind == "other url" and index < LINES // 2:
                kind = "mistyped url"  # noqa: PLW2901 - at the start it would be a file for two APIs, which is refused
            asked = request({**json.loads(row), "id": f"request-{index}"}, faults.PROMPT, "gpt-5-mini")
            # Of a line that is no JSON no id can be read: its place stands for it.
            own = {"no JSON": f"row-{index}", "custom_id again": AGAIN}.get(kind, asked["custom_id"])
            lines.append(Line(kind, own, digest(asked["body"]["messages"][0]["content"])))
            file.write(_spoilt(asked, kind) + b"\n")
    return lines


def _spoilt(line: dict[str, Any], kind: str) -> bytes:
    message = line["body"]["messages"][0]
    match kind:
        case "mistyped url":
            line["url"] = URL.removesuffix("s")
        case "other url":
            line["url"] = "/v1/embeddings"
        case "no body":
            del line["body"]
        case "method GET":
            line["method"] = "GET"
        case "custom_id again":
            line["custom_id"] = AGAIN
        case "too long":
            message["content"] *= TOO_LONG // len(message["content"]) + 1
        case "filtered":
            message["content"] += " [[filter]]"
        case "no messages":
            line["body"]["messages"] = []
    text = json.dumps(line).encode()
    return text[:-1] if kind == "no JSON" else text


def _holds(name: str, path: Path, wanted: Sequence[Line]) -> bool:
    """Check that a file has a line for each of these, once and in order, and what each of its lines holds."""
    if not path.exists():
        raise ItemError(f"{path.name} was not written")
    problems = []
    ids = []
    with path.open("rb") as file:
        for number, text in enumerate(file):
            try:
                answered = _Answered.model_validate_json(text)
                ids.append(answered.custom_id)
                problem = _problem(answered, wanted[number]) if number < len(wanted) else "is one too many"
            except ValidationError as error:
                problem = str(error)
            if problem:
                problems.append(f"{path.name}, line {number + 1}: {problem}: {text[:300].decode(errors='replace')}")
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    in_order = ids == [line.custom_id for line in wanted]
    holds = check(f"{name}: each once and in order", in_order, f"{len(ids):,} of {len(wanted):,}")
    valid = len(wanted) - len(problems)
    return holds & check(f"{name}: valid by the package's types", not problems, f"{valid:,} of {len(wanted):,}")


def _problem(answered: _Answered, line: Line) -> str | None:
    """Return what is wrong with what was answered to a line. Raises `ValidationError`."""
    from openai.types import BatchError  # which take half a second: more than `--help` does
    from openai.types.chat import ChatCompletion
    from openai.types.shared import ErrorObject

    fault = KINDS[line.kind][1]
    response = answered.response
    error = None if answered.error is None else BatchError.model_validate(answered.error, strict=True)
    if fault == NOT_SENT:
        good = response is None and error is not None and error.code == fault and bool(error.message)
        return None if good else f"is the answer to: {line.kind}"
    if response is None or error is not None:
        return "has no response"
    if fault is not None:
        refused = ErrorObject.model_validate(response.body["error"], strict=True)
        good = response.status_code == 400 and refused.type == fault and bool(refused.message)  # noqa: PLR2004 - HTTP's
        return None if good else f"is the answer to: {line.kind}"
    completion = ChatCompletion.model_validate(response.body, strict=True)
    content = completion.choices[0].message.content or ""
    good = response.status_code == 200 and content.endswith(f"[{line.digest}]")  # noqa: PLR2004 - HTTP's
    return None if good else "is the answer to another line"
