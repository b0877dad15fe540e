"""On a real Ray cluster: rows in a bucket that the nodes read themselves, and requests that all nodes share."""

import json
import threading
from collections.abc import Callable

import pytest
import s3fs  # type: ignore[import-untyped]  # it ships no types

from scripts.proving.ray_nodes import RayNodes
from tests.end_to_end.conftest import Arrival, Place, Server

pytestmark = pytest.mark.cluster  # of one process: the cluster is made once

ROWS, TEXTS = 1000, 500  # the second half asks what the first does
SLOTS = 4


def test_nodes_read_a_bucket_and_share_requests(
    place: Place, nodes: RayNodes, server: Callable[..., Server], bucket: dict[str, str]
) -> None:
    rows = [{"id": f"id-{index}", "text": f"row {index % TEXTS:06d} {'x' * 400}"} for index in range(ROWS)]
    s3fs.S3FileSystem().pipe_file("rows/cluster.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    both = threading.Event()  # have asked: one alone has fewer slots than requests have come

    def decide(arrival: Arrival) -> None:
        if len(asked.arrivals) > SLOTS + 1:
            both.set()
        if arrival.row != asked.arrivals[0].row:  # without one answer few are asked
            both.wait(40)

    asked = server(decide)
    place.configure(asked.url)
    config = place.folder / "config.toml"
    config.write_text(config.read_text().replace("timeout_s = 5", "timeout_s = 60"))
    place.environ |= bucket
    there = ", ".join(f'{name} = "{value}"' for name, value in bucket.items())
    options = {
        "cluster.engine": "ray",
        "cluster.address": nodes.address,
        "cluster.workers_per_node": 1,
        "cluster.runtime_env": f"{{ env_vars = {{ {there} }} }}",
        "input.path": "s3://rows/cluster.jsonl",
        "cache.use": "run",
        "workers.concurrency": SLOTS,
    }
    done = place.run(*(f"--set={key}={value}" for key, value in options.items()))
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in place.output.read_bytes().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert all(row["text"][:10] in line["output"] for row, line in zip(rows, lines, strict=True))
    assert asked.counts == dict.fromkeys(range(TEXTS), 1)
    assert "cannot read" not in place.log
    [session] = place.report["sessions"]
    assert session["counters"]["duplicates"] == ROWS - TEXTS
    assert len(session["nodes"]) == 2
    assert all(node["rows"] for node in session["nodes"])
