"""A plain installation, without pyarrow, numpy and aiohttp, does whatever JSON Lines and CSV take."""

import csv
import json
import os
from collections.abc import Callable

from tests.end_to_end.conftest import ROOT, Place, Server

# Imported by every process of the command as it starts: as where none of the packages is installed.
_WITHOUT = """
import os, sys
sys.modules["pyarrow"] = sys.modules["numpy"] = sys.modules["aiohttp"] = None
with open(os.environ["STARTED"], "a") as started:
    print(os.getpid(), file=started)
"""
ROWS = 40


def test_json_lines_and_csv_need_none_and_parquet_says_what_it_needs(
    place: Place, server: Callable[..., Server]
) -> None:
    asked = server()
    place.configure(asked.url)
    place.write_rows(ROWS)
    without = place.folder / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text(_WITHOUT)
    started = place.folder / "started"
    place.environ |= {"PYTHONPATH": os.pathsep.join((str(without), str(ROOT / "engine"))), "STARTED": str(started)}

    done = place.run("--set", "cache.use=disk", "--set", f"cache.dir={place.folder / 'cache'}")
    assert done.code == 0, done.err
    assert len(place.lines) == ROWS
    assert "  report   out.jsonl.run/report.html" in done.lines
    assert len(set(started.read_text().split())) >= 2  # the command and a worker

    rows = [json.loads(line) for line in place.input.read_text().splitlines()]
    with (place.folder / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (place.folder / "s.json").write_text('{"type":"object","properties":{"label":{"type":"string"}}}')
    schema = ("--set", "task.schema=s.json", "--set", 'output.include=["input"]')
    done = place.run("--set", "input.path=in.csv", "--set", "output.path=out.csv", *schema)
    assert done.code == 0, done.err
    with (place.folder / "out.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(row["id"]) for row in rows]

    requests = len(asked.arrivals)
    done = place.run("--set", "output.path=out.parquet")
    said = "Parquet files need pyarrow, which is not installed: pip install 'rowmill[parquet]'"
    assert done == (2, "", f"rowmill: output.path: out.parquet: {said}\n")
    assert len(asked.arrivals) == requests
    assert not (place.folder / "out.parquet.run").exists()
