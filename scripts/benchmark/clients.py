"""The table of clients: what each is called, whose load it has, how many rows, and the command that runs it."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark import loads, measure, peers, ways
from scripts.benchmark.loads import Load
from scripts.benchmark.measure import ClientError, Sample, Usage
from scripts.benchmark.server import NotInstalledError, Server
from scripts.corpus import synthetic, synthetic_line, write

ROOT = Path(__file__).parents[2]
SMALL = 4  # the second, smaller run of a client has this part of the rows: the difference of both is the steady state
WRK_S = 5
MANY_WORKERS = 64
IN_FLIGHT_OF_MANY = 32  # of each of them


class Client(NamedTuple):
    """One way to send rows under one load."""

    load: Load
    way: str
    title: str
    rows: int  # so many that a run takes some seconds
    measure: Callable[["Bench", "Client", int], Sample]

    @property
    def name(self) -> str:
        """What it is called on the command line and in results."""
        return f"{self.load.name}/{self.way}"


class Bench(NamedTuple):
    """Where the clients run."""

    folder: Path  # on a disk: checkpoints are synced there
    servers: dict[str, Server]  # name of a load -> its own
    core: int
    peers: Path  # where they are installed

    def input(self, rows: int, load: Load) -> Path:
        """Return the input file of so many rows with prompts of the load's size, made on first use."""
        path = self.folder / f"input-{load.prompt_bytes}-{rows}.jsonl"
        if not path.exists():
            write(synthetic(rows, len(synthetic_line(0, "")) + load.prompt_bytes), path)
        return path

    def scratch(self) -> Path:
        """Return an empty folder for one run."""
        path = self.folder / "run"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def run(self, client: Client, command: list[str], scratch: Path, **environ: str) -> tuple[Usage, int | None]:
        """Run a command. Returns what it took, and the most that the server saw in flight."""
        server = self.servers[client.load.name]
        server.most_in_flight()
        usage = measure.run(command, {**os.environ, **environ}, scratch / "log", self.core, watched=client.load.watched)
        return usage, server.most_in_flight()


def measure_way(bench: Bench, client: Client, rows: int) -> Sample:
    """Run one of the programs of `ways`."""
    return measure_program(bench, client, rows, [sys.executable, ways.__file__, client.way])


def measure_peer(bench: Bench, client: Client, rows: int) -> Sample:
    """Run another tool, by the Python of its own environment."""
    peer = peers.PEERS[client.way]
    peer.check(bench.peers)
    command = [str(peer.python(bench.peers)), "-m", peers.PROGRAM, client.way]
    home = bench.folder / "home"  # their caches: what one run has kept is not to answer the next one
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return measure_program(bench, client, rows, command, PYTHONPATH=str(ROOT), HOME=str(home))


def measure_program(bench: Bench, client: Client, rows: int, command: list[str], **environ: str) -> Sample:
    """Run a program that is told what to do as `ways` are."""
    source, scratch = bench.input(rows, client.load), bench.scratch()
    server = bench.servers[client.load.name]
    output = scratch / "output.jsonl"
    command += ["--url", server.url, "--input", str(source), "--output", str(output)]
    command += ["--in-flight", str(client.load.in_flight)]
    command += ["--authority", str(server.authority)] if server.authority else []
    usage, in_flight = bench.run(client, command, scratch, **environ)
    if not client.way.startswith("bare"):
        check_lines(output, rows)
    return Sample(rows, usage, in_flight)


def measure_rowmill(bench: Bench, client: Client, rows: int) -> Sample:
    """Run `rowmill run`: checkpoints as they are by default, one worker unless it is the way with many."""
    source, scratch = bench.input(rows, client.load), bench.scratch()
    server = bench.servers[client.load.name]
    output = scratch / "output.jsonl"
    config = scratch / "config.toml"
    many = client.way == "many"
    config.write_text(
        f"""[input]
path = "{source}"
id = "id"

[task]
model = "{ways.MODEL}"
prompt = "{{text}}"

[[provider]]
base_url = "{server.url}"
api_key_env = "ROWMILL_BENCH_KEY"
{f'ca_file = "{server.authority}"' if server.authority else ""}

[client]
transport = "{"sdk" if client.way == "sdk" else "direct"}"

[workers]
count = {MANY_WORKERS if many else 1}
concurrency = {IN_FLIGHT_OF_MANY if many else client.load.in_flight}

[output]
path = "{output}"
"""
    )
    rowmill = Path(sys.executable).with_name("rowmill")
    if not rowmill.exists():
        raise ClientError(f"{rowmill} does not exist: run scripts/setup")
    usage, in_flight = bench.run(client, [str(rowmill), "run", str(config)], scratch, ROWMILL_BENCH_KEY=ways.KEY)
    check_lines(output, rows)
    return Sample(rows, usage, in_flight)


