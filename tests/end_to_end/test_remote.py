"""Rows from another machine, and answers to it: through a real S3-compatible server on this one."""

import json
from collections.abc import Callable

import s3fs  # type: ignore[import-untyped]  # it ships no types

from tests.end_to_end.conftest import SECRET, Place, Witness


def test_rows_come_from_a_bucket_and_answers_go_there(
    place: Place, simulator: Callable[..., Witness], bucket: dict[str, str]
) -> None:
    store = s3fs.S3FileSystem()
    rows = [{"id": f"id-{index}", "text": f"row {index:06d}" if index != 7 else None} for index in range(40)]
    rows[9]["text"] = "row 000009 [[filter]]"
    for name, part in (("a", rows[:25]), ("b", rows[25:])):
        store.pipe_file(f"rows/in/{name}.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in part))
    place.configure(simulator().url)
    place.environ |= bucket
    options = [
        "--set=input.path=s3://rows/in/",
        "--set=output.path=s3://rows/out/answers.csv",
        "--set=output.include=[]",
    ]

    done = place.run(*options)

    assert done.code == 1, done.err
    table = store.cat_file("rows/out/answers.csv").decode().splitlines()
    assert [line.split(",")[:2] for line in table[1:]] == [[str(index), f"id-{index}"] for index in range(40)]
    (error,) = map(json.loads, store.cat_file("rows/out/answers.errors.jsonl").splitlines())
    assert (error["index"], error["class"]) == (9, "content_filter")
    assert "s3://rows/out/answers.errors.jsonl" in done.err
    again = place.run(*options)
    assert "this run has finished" in again.err
    # What lies there and is of another run is not written over.
    other = place.run(*options, "--set=checkpoint.dir=other.run")
    assert other.code == 2
    assert "s3://rows/out/answers.csv exists and is not of this run" in other.err
    every = (
        done.err
        + again.err
        + other.err
        + "".join(data.decode(errors="replace") for data in place.files().values() if data)
    )
    assert SECRET not in every
