"""Rowmill in Python programs as people write them: without a guard, from stdin, in a loop, in a thread, interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.end_to_end.conftest import Place, Witness, until

# At the top level, in a loop that is running (as a notebook's is), and after that a run that is stopped.
UNGUARDED = """
import asyncio, os, rowmill
print("started")

async def cell():
    config = {
        "input": {"path": "in.jsonl", "id": "id"},
        "task": {"model": "sim-small", "prompt": "Summarise in one line:\\n{text}"},
        "output": {"path": "out.jsonl"},
        "provider": [{"base_url": os.environ["URL"]}],
    }
    return rowmill.run(config, {"workers.count": 1})

report = asyncio.run(cell())
print(report.ok, report.totals.rows, report.output)
try:
    rowmill.map(["x"], model="m", base_url=os.environ["BROKEN"])
except rowmill.ProviderError as error:
    print(error)
"""
# A program without a file, as a notebook is, and not in its main thread.
THREADED = """
import os, pandas, rowmill, threading
print("started")
frame = pandas.DataFrame({"name": ["Ada", "Bo", None]}, index=["x", "y", "z"])
done = []

def work():
    done.append(rowmill.map(frame, prompt="Greet {name}", model="m", base_url=os.environ["URL"]))

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(done[0].to_json(orient="index"))
"""
INTERRUPTED = """
import json, os, rowmill

def ask():
    return rowmill.map(
        (f"row {number}" for number in range(60)),
        model="m", base_url=os.environ["URL"], run_dir="kept", workers={"count": 1, "concurrency": 4},
    )

try:
    ask()
except KeyboardInterrupt as interrupt:
    print(interrupt)
print(json.dumps([[result.index, result.output] for result in ask()]))
"""

GROWING = """
import os, rowmill

def ask(rows, **more):
    return rowmill.map(rows, model="m", base_url=os.environ["URL"], run_dir="kept", workers={"count": 1}, **more)

def refused(*args, **more):
    try:
        ask(*args, **more)
    except rowmill.RowmillError as error:
        return error

print(len(ask(["row 0", "row 1"])))
print(refused(["row 0", "row 1", "row 2"], retry_failed=True))
grown = ask(f"row {n}" for n in range(4))
print([each.output.split(" [")[0] for each in grown], rowmill.report_of(grown).totals.rows)
print(refused(["row 0", "another"]))
for rows, option in (["row 9", 9], {}), (["row 9"], {"budget": {"max_usd": 1}}), ([{"txt": "row 9"}], {}):
    print(refused(rows, fresh=True, **option), os.listdir())
print(len(ask(["row 7"], fresh=True)), sorted(os.listdir("kept.old")))
"""


def start(place: Place, program: str, *, file: Path | None = None, **environ: str) -> subprocess.Popen[str]:
    """Start a program from a file, or from stdin where there is none."""
    temporary = place.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-"] if file is None else [sys.executable, file.name],
        cwd=place.folder,
        env={**place.environ, "TMPDIR": str(temporary), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    if file is None:
        process.stdin.write(program)
        process.stdin.flush()
        process.stdin.close()
        process.stdin = None
    return process


def output_of(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the end and return what the program printed. Nothing else is said where stderr is no terminal."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def test_programs_need_no_guard_no_file_and_no_thread_of_their_own(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness, broken = simulator(latency_ms=5), simulator(latency_ms=5, faults={"401": 1.0})
    place.write_rows(20)
    file = place.folder / "openai.py"  # the name of what a child imports
    file.write_text(UNGUARDED)
    processes = [
        start(place, UNGUARDED, file=file, URL=witness.url, BROKEN=broken.url),
        start(place, THREADED, URL=witness.url),
    ]
    in_loop, in_thread = [output_of(process) for process in processes]

    assert in_loop[:2] == ["started", "True 20 out.jsonl"]
    assert (place.run_dir / "report.html").stat().st_size > 100_000
    assert [line["id"] for line in place.lines] == [f"id-{index}" for index in range(20)]
    assert len(in_loop) == 3
    assert "401" in in_loop[2]

    assert in_thread[0] == "started"
    answers: dict[str, dict[str, Any]] = json.loads(in_thread[1])
    assert list(answers) == ["x", "y", "z"]
    assert [each["name"] for each in answers.values()] == ["Ada", "Bo", None]
    assert [name in str(answers[row]["output"]) for row, name in (("x", "Ada"), ("y", "Bo"))] == [True, True]
    assert [each["error"] for each in answers.values()] == [None] * 3

    assert not list((place.folder / "tmp").iterdir()), "of what was finished, or never paid for, nothing is kept"
    assert witness.stats()["requests"] == 23


def test_an_interrupt_lets_what_is_in_flight_come_home_and_the_same_call_goes_on(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    witness.hold(8)
    process = start(place, INTERRUPTED, URL=witness.url)
    until(lambda: witness.stats()["requests"] > 8, "requests")
    os.kill(process.pid, signal.SIGINT)
    until(lambda: "SIGINT" in (place.folder / "kept" / "run" / "run.log").read_text(), "the signal heard")
    witness.go_on()
    interrupt, results = output_of(process)
    assert interrupt.endswith("rows are done and kept; the same call goes on from there")
    assert (place.folder / "kept" / "run" / "report.html").exists()
    assert 8 <= int(interrupt.split()[0]) < 60
    rows = json.loads(results)
    assert [index for index, _ in rows] == list(range(60))
    assert all(f"row {index} " in f"{output} " for index, output in rows)
    assert witness.stats()["requests"] == 60, "none was paid for twice"


def test_rows_that_came_behind_are_asked_and_others_are_a_new_run(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    first, retried, grown, another, *refused, anew = output_of(start(place, GROWING, URL=witness.url))
    assert first == "2"
    assert retried.endswith("2 rows are done and kept; the same call without retry_failed goes on from there")
    assert grown == "['In short: row 0', 'In short: row 1', 'In short: row 2', 'In short: row 3'] 4"
    assert "kept is the run of other rows: row 1 is another. Name another run_dir" in another
    for error, said in zip(refused, ("row 1 is a int;", "the price of model", "no column 'text'"), strict=True):
        assert said in error
        assert ".new" not in error, "nobody knows of it"
        assert ".old" not in error, "a mistake moves nothing"
        assert "'kept'" in error
    assert anew == "1 ['call.lock', 'results.jsonl', 'rows.jsonl', 'run']"
    assert witness.stats()["requests"] == 5
