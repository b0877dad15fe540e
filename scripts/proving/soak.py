"""A day in small: five million requests to servers at their worst, which are ended and started anew all the while.

Each reply must be its own row's, no row be lost or asked for again after its answer, and nothing grow in any process.
`ROWMILL_SOAK` says how many rows there are.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import msgspec
import psutil

from scripts.ports import kept_port
from scripts.proving.fates import ENDS, Seen
from scripts.proving.fault_replies import DIGITS, answer_to
from scripts.proving.footprint import Footprint, environment, grown
from scripts.proving.runs import ItemError, Run, Tables, check, children, until

ROWS = 5_000_000
WORKERS = 2
SLOTS = 256  # of each worker
TIMEOUT_S = 3.0  # of a request: silence is waited out a thousand times
EACH_LONG = 5_000  # row is so long that its request comes in pieces
RESTART_EACH = 100_000  # requests, a server is ended
LEAST_RESTARTS = 4
DOWN_S = 1.5  # at most
LOOK_S = 0.5
LONGEST_S = 7_200.0
HOSTS = {"one": "127.0.0.1", "two": "127.0.0.2"}  # of the providers
SERVERS = ("one", "one", "two")  # two share an address
TRIPS = 20  # failures in a row after which a worker asks a provider no more, for a while
# What may be more at the end than after the warm-up, by kind. Each worker closes 50,000 connections meanwhile, 30,000
# requests fail, and 2,000,000 are answered: a descriptor of a thousand, a task of ten thousand, an object of each
# failure or four bytes of each answer that are not given back are more. Of the objects some 10,000 are garbage in
# cycles, which Python collects when it is a quarter of what there is.
MOST_GROWN = {"descriptors": 50, "tasks": 5, "objects": 20_000, "MB": 8}


class _Server:
    """One server, in several lives."""

    def __init__(self, folder: Path, number: int, host: str, port: int, rows: int) -> None:
        self._file = folder / f"seen-{number}"
        self.log = folder / f"server-{number}.txt"
        self._words = (host, str(port), str(self._file), str(rows))
        self.seen = Seen(self._file, rows)
        self.lives = 0
        self.begins_at = 0.0  # again
        self.start()

    def start(self) -> None:
        self.lives += 1
        command = [sys.executable, "-P", "-m", "scripts.proving.fault_server", *self._words, str(self.lives)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)

    def end(self, number: int) -> None:
        self._process.send_signal(number)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None


def soak(folder: Path) -> bool:
    """Run all rows, and hold what came of it against what the servers have seen."""
    rows = int(os.environ.get("ROWMILL_SOAK", ROWS))
    folder = folder / "soak"
    folder.mkdir()
    source = folder / "rows.jsonl"
    with source.open("wb") as file:
        file.writelines(b'{"text":"%b"}\n' % text_of(row) for row in range(rows))
    ports = {name: kept_port() for name in HOSTS}
    providers = [
        {"name": name, "base_url": f"http://{host}:{ports[name]}/v1", "timeout_s": TIMEOUT_S}
        for name, host in HOSTS.items()
    ]
    tables: Tables = {
        "input": {"id": None},
        "output": {"include": ["meta"]},
        "retry": {"attempts": 20, "share": 0.2},  # no row is to fail, however often its server is away
    }
    run = Run(folder / "run", source, providers, "{text}", workers=WORKERS, concurrency=SLOTS, tables=tables)
    with _serving(folder, ports, rows) as servers:
        footprint, restarts = _watched(run, servers, rows, folder)
    holds = _rows(run, rows, servers)
    holds &= _requests(run, rows, servers, restarts)
    holds &= _held(footprint, whole=rows >= ROWS)
    said = "".join(server.log.read_text(errors="replace") for server in servers)
    deaths = run.session["deaths"]
    return holds & check(
        "no worker died, no server had anything to say", not said and not deaths, said[-2000:] or "none"
    )


def text_of(row: int) -> bytes:
    """Return a row's text: its number, and words that no other row has."""
    mixed = row * 2_654_435_761 % (1 << 32)
    times = 1 + mixed % 12
    if row % EACH_LONG == EACH_LONG - 1:
        times *= 2_000 + mixed % 5_000
    return b"row %0*d %b" % (DIGITS, row, b"%08x " % mixed * times)


@contextmanager
def _serving(folder: Path, ports: dict[str, int], rows: int) -> Iterator[list[_Server]]:
    servers: list[_Server] = []
    try:
        for number, name in enumerate(SERVERS):
            servers.append(_Server(folder, number, HOSTS[name], ports[name], rows))
        yield servers
    finally:
        for server in servers:
            server.end(signal.SIGKILL)


