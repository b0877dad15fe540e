"""Models and awaited calls in Python programs as people write them, each with real requests to a server."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until

# Everything is defined in the program itself: in `__main__`, and without a file.
MODELS = """
import asyncio, enum, json, os, threading
from datetime import date
from decimal import Decimal
from pathlib import Path
import pandas as pd
from pydantic import BaseModel, Field, model_validator
import rowmill

class Kind(enum.Enum):
    KITCHEN = "kitchen"
    GARDEN = "garden"

class Maker(BaseModel):
    name: str

LEAST = 0

class Item(BaseModel):
    kind: Kind
    maker: Maker
    price: Decimal
    note: str = Field(alias="theNote")
    sold: date | None = None

    @model_validator(mode="after")
    def positive(self):
        if self.price <= LEAST:
            raise ValueError(f"no price in {self.note}")
        return self

OPTIONS = dict(
    model="m", base_url=os.environ["URL"], retry={"invalid_output": 2}, workers={"count": 1},
    prices={"m": {"input": 1.0, "output": 2.0}}, include=["cost"],
)
rows = [{"text": f"row {n:06d}"} for n in range(4)]

LOCK = threading.Lock()

# What no worker can be given is heard in the end, with its text kept.
class Guarded(BaseModel):
    price: Decimal

    @model_validator(mode="after")
    def positive(self):
        with LOCK:
            assert self.price > 0, "no price"
        return self

async def several():
    # All at once, of other models, while the loop goes on: rows of a table, of a file and of a list.
    return await asyncio.gather(
        rowmill.amap(pd.DataFrame(rows), schema=Item, run_dir="kept", **OPTIONS),
        rowmill.amap(
            Path("rows.csv"), schema=list[Maker], limit=2, run_dir="kept", prompt="list {text}", **OPTIONS
        ),
        rowmill.amap(rows[2:], schema=Guarded, **OPTIONS),
        # A run by a configuration takes the same model.
        rowmill.arun(
            {"input": {"path": "rows.csv"}, "task": {"model": "m", "prompt": "{text}", "schema": Item},
             "output": {"path": "o.csv"}, "provider": [{"base_url": os.environ["URL"]}], "workers": {"count": 1}},
        ),
    )

Path("rows.csv").write_text("text\\nrow 000000\\nrow 000003\\nrow 000001\\n")
frame, filed, guarded, report = asyncio.run(several())
# The same rows as a list are the same run, which asks for nothing again; nor does it as a table.
listed = rowmill.map(rows, schema=Item, run_dir="kept", **OPTIONS)
again = rowmill.map(pd.DataFrame(rows), schema=Item, run_dir="kept", **OPTIONS)
assert again.equals(frame)
assert [type(each.output) for each in listed] == [Item, Item, type(None), Item], listed
first = listed[0].output
assert (first.kind, first.maker.name, first.price, first.note, first.sold) == (
    Kind.GARDEN, "m", Decimal("2.5"), "row 000000", date(2026, 1, 2)
)
failed = listed[2].error
assert failed.fault == "invalid_output" and failed.message.endswith("no price in row 000002"), failed
assert json.loads(failed.reply)["price"] == -1
assert list(frame.columns) == ["text", "kind", "maker", "price", "note", "sold", "error", "cost"]
assert str(frame["sold"].dtype) == "datetime64[s]" and frame["sold"][0].year == 2026
assert frame["kind"].tolist() == ["garden", "garden", None, "garden"]
costs = [each.cost for each in listed]
assert costs[0] == frame["cost"][0] == (10 * 1.0 + 5 * 2.0) / 1e6 and costs[2] is None, costs
print(listed.report.totals.rows, listed.report.totals.failed, round(listed.report.usd * 1e6))
print(rowmill.report_of(frame).totals.rows, frame.attrs["rowmill"]["totals"]["failed"])
# Another question is another run, a trial has a place of its own, and a file may be the rows.
try:
    rowmill.map(pd.DataFrame(rows), schema=Maker, run_dir="kept", **OPTIONS)
except rowmill.RunDirectoryError as error:
    assert str(error).endswith("another run_dir for a new run, or fresh=True to keep what is there aside"), error
