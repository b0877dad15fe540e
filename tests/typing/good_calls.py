"""A user's script, which `mypy --strict` passes: what each call takes and gives back. It is checked, and not run."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, assert_type

import pandas as pd
import polars as pl
from pydantic import BaseModel

import rowmill


class Ticket(BaseModel):
    topic: str
    urgent: bool


class Label(TypedDict):
    label: str


@dataclasses.dataclass
class Point:
    x: int


class RayDataset:
    """What a `ray.data.Dataset` is to a type checker, which would have to read all of Ray: one can be gone through."""

    def __iter__(self) -> Iterator[Any]:
        raise TypeError

    def columns(self) -> list[str] | None:
        return None

    def to_arrow_refs(self) -> list[Any]:
        return []


def rows() -> Iterator[dict[str, object]]:
    yield {"text": "a", "n": 1}


async def later() -> AsyncIterator[str]:
    yield "a"


# Iterables come back as lists of results, of the model where there is one.
tickets = rowmill.map(rows(), schema=Ticket, prompt="{text}", model="gpt-5-mini")
assert_type(tickets, rowmill.ResultList[Ticket])
for result in tickets:
    if result.output is not None:
        assert_type(result.output, Ticket)
        print(result.output.topic.upper(), result.cost, result.usage)
    elif result.error is not None:
        print(result.error.fault, result.error.reply)
assert_type(tickets.outputs, list[Ticket | None])
if tickets.report is not None:
    assert_type(tickets.report.usd, float | None)
    print(tickets.report.totals.rows)

assert_type(rowmill.map(["a"], model="m"), rowmill.ResultList[Any])
assert_type(rowmill.map(["a"], schema=Point, model="m"), rowmill.ResultList[Point])
assert_type(rowmill.map(["a"], schema=Label, model="m"), rowmill.ResultList[Label])
assert_type(rowmill.map(["a"], schema=list[Ticket], model="m"), rowmill.ResultList[list[Ticket]])
assert_type(rowmill.map([{"text": 1}, {"text": "b"}], schema={"type": "object"}), rowmill.ResultList[Any])
assert_type(rowmill.map([Ticket(topic="a", urgent=True)], schema="tickets:Ticket"), rowmill.ResultList[Any])
assert_type(rowmill.map(Path("rows.csv"), schema=Ticket, model="m"), rowmill.ResultList[Ticket])

# Tables come back as tables of the same kind, Series as DataFrames.
assert_type(rowmill.map(RayDataset(), schema=Ticket, model="m"), RayDataset)
frame = pd.DataFrame({"text": ["a"]})
assert_type(rowmill.map(frame, schema=Ticket, model="m"), pd.DataFrame)
assert_type(rowmill.map(pd.Series(["a"]), model="m"), pd.DataFrame)
polars = pl.DataFrame({"text": ["a"]})
assert_type(rowmill.map(polars, model="m", include=["usage", "cost", "reasoning"]), pl.DataFrame)
assert_type(rowmill.map(polars["text"], schema=Ticket, model="m"), pl.DataFrame)
assert_type(rowmill.report_of(frame), rowmill.Report | None)


class Batches:
    """As a RecordBatchReader is."""

    def read_all(self) -> pl.DataFrame:
        return polars

    def __iter__(self) -> Iterator[int]:
        return iter(())


assert_type(rowmill.map(Batches(), model="m"), pl.DataFrame)

# Every key of every section.
rowmill.map(
    frame,
    model="m",
    prompt="{text}",
    params={"temperature": 0},
    base_url="http://localhost:8000/v1",
    requests_per_minute=500,
    timeout_s=60,
    workers={"count": 4, "concurrency": "auto"},
    retry={"attempts": 3, "invalid_output": 2},
    cache={"use": "disk", "dir": Path("cache")},
    budget={"max_usd": 5},
    prices={"m": {"input": 0.1, "output": 0.4}},
    batch={"deadline_s": 3600},
    checkpoint={"commit_ms": 50},
    client={"transport": "direct"},
    cluster={"engine": "ray", "resources": {"GPU": 1}},
    machine={"memory": 0.8},
    simulator={"latency_ms": 5},
    limit=5,
    run_dir=Path("kept"),
    progress=False,
)
rowmill.map(["a"], provider=[{"name": "a", "base_url": "http://a/v1", "model": "x"}, {"name": "b", "weight": 0}])


# Types that are no classes are taken, and what comes back is of any type to a checker.
assert_type(rowmill.map(["a"], schema=Literal["a", "b"], model="m"), rowmill.ResultList[Any])
assert_type(rowmill.map(["a"], schema=Annotated[int, "of something"], model="m"), rowmill.ResultList[Any])
print(rowmill.map(["a"], schema=Ticket | int, model="m", run_dir="kept", fresh=True).report)


async def main() -> None:
    assert_type(await rowmill.amap(later(), schema=Ticket, model="m"), rowmill.ResultList[Ticket])
    assert_type(await rowmill.amap(frame, model="m", sample=10), pd.DataFrame)
    assert_type(await rowmill.arun("config.toml", {"workers.count": 2}, schema=Ticket), rowmill.Report)
    try:
        async with asyncio.timeout(60):
            await rowmill.amap(["a"], model="m", run_dir="kept")
    except (TimeoutError, rowmill.RowmillError) as error:
        print(error)


report = rowmill.run({"task": {"model": "m"}}, limit=5)
assert_type(report, rowmill.Report)
print(report.ok, report.usd, report.cost, report.output)
asyncio.run(main())
