"""Extraction: fields by a schema from real rows, with replies that do not fit it, and a run killed in the middle."""

import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

from rowmill.core.simulator import SimulatorSettings
from scripts.proving import faults
from scripts.proving.runs import SOME_FAILED, ItemError, Run, Tables, Witness, check, children, gone, simulator, until

ROWS = 12_000
WORKERS = 2
SLOTS = 64
CONTENT_FAULTS = {"wrong-type": 0.02, "extra-prose": 0.015, "cut": 0.015}
CLASSES = {"invalid_output"}  # that a row may end with
PROMPT = "Read this package's entry, section {section}:\n{package}: {description}"
SCHEMA: dict[str, Any] = {
    "title": "entry",
    "type": "object",
    "properties": {
        "summary": {"type": "string", "minLength": 1, "maxLength": 200},
        "kind": {"enum": ["library", "program", "data", "documentation", "other"]},
        "audience": {"type": ["string", "null"]},
        "keywords": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 5},
        "maturity": {"type": "integer", "minimum": 1, "maximum": 5},
        "graphical": {"type": "boolean"},
        "upstream": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "url": {"type": ["string", "null"]}},
            "required": ["name", "url"],
            "additionalProperties": False,
        },
    },
    "required": ["summary", "kind", "audience", "keywords", "maturity", "graphical", "upstream"],
    "additionalProperties": False,
}


class Ended(NamedTuple):
    """How a run's rows ended."""

    rows: int
    in_order: int
    valid: dict[int, Any]  # index -> fields
    classified: int  # failed, of a class that may be


def extraction(folder: Path) -> bool:
    """Extract undisturbed, and once more with kill -9 in the middle."""
    work = folder / "extraction"
    work.mkdir()
    source, _ = faults.input_of(folder)
    rows = work / "rows.jsonl"
    with source.open("rb") as file:
        rows.write_bytes(b"".join(itertools.islice(file, ROWS)))
    schema = work / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    tables: Tables = {"task": {"strict_json": True, "schema": str(schema)}}
    holds, undisturbed = _undisturbed(work, rows, tables)
    return holds & _killed(work, rows, tables, undisturbed)


def _settings(seed: int) -> SimulatorSettings:
    return SimulatorSettings(latency_ms=faults.LATENCY_MS, content_faults=CONTENT_FAULTS, seed=seed)


def _run(folder: Path, source: Path, witness: Witness, tables: Tables) -> Run:
    return Run(folder, source, witness.url, PROMPT, workers=WORKERS, concurrency=SLOTS, tables=tables)


def _undisturbed(folder: Path, source: Path, tables: Tables) -> tuple[bool, Ended]:
    with simulator(_settings(1)) as witness:
        run = _run(folder / "undisturbed", source, witness, tables)
        run.finish(SOME_FAILED)
        stats = witness.stats()
    ended = _ended(run, source)
    damaged = sum(stats["by_fault"].values())
    session = run.session
    print(f"  {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.1f} s, broken replies {stats['by_fault']}")
    holds = _all_ended("undisturbed", ended)
    reasked = session["counters"]["reasked"]
    holds &= check(
        "undisturbed: asked again",
        reasked == damaged - ended.classified,
        f"{reasked:,} times by the report, {damaged:,} broken replies by the simulator, {ended.classified} of them the "
        "last that their rows may have",
    )
    asked, wanted = stats["requests"], ROWS + reasked
    return holds & check("undisturbed: requests", asked == wanted, f"{asked:,}, {wanted:,} wanted"), ended


def _killed(folder: Path, source: Path, tables: Tables, undisturbed: Ended) -> bool:
    with simulator(_settings(2)) as witness:
        run = _run(folder / "killed", source, witness, tables)
        with run.started() as process:
            until(lambda: witness.stats()["requests"] >= ROWS // 2, "requests", 60)
            if process.poll() is not None:
                raise ItemError("the run has ended before it could be killed")
            left = children(process)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for child in left:  # a child may have left the group
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            until(lambda: all(map(gone, left)), "the end of the workers", 60)
        before = witness.stats()
        run.finish(SOME_FAILED)
        stats = witness.stats()
    ended = _ended(run, source)
    damaged = sum(stats["by_fault"].values())
    lost = WORKERS * (SLOTS + _open_group(before))
    holds = _all_ended("killed", ended)
    same = sum(undisturbed.valid.get(index, fields) == fields for index, fields in ended.valid.items())
    holds &= check("killed: fields are those of the other run", same == len(ended.valid), f"{same:,}")
    needed = ROWS + damaged - ended.classified
    holds &= check(
        "killed: requests",
        needed <= stats["requests"] <= needed + lost,
        f"{stats['requests']:,} <= {ROWS:,} rows + {damaged - ended.classified:,} broken replies + {lost} in flight or "
        f"in an open group when it was killed, {before['requests']:,} requests in",
    )
    holds &= check("killed: paid twice", stats["answered_twice"] <= lost, f"{stats['answered_twice']}, at most {lost}")
    # What the killed session counted died with it; what recorded rows took did not.
    known = run.report["totals"]["requests"]
    return holds & check(
        "killed: requests by the report",
        0 <= stats["requests"] - known <= lost,
        f"{known:,} of {stats['requests']:,}; at most {lost} were on their way",
    )


def _open_group(stats: dict[str, Any]) -> int:
    """Return how many replies one worker gets in the time that a group is open."""
    per_s: float = stats["requests"] / (stats["last"] - stats["first"])
    return round(per_s / WORKERS * faults.GROUP_S)


def _ended(run: Run, source: Path) -> Ended:
    validator = jsonschema_rs.validator_for(SCHEMA)
    rows, in_order, classified = 0, 0, 0
    valid: dict[int, Any] = {}
    with source.open("rb") as asked, run.output.open("rb") as answered:
        for index, (row, line) in enumerate(itertools.zip_longest(asked, answered, fillvalue=b"{}")):
            answer = json.loads(line)
            rows += bool(answer)
            in_order += answer.get("index") == index and answer["id"] == json.loads(row).get("id")
            if answer.get("output") is None:
                classified += (answer.get("error") or {}).get("class") in CLASSES
            elif validator.is_valid(answer["output"]):
                valid[index] = answer["output"]
    return Ended(rows, in_order, valid, classified)


def _all_ended(name: str, ended: Ended) -> bool:
    holds = check(f"{name}: one line for every row, in order", ended.rows == ended.in_order == ROWS, f"{ended.rows:,}")
    return holds & check(
        f"{name}: valid or classified",
        len(ended.valid) + ended.classified == ROWS,
        f"{len(ended.valid):,} fit the schema, {ended.classified} failed as {', '.join(CLASSES)}",
    )