assert Path("kept-limit-2").is_dir()
assert [each.output for each in filed] == [[Maker(name="m")], [Maker(name="m")]], filed
assert guarded[0].error.fault == "invalid_output" and json.loads(guarded[0].error.reply)["price"] == -1, guarded
assert guarded[1].output == Guarded(price=Decimal("2.5"))
assert (guarded.report.totals.failed, guarded.report.failures) == (1, {"invalid_output": 1}), guarded.report.failures
assert isinstance(guarded.report.usd, float)
print(report.ok, Path("o.csv").read_text().splitlines()[0])
"""


def start(place: Place, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program from stdin, where no error stream is a terminal."""
    temporary = place.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-"],
        cwd=place.folder,
        env={**place.environ, "TMPDIR": str(temporary), **environ},
        input=program,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_has_instances_and_typed_columns_and_its_validators_are_heard(
    place: Place, server: Callable[..., Server]
) -> None:
    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        # Row 1 is right once it has been told what is wrong, row 2 never.
        wrong = arrival.row == 2 or (arrival.row == 1 and b"no price" not in arrival.body)
        output: Any = {"kind": "garden", "maker": {"name": "m"}, "price": -1 if wrong else 2.5}
        output |= {"theNote": f"row {arrival.row:06d}", "sold": "2026-01-02"}
        if b"list row" in arrival.body:
            output = {"value": [{"name": "m"}]}
        message = {"role": "assistant", "content": json.dumps(output)}
        body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return 200, {}, json.dumps({**body, "usage": usage}).encode()

    witness = server(decide)
    done = start(place, MODELS, URL=witness.url)
    assert done.stderr == ""
    # 2 requests for the rows that were right at once, 2 each for those that were wrong first, or always.
    listed, framed, ran = done.stdout.splitlines()
    assert (listed, framed) == ("4 1 120", "4 1")
    assert ran.startswith("True index,id,")
    assert ran.endswith(",kind,maker,price,theNote,sold")
    assert not list((place.folder / "tmp").iterdir())
    sent = [json.loads(arrival.body)["response_format"]["json_schema"] for arrival in witness.arrivals]
    assert {(each["name"], each["strict"]) for each in sent} == {("Item", True), ("answer", True), ("Guarded", True)}
    assert len(sent) == 6 + 2 + 2 + 4, "of the table, the trial, the guarded ones, the configuration"


CANCELLED = """
import asyncio, json, os, rowmill, urllib.request

OPTIONS = dict(
    model="m", base_url=os.environ["URL"], workers={"count": 1, "concurrency": 4}, timeout_s=20, run_dir="kept"
)

def asked():
    with urllib.request.urlopen(os.environ["URL"].removesuffix("/v1") + "/stats") as reply:
        return json.load(reply)["total"]["requests"]

async def rows():
    for number in range(60):
        yield f"row {number}"

async def main():
    task = asyncio.create_task(rowmill.amap(rows(), **OPTIONS))
    ticks = 0
    while await asyncio.to_thread(asked) < 8:
        ticks += 1
        await asyncio.sleep(0.01)  # each look costs the server, and the workers that are about to start
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as cancelled:
        print(ticks > 3, cancelled)
    # Cancelled before it has begun, by a timeout; then the process goes on with it, and with another one at once.
    try:
        async with asyncio.timeout(0.01):
            await rowmill.amap((f"row {number}" for number in range(60)), **OPTIONS)
    except TimeoutError:
        print("late")
    report, results = await asyncio.gather(
        rowmill.arun(
            {"input": {"path": "in.jsonl"}, "task": {"model": "m", "prompt": "{text}"},
             "output": {"path": "out.jsonl"}, "provider": [{"base_url": os.environ["URL"]}], "workers": {"count": 1}},
        ),
        rowmill.amap(rows(), **OPTIONS),
    )
    print(report.ok)
    print(json.dumps([[result.index, result.output] for result in results]))

asyncio.run(main())
"""


def test_a_cancel_lets_what_is_in_flight_come_home_and_the_process_lives_on(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    witness.hold(8)
    place.write_rows(5)
    with ThreadPoolExecutor(1) as pool:
        program = pool.submit(start, place, CANCELLED, URL=witness.url, no_proxy="*")
        log = place.folder / "kept" / "run" / "run.log"
        until(lambda: program.done() or (log.exists() and "SIGINT" in log.read_text()), "the cancel heard")
        witness.go_on()
        done = program.result()
    assert done.stderr == ""
    cancelled, late, whole, results = done.stdout.splitlines()
    assert cancelled.startswith("True "), "the loop went on meanwhile"
    assert cancelled.endswith("rows are done and kept; the same call goes on from there")
    assert 8 <= int(cancelled.split()[1]) < 60
    assert (late, whole) == ("late", "True")
    answered = json.loads(results)
    assert [index for index, _ in answered] == list(range(60))
    assert all(f"row {index} " in f"{output} " for index, output in answered)
    assert witness.stats()["requests"] == 65, "none was paid for twice"
