"""Rows from another machine, and answers to it: through a real S3-compatible server on this one."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import s3fs  # type: ignore[import-untyped]  # it ships no types
from moto.server import ThreadedMotoServer

from tests.end_to_end.conftest import Place, Witness

SECRET = "a-secret-that-must-not-show"


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """Serve a bucket "rows"; gives the environment that names it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    environ = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.get_host_and_port()[1]}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs("rows", exist_ok=True)  # a server of another test leaves it behind
        yield environ
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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