def measure_wrk(bench: Bench, client: Client, rows: int) -> Sample:
    """Run wrk for some seconds, whatever the rows: it counts for itself."""
    wrk = shutil.which("wrk")
    if not wrk:
        raise NotInstalledError("wrk is not installed")
    scratch, load = bench.scratch(), client.load
    script = scratch / "post.lua"
    body = {"model": ways.MODEL, "messages": [{"role": "user", "content": "x" * load.prompt_bytes}]}
    script.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f'wrk.headers["Authorization"] = "Bearer {ways.KEY}"\n'
        f"wrk.body = '{json.dumps(body, separators=(',', ':'))}'\n"
    )
    seconds = max(1, WRK_S * rows // client.rows)
    command = [wrk, "-t1", f"-c{load.in_flight}", f"-d{seconds}s", "--timeout=30s", "-s", str(script)]
    command += [f"{bench.servers[load.name].url}/chat/completions"]
    usage, in_flight = bench.run(client, command, scratch)
    text = (scratch / "log").read_text()
    count = re.search(r"(\d+) requests in", text)
    if not count or "Non-2xx" in text or "Socket errors" in text:
        raise ClientError(f"wrk met errors: {text.strip()}")
    return Sample(int(count[1]), usage, in_flight)


def check_lines(output: Path, rows: int) -> None:
    """Raise `ClientError` unless the output has one line for each row: a fast wrong way is no way."""
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    if lines != rows:
        raise ClientError(f"{lines} output lines for {rows} rows")


USUAL, OURS, BEST, LANE, LIMIT = (
    ("gather", "AsyncOpenAI, semaphore, gather"),
    ("direct", "rowmill run, direct"),
    ("bare-uvloop", "bare pyreqwest on uvloop"),
    ("bare-own", "rowmill's own HTTP, bare"),
    ("wrk", "wrk (C), the machine's limit"),
)


def beside(load: Load, rows: int) -> tuple[Client, ...]:
    """Return the ways of a load that is not the plain one: the usual, the bare ones, a whole run, and the limit."""
    return (
        Client(load, *USUAL, 2_000, measure_way),
        Client(load, *BEST, rows, measure_way),
        Client(load, *LANE, rows, measure_way),
        Client(load, *OURS, rows, measure_rowmill),
        Client(load, *LIMIT, rows, measure_wrk),
    )


CLIENTS = (
    Client(loads.PLAIN, "serial", "SDK, one after the other", 600, measure_way),
    Client(loads.PLAIN, "threads", "SDK in 128 threads", 2_000, measure_way),
    Client(loads.PLAIN, *USUAL, 3_000, measure_way),
    Client(loads.PLAIN, "tenacity", "the same, tenacity, line by line", 3_000, measure_way),
    Client(loads.PLAIN, "bare-asyncio", "bare pyreqwest on asyncio", 160_000, measure_way),
    Client(loads.PLAIN, *BEST, 160_000, measure_way),
    Client(loads.PLAIN, *LANE, 160_000, measure_way),
    Client(loads.PLAIN, *OURS, 160_000, measure_rowmill),
    Client(loads.PLAIN, "sdk", "rowmill run, sdk", 3_000, measure_rowmill),
    Client(loads.PLAIN, *LIMIT, 600_000, measure_wrk),
    *beside(loads.TLS, 100_000),
    *beside(loads.LARGE, 80_000),
    *beside(loads.SLOW, 40_000),
    Client(loads.WORKERS, "direct", "rowmill run, 1 worker", 160_000, measure_rowmill),
    Client(loads.WORKERS, "many", f"rowmill run, {MANY_WORKERS} workers", 160_000, measure_rowmill),
    Client(loads.MEMORY, *OURS, 40_000, measure_rowmill),
    Client(loads.PEERS, *OURS, 160_000, measure_rowmill),
    *(Client(loads.PEERS, name, peer.title, peer.rows, measure_peer) for name, peer in peers.PEERS.items()),
)
