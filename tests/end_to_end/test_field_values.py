"""A value reaches the prompt as it was, whatever file or program it comes from, and comes back as it was."""

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

import rowmill
from tests.end_to_end.conftest import Arrival, Place, Server

PROMPT = "row {n}: <{x}>"


def asked(server: Server) -> dict[int, str]:
    """Return what was asked for each row, behind its number."""
    contents = (json.loads(each.body)["messages"][-1]["content"] for each in server.arrivals)
    return {int(each[4:10]): each[13:].removesuffix(">") for each in contents}


def answered(_: Arrival) -> None:
    return None


def test_numbers_of_json_lines_are_asked_and_kept_as_they_stand_there(
    place: Place, server: Callable[..., Server]
) -> None:
    at = server(answered)
    values = ["1.10", "1e400", "12345678901234567890123", "-0", "1E5", '"007"', "[1.10,-0]", "NaN", "-Infinity", "true"]
    lines = [
        f'{{"n":"{n:06}","id":{value if n == 0 else n},"x":{value},"unused":NaN}}\n' for n, value in enumerate(values)
    ]
    lines[3] = lines[3].replace("NaN", '"\\ud800"')  # of a column that nobody names
    place.configure(at.url)
    place.write_lines([*(line.encode() for line in lines), b"\r\n", b"  \n", b"\n"])
    done = place.run("--set", f"task.prompt={json.dumps(PROMPT)}", "--set", 'output.include=["input"]')
    assert done.code == 0, done.err
    assert asked(at) == dict(enumerate([*values[:5], "007", *values[6:7], "", "", "true"]))
    kept = place.output.read_bytes().splitlines()
    assert len(kept) == len(values), "blank lines at the end are no rows"
    for line, written in zip(kept, lines, strict=True):
        if b"\\ud800" not in written.encode():
            null = written.strip().replace("-Infinity", "null").replace("NaN", "null")
            assert f'"input":{null}' in line.decode()
    assert kept[0].startswith(b'{"index":0,"id":1.10,')
    assert place.log.count("NaN or Infinity") == 1, "it is said once"
    assert not place.errors.exists()


def test_texts_of_csv_are_no_numbers(place: Place, server: Callable[..., Server]) -> None:
    at = server(answered)
    values = ["007", "1.10", "1e5", "NaN", "NA", "null", "-0", "12345678901234567890123", "TRUE"]
    place.configure(at.url)
    rows = "".join(f"{n:06},{value}\n" for n, value in enumerate(values))
    (place.folder / "in.csv").write_text("n,x\n" + rows)
    done = place.run(
        "--set", f"task.prompt={json.dumps(PROMPT)}", "--set", 'input.path="in.csv"', "--set", 'input.id="n"',
        "--set", 'output.path="out.csv"', "--set", 'output.include=["input"]',
    )  # fmt: skip
    assert done.code == 0, done.err
    assert asked(at) == dict(enumerate(values))
    assert [line.split(",")[1] for line in (place.folder / "out.csv").read_text().splitlines()[1:]] == values


def _parts(folder: Path) -> list[pa.Table]:
    """Write two files that differ in a column's type, and of which each has a column that the other lacks."""
    folder.mkdir()
    first = pa.table({
        "n": [f"{n:06}" for n in range(3)],
        "x": pa.array([Decimal("1.10"), Decimal("-0.01"), Decimal("7.00")], pa.decimal128(9, 2)),
        "when": pa.array([1_700_000_000_123_456_789, 1, None], pa.timestamp("ns", "Europe/Berlin")),
        "day": pa.array([dt.date(2024, 2, 29), None, None]),
        "count": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "list": pa.array([[0.1], [], None], pa.list_(pa.float32())),
        "struct": pa.array([{"a": 1, "b": b"\xff"}, None, None], pa.struct([("a", pa.uint8()), ("b", pa.binary())])),
        "size": pa.array([1, 2, 3], pa.int32()),
        "far": pa.array([0, None, 10**15], pa.timestamp("ms")),
        "odd": pa.array([float("nan"), 0.1, float("-inf")], pa.float32()),
    })  # fmt: skip
    second = pa.table({
        "n": ["000003", "000004"],
        "x": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
        "size": pa.array([2**40, None], pa.int64()),
        "odd": pa.array([0.25, None], pa.float32()),
        "late": pa.array([dt.timedelta(seconds=1.5), None], pa.duration("ms")),
    })  # fmt: skip
    for number, table in enumerate((first, second)):
        pq.write_table(table, folder / f"part-{number}.parquet")
    return [first, second]


def test_parquet_in_is_parquet_out_through_failed_rows_and_a_retry(place: Place, server: Callable[..., Server]) -> None:
    broken = True

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        return (400, {}, b'{"error":{"message":"no"}}') if broken and arrival.row == 1 else None

    at = server(decide)
    prompt = PROMPT.replace("{x}", "{x} {odd}")
    first, second = _parts(place.folder / "in")
    place.configure(at.url)
    keys = [
        "--set", f"task.prompt={json.dumps(prompt)}", "--set", 'input.path="in"', "--set", 'input.id="n"',
        "--set", 'output.path="out.parquet"', "--set", 'output.include=["input"]',
    ]  # fmt: skip
    assert place.run(*keys).code == 1
    broken = False
    assert place.retry(*keys).code == 0
    assert asked(at) == {0: "1.10 ", 1: "-0.01 0.1", 2: "7.00 ", 3: "1.10 0.25", 4: " "}
    found = pq.read_table(place.folder / "out.parquet")
    names = [*first.schema.names, "late"]
    expected = {name: (first if name in first.schema.names else second).schema.field(name).type for name in names}
    expected["size"] = pa.int64()
    assert {name: found.schema.field(name).type for name in names} == expected
    assert found.column("far").cast(pa.int64()).to_pylist() == [0, None, 10**15, None, None], "the year is 33,658"
    assert str(found.column("odd").to_pylist()[:3]) == str(first.column("odd").to_pylist())
    for name in set(names) - {"far", "odd"}:
        cells = [table.column(name).to_pylist() if name in table.schema.names else [None] * len(table)
                 for table in (first, second)]  # fmt: skip
        assert found.column(name).to_pylist() == [*cells[0], *cells[1]], name
    assert found.column("error").null_count == 5


def test_what_a_program_holds_is_asked_as_it_is_and_one_bad_text_is_one_failed_row(
    server: Callable[..., Server],
) -> None:
    at = server(answered)
    values: list[Any] = [
        Decimal("1.10"), 2**70, "a\ud800", float("nan"), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b"ab",
        {"b", "a"}, pd.NaT,
    ]  # fmt: skip
    rows = [{"n": f"{n:06}", "x": value, "unused": object()} for n, value in enumerate(values)]
    results = rowmill.map(rows, prompt=PROMPT, model="m", base_url=at.url, id="n")
    assert asked(at) == {
        0: "1.10", 1: "1180591620717411303424", 3: "", 4: "2026-01-02T00:00:00Z", 5: "YWI=", 6: '["a","b"]', 7: "",
    }  # fmt: skip
    assert [result.error is None for result in results] == [n != 2 for n in range(8)]
    assert results[2].id == "000002"
    assert "column 'x' cannot be written as JSON" in str(results[2].error)
    assert "surrogates" in str(results[2].error)
