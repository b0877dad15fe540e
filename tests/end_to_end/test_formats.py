"""Other files than JSON Lines, in and out, by the real command: also killed in the middle, and under another name."""

import csv
import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from tests.end_to_end.conftest import Place, Witness, until

ROWS = 400


def write_csv(path: Path) -> None:
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "price"])
        for index in range(ROWS):
            table.writerow([f"id-{index}", f'row {index:06d}\nhas a "quoted" text, and more of it\n' * 9, index / 4])
        file.write("too,few\n")


def rows_on_disk(checkpoints: Path, least: int) -> bool:
    return sum(path.read_bytes().count(b'{"row":') for path in checkpoints.glob("*.checkpoint")) >= least


def test_a_compressed_table_survives_kills_and_ends_as_another_one(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    place.configure(witness.url)
    write_csv(place.folder / "in.csv.gz")
    options = ["--set=input.path=in.csv.gz", '--set=output.include=["input"]', "--set=checkpoint.dir=run"]
    checkpoints = place.folder / "run" / "checkpoints"
    for least in (20, 200):
        witness.hold(least + 100)  # of which those that were in flight at a kill are asked for again
        started = place.start(*options, "--set=output.path=out.csv")
        until(partial(rows_on_disk, checkpoints, least), f"{least} rows on disk")
        started.kill_all()
    witness.go_on()

    # What comes out is decided at the end: the paid answers are the same.
    done = place.run(*options, "--set=output.path=out/")

    assert done.code == 1, done.err
    table = pq.read_table(place.folder / "out").to_pylist()
    assert [row["index"] for row in table] == list(range(ROWS + 1))
    assert [row["id"] for row in table[:-1]] == [f"id-{index}" for index in range(ROWS)]
    assert [row["price"] for row in table[:-1]] == [str(index / 4) for index in range(ROWS)]
    assert all(f"row {row['index']:06d}" in row["output"] for row in table[:-1])
    assert table[-1]["error"] == "invalid_row"
    assert not (place.folder / "out.csv").exists()
    line = 1 + 19 * ROWS + 1  # each text has 18 line breaks, and one is the row's own
    assert f"line {line}: 2 fields where the header has 3" in (place.folder / "out.errors.jsonl").read_text()


def test_a_batch_file_runs_as_it_is(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator()
    place.configure(witness.url)
    requests = [
        {
            "custom_id": f"c-{index % 58}",  # the last two have been used
            "method": "GET" if index == 7 else "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "sim-small", "messages": [{"role": "user", "content": f"row {index:06d}"}]},
        }
        for index in range(60)
    ]
    place.write_lines(json.dumps(request).encode() + b"\n" for request in requests)
    (place.folder / "config.toml").write_text(
        f'[input]\npath = "in.jsonl"\n[output]\npath = "out.jsonl"\n[[provider]]\nbase_url = "{witness.url}"\n'
    )

    done = place.run()

    assert done.code == 1, done.err
    assert [line["custom_id"] for line in place.lines] == [f"c-{index}" for index in range(58) if index != 7]
    for line in place.lines:
        content = line["response"]["body"]["choices"][0]["message"]["content"]
        assert f"row {int(line['custom_id'][2:]):06d}" in content
    failed = [(line["custom_id"], line["error"]["code"]) for line in place.failed]
    assert failed == [("c-7", "invalid_row"), ("c-0", "invalid_row"), ("c-1", "invalid_row")]
    assert place.report["failures"] == {"invalid_row": 3}
    assert witness.stats()["requests"] == 57


def test_a_trial_first_then_the_whole_and_an_input_that_changed(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator()
    witness.hold(5)
    place.configure(witness.url)
    write_csv(place.folder / "in.csv.gz")
    path = place.folder / "in.csv"
    path.write_bytes(gzip.decompress((place.folder / "in.csv.gz").read_bytes()))
    options = ["--set=input.path=in.csv", "--set=output.path=out.csv"]
    assert place.run(*options, "--limit", "5").code == 0
    with (place.folder / "out.trial.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [f"id-{index}" for index in range(5)]
    assert not (place.folder / "out.csv").exists()

    started = place.start(*options)
    until((place.folder / "out.csv.run" / "plan").exists, "the plan")
    started.kill_all()
    path.write_bytes(path.read_bytes().replace(b"row 000300", b"row 000301", 1))
    changed = place.run(*options)
    assert changed.code == 5, changed.err
    assert "in.csv has changed: rows " in changed.err
    assert not (place.folder / "out.csv").exists()
