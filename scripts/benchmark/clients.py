"""The table of clients: what each is called, how many rows it gets, and the command that runs it."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark import measure, ways
from scripts.benchmark.measure import ClientError, Sample
from scripts.corpus import synthetic, synthetic_line, write

PROMPT_BYTES = 400
SMALL = 4  # the second, smaller run of a client has this part of the rows: the difference of both is the steady state
WRK_S = 5


class Client(NamedTuple):
    """One way to send rows."""

    name: str
    title: str
    rows: int  # so many that a run takes some seconds
    measure: Callable[["Bench", "Client", int], Sample]


class Bench(NamedTuple):
    """Where the clients run."""

    folder: Path  # on a disk: checkpoints are synced there
    url: str
    core: int

    def input(self, rows: int) -> Path:
        """Return the input file of so many rows with a prompt of 400 characters, made on first use."""
        path = self.folder / f"input-{rows}.jsonl"
        if not path.exists():
            write(synthetic(rows, len(synthetic_line(0, "")) + PROMPT_BYTES), path)
        return path

    def scratch(self) -> Path:
        """Return an empty folder for one run."""
        path = self.folder / "run"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def measure_way(bench: Bench, client: Client, rows: int) -> Sample:
    """Run one of the programs of `ways`."""
    source, scratch = bench.input(rows), bench.scratch()
    output = scratch / "output.jsonl"
    command = [sys.executable, ways.__file__, client.name]
    command += ["--url", bench.url, "--input", str(source), "--output", str(output)]
    wall, cpu = measure.run(command, os.environ, scratch / "log", bench.core)
    if not client.name.startswith("bare"):
        check_lines(output, rows)
    return Sample(rows, wall, cpu)


def measure_rowmill(bench: Bench, client: Client, rows: int) -> Sample:
    """Run `rowmill run`: one worker, checkpoints as they are by default."""
    source, scratch = bench.input(rows), bench.scratch()
    output = scratch / "output.jsonl"
    config = scratch / "config.toml"
    config.write_text(
        f"""[input]
path = "{source}"
id = "id"

[task]
model = "{ways.MODEL}"
prompt = "{{text}}"

[[provider]]
base_url = "{bench.url}"
api_key_env = "ROWMILL_BENCH_KEY"

[workers]
count = 1
concurrency = {ways.IN_FLIGHT}

[output]
path = "{output}"
"""
    )
    rowmill = Path(sys.executable).with_name("rowmill")
    if not rowmill.exists():
        raise ClientError(f"{rowmill} does not exist: run scripts/setup")
    command = [str(rowmill), "run", str(config), "--set", f'client.transport="{client.name}"']
    environ = {**os.environ, "ROWMILL_BENCH_KEY": ways.KEY}
    wall, cpu = measure.run(command, environ, scratch / "log", bench.core)
    check_lines(output, rows)
    return Sample(rows, wall, cpu)


def measure_wrk(bench: Bench, _client: Client, rows: int) -> Sample:
    """Run wrk for some seconds, whatever the rows: it counts for itself."""
    wrk = shutil.which("wrk")
    if not wrk:
        raise ClientError("wrk is not installed")
    scratch = bench.scratch()
    script = scratch / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["Authorization"] = "Bearer {ways.KEY}"\n'
        f'wrk.body = \'{{"model":"{ways.MODEL}","messages":[{{"role":"user","content":"{"x" * PROMPT_BYTES}"}}]}}\'\n'
    )
    seconds = max(1, WRK_S * rows // WRK.rows)
    command = [wrk, "-t1", f"-c{ways.IN_FLIGHT}", f"-d{seconds}s", "-s", str(script), f"{bench.url}/chat/completions"]
    wall, cpu = measure.run(command, os.environ, scratch / "log", bench.core)
    text = (scratch / "log").read_text()
    count = re.search(r"(\d+) requests in", text)
    if not count or "Non-2xx" in text or "Socket errors" in text:
        raise ClientError(f"wrk met errors: {text.strip()}")
    return Sample(int(count[1]), wall, cpu)


def check_lines(output: Path, rows: int) -> None:
    """Raise `ClientError` unless the output has one line for each row: a fast wrong way is no way."""
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    if lines != rows:
        raise ClientError(f"{lines} output lines for {rows} rows")


WRK = Client("wrk", "wrk (C), the machine's limit", 600_000, measure_wrk)

CLIENTS = (
    Client("serial", "SDK, one after the other", 600, measure_way),
    Client("threads", "SDK in 128 threads", 2_000, measure_way),
    Client("gather", "AsyncOpenAI, semaphore, gather", 3_000, measure_way),
    Client("tenacity", "the same, tenacity, line by line", 3_000, measure_way),
    Client("bare-asyncio", "bare pyreqwest on asyncio", 160_000, measure_way),
    Client("bare-uvloop", "bare pyreqwest on uvloop", 160_000, measure_way),
    Client("direct", "rowmill run, direct", 160_000, measure_rowmill),
    Client("sdk", "rowmill run, sdk", 3_000, measure_rowmill),
    WRK,
)