def _watched(run: Run, servers: Sequence[_Server], rows: int, folder: Path) -> tuple[Footprint, int]:
    """Run all rows with servers that come and go; returns what was looked at, and how often a server was ended."""
    rng = Random(rows)  # noqa: S311 - repeatable, no secret
    each = min(RESTART_EACH, rows // (LEAST_RESTARTS + 1))
    inside = folder / "inside"
    inside.mkdir()
    restarts, before, ends_at = 0, 0, time.monotonic() + LONGEST_S
    with run.started(environment=environment(inside)) as process:
        until(lambda: process.poll() is not None or _begun(servers) > each // 2, "requests", 60)
        if process.poll() is not None:
            raise ItemError(f"the run has ended before it had begun, see {run.folder}")
        workers = [child for child in children(process) if any("worker.live" in word for word in child.cmdline())]
        named = {f"worker {number}": worker for number, worker in enumerate(workers)}
        footprint = Footprint({"supervisor": psutil.Process(process.pid), **named}, inside)
        while process.poll() is None:
            now = time.monotonic()
            if now > ends_at:
                raise ItemError(f"the run was not finished after {LONGEST_S:g} s")
            if (begun := _begun(servers)) > before:  # at the end nothing is held any more
                footprint.look()
            before = begun
            for server in servers:
                if not server.is_there and server.begins_at <= now:
                    server.start()
            if begun >= (restarts + 1) * each and all(server.is_there for server in servers):
                server = rng.choice(servers)
                server.end(signal.SIGTERM if restarts % 2 else signal.SIGKILL)
                server.begins_at = now + rng.uniform(0.0, DOWN_S)
                restarts += 1
            time.sleep(LOOK_S)
        run.wait(process)
    return footprint, restarts


def _begun(servers: Sequence[_Server]) -> int:
    return sum(server.seen.by_name()["begun"] for server in servers)


class _Meta(msgspec.Struct):
    requests: int


class _Line(msgspec.Struct):
    index: int
    output: str | None
    meta: _Meta


def _rows(run: Run, rows: int, servers: Sequence[_Server]) -> bool:
    """Hold each line against its row, and what it says of requests against what the servers have seen of the row."""
    decode = msgspec.json.Decoder(_Line).decode
    lines = in_order = own = unasked = too_often = 0
    seen = [server.seen.rows for server in servers]
    with run.output.open("rb") as file:
        for row, text in enumerate(file):
            line = decode(text)
            asked = sum(each[row] for each in seen)
            lines += 1
            in_order += line.index == row
            own += (line.output or "").encode() == answer_to(text_of(row))
            unasked += not asked
            too_often += asked > line.meta.requests
    figures = f"{rows:,} rows; {lines:,} lines, {in_order:,} in order, {own:,} with their own row's text"
    holds = check("each line is its row's", lines == in_order == own == rows, figures)
    figures = f"{unasked:,} rows were not asked for, {too_often:,} more often than their lines say"
    return holds & check("each row was asked for as its line says", unasked == too_often == 0, figures)


def _requests(run: Run, rows: int, servers: Sequence[_Server], restarts: int) -> bool:
    """Hold the report's counts against the servers'."""
    session = run.session
    counters = session["counters"]
    sent, faults = counters["requests"], counters["faults"]
    seen: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for server in servers:
        seen.update(server.seen.by_name())
        ends.update(server.seen.by_end())
    print(f"  {session['rows_per_s']:,.0f} rows/s, {session['elapsed_s']:.0f} s, servers ended {restarts} times")
    print(f"  seen: {', '.join(f'{count:,} {name}' for name, count in seen.items())}")
    print(f"  which makes: {', '.join(f'{count:,} {name}' for name, count in ends.items())}")
    print(f"  reported: {', '.join(f'{count:,} {name}' for name, count in faults.items())}")
    holds = check(
        "each request has one end",
        sent == rows + sum(faults.values()) == run.report["totals"]["requests"],
        f"{sent:,} requests, {rows:,} answers and {sum(faults.values()):,} failures",
    )
    # With a server that is ended go the requests on their way to it, and those that find it away until workers know;
    # one that closes without a word may cross the next request.
    ended = restarts * WORKERS * (SLOTS + TRIPS)
    crossed = sum(seen[name] for name in ("FIN behind", "FIN while idle", "reset behind"))
    unread = sent - seen["begun"]
    figures = f"{unread:,} not read, at most {ended:,} of servers that ended and {crossed:,} that crossed a close"
    holds &= check("the servers have seen them", 0 <= unread <= ended + crossed, figures)
    twice = ends["answered"] - rows
    figures = (
        f"{twice:,} answers were lost on their way, at most {ended:,}; {counters['maybe_billed_twice']:,} by the report"
    )
    holds &= check("none is paid twice unsaid", 0 <= twice <= min(ended, counters["maybe_billed_twice"]), figures)
    refused = faults.get("server_error", 0) + faults.get("overloaded", 0)
    figures = f"{refused:,} errors of {ends['refused']:,}, {faults.get('timeout', 0):,} timeouts of {ends['late']:,}"
    holds &= check("errors are what they are", ends["refused"] - ended <= refused <= ends["refused"], figures)
    odd = seen["no request"] + seen["stray"]
    holds &= check("each request is one", odd == 0, f"{odd} were no HTTP, or came before the reply to the one before")
    missing = [name for name in ENDS if not seen[name]]
    figures = f"{len(ENDS) - len(missing)} of {len(ENDS)}{', not ' if missing else ''}{', '.join(missing)}"
    return holds & check("each fault has struck", not missing or rows < ROWS, figures)


def _held(footprint: Footprint, *, whole: bool) -> bool:
    """Hold what was more at the end than after the warm-up against what may be."""
    holds = True
    for name, kinds in footprint.series().items():
        for kind, series in kinds.items():
            more, most = grown(series), MOST_GROWN.get(kind)
            values = [value for _, value in series]
            figures = f"{more:+,.1f} since the warm-up, {min(values):,.0f} to {max(values):,.0f} in {len(values)} looks"
            if most is None or not whole:
                print(f"  {name}: {kind}: {figures}")
            else:
                holds &= check(f"{name}: {kind}", more <= most, f"{figures}; at most {most:+,}")
    return holds
