"""What the end-to-end tests share: the real command in a directory of its own, and servers that outlive it."""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator import replies
from scripts.ports import kept_port
from scripts.proving.ray_nodes import RayNodes, ray_nodes
from tests.simulator_host import SimulatorHost

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-that-must-not-show"
PROMPT = "Summarise in one line:\n{text}"
_CONFIG = """
[input]
path = "in.jsonl"
id = "id"
[task]
model = "sim-small"
prompt = "Summarise in one line:\\n{{text}}"
[output]
path = "out.jsonl"
[[provider]]
name = "main"
base_url = "{url}"
timeout_s = 5
[workers]
count = 2
concurrency = 16
[checkpoint]
commit_ms = 20
"""
_MOST_ROWS = 1500
_FILLER = "one line of text of no meaning, there to make a shard of sixty-four kibibytes out of few rows; " * 8


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Return what the condition returns once that is true; fail after so many seconds."""
    begun = time.monotonic()
    end = begun + seconds
    while not (value := condition()):
        looked = time.monotonic()
        assert looked < end, f"{what}: not within {seconds:g} s"
        # Each look costs the simulator, or the disk, what a request does, and the machine more where it is long.
        time.sleep(max(0.02, 2 * (looked - begun)))
        begun = time.monotonic()
    return value


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


class Started:
    """A command at work, in a process group of its own."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self.process.pid

    def children(self) -> list[psutil.Process]:
        """Every process that the command has started and that is at work now."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Those of them that hold a connection: workers that send."""
        return [child for child in self.children() if _has_connections(child)]

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def kill_all(self) -> Done:
        """SIGKILL the supervisor and everything that it started, at once."""
        os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self, seconds: float = 60.0) -> Done:
        """Wait for the end."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            pytest.fail(f"the command was still at work after {seconds:g} s; its stderr:\n{err}")
        return Done(self.process.returncode, out, err)

    def close(self) -> None:
        """Let go of what a command has said that nobody waited for, as where a test has failed."""
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _has_connections(process: psutil.Process) -> bool:
    try:
        return any(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))
    except psutil.Error:
        return False


class Place:
    """A directory with an input and a configuration, in which the command runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.errors = folder / "out.errors.jsonl"
        self.run_dir = folder / "out.jsonl.run"
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT / "engine")}
        self._started: list[Started] = []

    def configure(self, url: str) -> None:
        """Write the configuration; `--set` arguments of the command change it."""
        (self.folder / "config.toml").write_text(_CONFIG.format(url=url))

    def write_rows(self, rows: int) -> None:
        """Write as many rows of about 700 bytes, each with a text of its own."""
        self.write_lines(_row(index) for index in range(rows))

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """Write the input."""
        self.input.write_bytes(b"".join(lines))

    def start(self, *arguments: str, command: str = "run") -> Started:
        """Start `rowmill COMMAND config.toml ARGUMENTS`."""
        words = [sys.executable, "-m", "rowmill", command, "config.toml", *arguments]
        started = Started(words, self.folder, self.environ)
        self._started.append(started)
        return started

    def run(self, *arguments: str) -> Done:
        """Run the same to its end."""
        return self.start(*arguments).wait()

    def retry(self, *arguments: str) -> Done:
        """Run `rowmill retry` to its end."""
        return self.start(*arguments, command="retry").wait()

    def end(self) -> None:
        """End whatever is still at work."""
        for started in self._started:
            if started.process.poll() is None:
                started.kill_all()
            else:
                started.close()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The output, decoded."""
        return [json.loads(line) for line in self.output.read_bytes().splitlines()]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The errors file, decoded."""
        return [json.loads(line) for line in self.errors.read_bytes().splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        """The report of the run directory."""
        report: dict[str, Any] = json.loads((self.run_dir / "report.json").read_bytes())
        return report

    @property
    def log(self) -> str:
        """The log of the run directory."""
        return (self.run_dir / "run.log").read_text()

    def recorded(self) -> set[int]:
        """Read which rows have their outcome in a checkpoint, whole."""
        rows = set()
        for path in (self.run_dir / "checkpoints").glob("*.checkpoint"):
            for line in path.read_bytes().splitlines(keepends=True):
                text = line[9:-1]
                if line.endswith(b"\n") and line[:9] == b"%08x " % zlib.crc32(text) and text.startswith(b'{"row":'):
                    rows.add(int(text[7 : text.index(b",")]))
        return rows

    def files(self) -> dict[str, bytes | None]:
        """Everything in the directory: contents by path, None for a directory."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
        }


def _text(index: int) -> str:
    return f"row {index:06d}: {_FILLER[: 600 + index % 7]}"


def _row(index: int) -> bytes:
    return json.dumps({"id": f"id-{index}", "text": _text(index)}).encode() + b"\n"


def prompt_of(index: int) -> str:
    """Return the user message of a row that `write_rows` wrote."""
    return PROMPT.format(text=_text(index))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.end()


class Witness:
    """A simulator that outlives the command."""

    def __init__(self, simulators: SimulatorHost, settings: SimulatorSettings) -> None:
        self._simulator = simulators.start(settings)
        self.url = self._simulator.base_url

    def stats(self) -> dict[str, Any]:
        """Ask what it has seen, all providers together."""
        with _direct.open(f"{self.url.removesuffix('/v1')}/stats", timeout=10) as reply:
            total: dict[str, Any] = json.load(reply)["total"]
        return total

    def hold(self, answers: int) -> None:
        """Answer so many requests from the first one on; all others wait until `go_on`, and the run with them."""
        self._simulator.hold(answers)

    def go_on(self) -> None:
        """Answer everything again."""
        self._simulator.hold()

    def keep(self, kept: str = "") -> None:
        """Keep the requests of the Batch API waiting that match, as "GET /v1/batches/.*", until it is called again."""
        self._simulator.keep(kept)

    def stop(self) -> None:
        self._simulator.stop()


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to our loopback


@pytest.fixture
def simulator(simulators: SimulatorHost) -> Iterator[Callable[..., Witness]]:
    """Start a simulator: `simulator(latency_ms=10, faults={"500": 0.01})`."""
    started: list[Witness] = []

    def start(**settings: Any) -> Witness:
        witness = Witness(simulators, SimulatorSettings(**{"latency_ms": 10.0, **settings}))
        started.append(witness)
        return witness

    yield start
    for witness in started:
        witness.stop()


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """Serve a bucket "rows"; gives the environment that names it."""
    import s3fs  # type: ignore[import-untyped]  # it ships no types, and is slow to load
    from moto.server import ThreadedMotoServer

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


@pytest.fixture(scope="session")
def nodes() -> Iterator[RayNodes]:
    """Two nodes of Ray, for all tests that have a cluster: they run in one process.

    Each has room for a worker beside two others: runs wait for their ends while tests go on.
    """
    with ray_nodes(2, cpus=3) as nodes:
        yield nodes


@pytest.fixture
def nobody() -> str:
    """Give the URL of a port of which nobody else takes possession, and at which nobody listens."""
    return f"http://127.0.0.1:{kept_port()}/v1"


class Arrival(NamedTuple):
    """One request as a `Server` saw it."""

    row: int  # the number in its text
    nth: int  # how often the row has been asked for, this time included
    at: float  # monotonic
    port: int  # of the sender
    authorization: str | None
    body: bytes


class Server(ThreadingHTTPServer):
    """Answers as the simulator does, but first asks `decide`: None for that answer, or a status, headers and a body."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, decide: Callable[[Arrival], tuple[int, dict[str, str], bytes] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.decide = decide
        self.arrivals: list[Arrival] = []
        self.counts: Counter[int] = Counter()
        self.lock = threading.Lock()
        self._answers = inf
        self._more = threading.Condition()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def hold(self, answers: float) -> None:
        """Answer so many requests from the first one on; all others wait until `go_on`, and the run with them."""
        with self._more:
            self._answers = answers
            self._more.notify_all()

    def go_on(self) -> None:
        """Answer everything again."""
        self.hold(inf)

    def wait_for_turn(self, number: int) -> None:
        """Wait until this request, counted from 1, may be answered."""
        with self._more:
            assert self._more.wait_for(lambda: number <= self._answers, 60), "nobody has let it go on"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders that are killed in the middle of an exchange are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        content = json.loads(body)["messages"][-1]["content"]
        row = int(content.partition("row ")[2][:6] or -1)  # a text may be empty
        with self.server.lock:
            self.server.counts[row] += 1
            arrival = Arrival(
                row,
                self.server.counts[row],
                time.monotonic(),
                self.client_address[1],
                self.headers["authorization"],
                body,
            )
            self.server.arrivals.append(arrival)
            number = len(self.server.arrivals)
        self.server.wait_for_turn(number)
        status, headers, answer = self.server.decide(arrival) or (
            200,
            {},
            replies.compose(body, replies.fingerprint(body)).body,
        )
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": len(answer), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of what it overrides
        pass


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Start a `Server`: `server(decide)`."""
    started: list[tuple[Server, threading.Thread]] = []

    def start(decide: Callable[[Arrival], tuple[int, dict[str, str], bytes] | None] = lambda _: None) -> Server:
        server = Server(decide)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for each, thread in started:
        each.shutdown()
        thread.join()
        each.server_close()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, simulators: SimulatorHost) -> Callable[[int], bytes]:
    """Give the output for `write_rows(n)`, made once without faults and with one worker."""
    # Once for all processes that run tests: the first one that needs it makes it, the others wait for it.
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "reference"
    folder.mkdir(exist_ok=True)
    place = Place(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.output.exists():
            _make(place, simulators)
    lines = place.output.read_bytes().splitlines(keepends=True)
    assert len(lines) == _MOST_ROWS

    def first(rows: int) -> bytes:
        assert rows <= _MOST_ROWS
        return b"".join(lines[:rows])

    return first


def _make(place: Place, simulators: SimulatorHost) -> None:
    """Make the output for as many rows as any test has."""
    witness = Witness(simulators, SimulatorSettings(latency_ms=2.0))
    try:
        place.configure(witness.url)
        place.write_rows(_MOST_ROWS)
        done = place.run("--set", "workers.count=1", "--set", "workers.concurrency=64")
    finally:
        place.end()
        witness.stop()
    assert done.code == 0, done.err
