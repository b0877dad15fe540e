"""Measures Rowmill beside the usual ways to call a model, and other tools: rows/s and CPU a row, on one core.

Under each load there is a static server on one core, and one client at a time on another. Each client runs at two
sizes: the larger run gives the whole figures, start and imports included, and the difference of both the steady ones.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmark import figures, measure
from scripts.benchmark.clients import CLIENTS, SMALL, Bench, Client
from scripts.benchmark.figures import Results, Round
from scripts.benchmark.loads import LOADS, PEERS, PLAIN
from scripts.benchmark.measure import ClientError
from scripts.benchmark.peers import PEERS as TOOLS
from scripts.benchmark.server import NGINX, NotInstalledError, Server, ServerError, pinned, serve

ROOT = Path(__file__).parents[2]
BUSY = 0.5  # load average from which other programs visibly take time from the clients


def main() -> int:
    """Run the benchmark. Returns 0 when every way ran that is installed and every measured target was reached."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers and the client end with it
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        say("one core only: server and client share it, so rows/s are those of both together")
    if (load := os.getloadavg()[0]) > BUSY:
        say(f"this machine is busy (load {load:.1f}): CPU per row holds, rows/s come out too low")
    left_out: dict[str, str] = {}
    if arguments.install_peers:
        install(arguments.only, arguments.peers, left_out)
    measure.adopt_orphans()
    (ROOT / "data").mkdir(exist_ok=True)
    results: Results = {client.name: [] for client in arguments.only}
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder,
        pinned(cores[0]),  # what this process does meanwhile takes nothing from the clients
        all_servers(arguments.only, Path(folder), cores[0], left_out) as servers,
    ):
        bench = Bench(Path(folder), servers, cores[min(1, len(cores) - 1)], arguments.peers)
        failures = rounds(bench, arguments, results, left_out)
    return show(arguments, results, {name: server.name for name, server in servers.items()}, failures, left_out)


def show(
    arguments: argparse.Namespace,
    results: Results,
    servers: dict[str, str],
    failures: dict[str, str],
    left_out: dict[str, str],
) -> int:
    """Print the tables and the verdicts. Returns the exit code."""
    print(f"medians of {arguments.repeat} rounds, one core for each client\n")
    print(figures.tables(results, servers))
    measured = [
        way for load, _, way in (name.partition("/") for name in results if results[name]) if load == PEERS.name
    ]
    versions = sorted({TOOLS[way].version(arguments.peers) for way in measured if way in TOOLS})
    if versions:
        print(", ".join(versions))
    for name in failures:
        print(f"{name}: failed, see above")
    for name, why in left_out.items():
        print(f"{name}: not measured, {why}")
    good, basis = True, "steady"
    if PLAIN.name in servers:
        basis = "steady" if servers[PLAIN.name] == NGINX else "steady_cpu"
        text, good = figures.verdicts(results, basis)
        judged = "steady rows/s" if basis == "steady" else "steady CPU per row, for the server limits rows/s"
        print(f"\n{text}\njudged by {judged}")
    if arguments.json:
        report = {
            "servers": servers,
            "judged_by": basis,
            "failures": failures,
            "not_measured": left_out,
            "versions": versions,
            **figures.as_json(results),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if good and not failures else 1


def install(clients: list[Client], place: Path, left_out: dict[str, str]) -> None:
    """Install the tools among the clients that are not there yet; what cannot be had is left out."""
    for client in clients:
        if client.load == PEERS and (tool := TOOLS.get(client.way)):
            try:
                tool.check(place)
            except NotInstalledError:
                say(f"installing {tool.requirements[0]} below {place}")
                try:
                    tool.install(place)
                except NotInstalledError as error:
                    left_out[client.name] = str(error)


@contextlib.contextmanager
def all_servers(
    clients: list[Client], folder: Path, core: int, left_out: dict[str, str]
) -> Iterator[dict[str, Server]]:
    """Run the server of each load that a client has; a load whose server needs what is not there is left out."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for load in dict.fromkeys(client.load for client in clients):
            place = folder / load.name
            place.mkdir()
            try:
                servers[load.name] = stack.enter_context(serve(place, core, load))
            except NotInstalledError as error:
                left_out |= {client.name: str(error) for client in clients if client.load == load}
        if any(server.name != NGINX for server in servers.values() if server.load.delay_ms == 0):
            say("nginx is not installed: our own server answers instead, and may be the limit of rows/s")
        yield servers


def rounds(bench: Bench, arguments: argparse.Namespace, results: Results, left_out: dict[str, str]) -> dict[str, str]:
    """Fill in the results, client after client in each round. Returns the failures by name of the client."""
    failures: dict[str, str] = {}
    for number in range(1, arguments.repeat + 1):
        for client in arguments.only:
            if client.name in failures or client.name in left_out:
                continue
            say(f"round {number}/{arguments.repeat}: {client.load.name}, {client.title}")
            try:
                results[client.name].append(both_sizes(bench, client, arguments.rows_scale))
            except ClientError as error:
                failures[client.name] = str(error)
                say(f"{client.name} failed: {error}")
            except NotInstalledError as error:
                left_out[client.name] = str(error)
    return failures


def both_sizes(bench: Bench, client: Client, scale: float) -> Round:
    """Run a client over a part of its rows and over all of them."""
    rows = max(SMALL * 10, round(client.rows * scale))
    smaller = client._replace(load=client.load.smaller())
    return Round(
        client.measure(bench, smaller, rows // SMALL), client.measure(bench, client, rows), grows=client.load.grows
    )


def parse() -> argparse.Namespace:
    """Read the arguments; `only` becomes a list of clients."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=catalogue(),
    )
    parser.add_argument(
        "--only",
        type=named,
        default=list(CLIENTS),
        metavar="NAME,...",
        help="loads, or ways as LOAD/WAY; a way alone is meant under the plain load (default: all of them)",
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="K", help="rounds; the median is shown (default 3)")
    parser.add_argument("--rows-scale", type=float, default=1.0, metavar="X", help="times the usual rows of each way")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, medians and ratios to a file")
    parser.add_argument(
        "--peers",
        type=Path,
        default=ROOT / ".venv-peers",
        metavar="DIR",
        help="where the other tools are installed, each in an environment of its own (default .venv-peers)",
    )
    parser.add_argument(
        "--install-peers", action="store_true", help="install those first that are not there (3 GB in all)"
    )
    arguments = parser.parse_args()
    if arguments.repeat < 1 or arguments.rows_scale <= 0:
        parser.error("--repeat must be at least 1, --rows-scale above 0")
    arguments.peers = arguments.peers.absolute()
    return arguments


def catalogue() -> str:
    """Return which loads there are, and the ways of each."""
    lines = ["loads and their ways:"]
    for load in LOADS:
        ways = ", ".join(client.way for client in CLIENTS if client.load == load)
        lines.append(f"  {load.name:9}{load.title}\n           {ways}")
    return "\n".join(lines)


def named(text: str) -> list[Client]:
    """Return the clients named in a comma-separated text, in the table's order."""
    wanted = set(text.split(","))
    known = {client: {client.load.name, client.name} for client in CLIENTS}
    for client in CLIENTS:
        if client.load == PLAIN:
            known[client].add(client.way)
    if unknown := wanted - set().union(*known.values()):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [client for client in CLIENTS if known[client] & wanted]


def say(text: str) -> None:
    """Tell the user how it goes, beside the figures."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
