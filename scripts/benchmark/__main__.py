"""Measures Rowmill beside the usual ways to call a model: rows per second and CPU time per row, on one core.

One static server on one core, one client at a time on another. Each client runs at two sizes: the larger run gives the
whole figures, start and imports included, and the difference of both the steady ones.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from scripts.benchmark import figures, measure
from scripts.benchmark.clients import CLIENTS, SMALL, Bench, Client
from scripts.benchmark.figures import Results, Round
from scripts.benchmark.measure import ClientError
from scripts.benchmark.server import ServerError, serve

ROOT = Path(__file__).parents[2]
BUSY = 0.5  # load average from which other programs visibly take time from the clients


def main() -> int:
    """Run the benchmark. Returns 0 when every way ran and every measured target was reached."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server and the client end with it
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        say("one core only: server and client share it, so rows/s are those of both together")
    if (load := os.getloadavg()[0]) > BUSY:
        say(f"this machine is busy (load {load:.1f}): CPU per row holds, rows/s come out too low")
    measure.adopt_orphans()
    (ROOT / "data").mkdir(exist_ok=True)
    results: Results = {client.name: [] for client in arguments.only}
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder,
        serve(Path(folder), cores[0]) as server,
    ):
        bench = Bench(Path(folder), server.url, cores[min(1, len(cores) - 1)])
        failures = rounds(bench, arguments, results)
    basis = "steady" if server.name == "nginx" else "steady_cpu"
    text, good = figures.verdicts(results, basis)
    print(f"server {server.name}, medians of {arguments.repeat} rounds, one core for each client\n")
    print(figures.table(results))
    for name in failures:
        print(f"{name}: failed, see above")
    judged = "steady rows/s" if basis == "steady" else "steady CPU per row, for the simulator limits rows/s"
    print(f"\n{text}\njudged by {judged}")
    if arguments.json:
        report = {"server": server.name, "judged_by": basis, "failures": failures, **figures.as_json(results)}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if good and not failures else 1


def rounds(bench: Bench, arguments: argparse.Namespace, results: Results) -> dict[str, str]:
    """Fill in the results, client after client in each round. Returns the failures by name of the client."""
    failures: dict[str, str] = {}
    for number in range(1, arguments.repeat + 1):
        for client in arguments.only:
            if client.name in failures:
                continue
            say(f"round {number}/{arguments.repeat}: {client.title}")
            try:
                results[client.name].append(both_sizes(bench, client, arguments.rows_scale))
            except ClientError as error:
                failures[client.name] = str(error)
                say(f"{client.name} failed: {error}")
    return failures


def both_sizes(bench: Bench, client: Client, scale: float) -> Round:
    """Run a client over a part of its rows and over all of them."""
    rows = max(SMALL * 10, round(client.rows * scale))
    return Round(client.measure(bench, client, rows // SMALL), client.measure(bench, client, rows))


def parse() -> argparse.Namespace:
    """Read the arguments; `only` becomes a list of clients."""
    names = ", ".join(client.name for client in CLIENTS)
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", type=named, default=None, metavar="NAME,...", help=f"some of: {names}")
    parser.add_argument("--repeat", type=int, default=3, metavar="K", help="rounds; the median is shown (default 3)")
    parser.add_argument("--rows-scale", type=float, default=1.0, metavar="X", help="times the usual rows of each way")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, medians and ratios to a file")
    arguments = parser.parse_args()
    if arguments.repeat < 1 or arguments.rows_scale <= 0:
        parser.error("--repeat must be at least 1, --rows-scale above 0")
    if arguments.only is None:
        # wrk is a yardstick, not a part of the project: without it the rest is as good.
        arguments.only = [client for client in CLIENTS if client.name != "wrk" or shutil.which("wrk")]
    return arguments


def named(text: str) -> list[Client]:
    """Return the clients named in a comma-separated text, in the table's order."""
    wanted = set(text.split(","))
    if unknown := wanted - {client.name for client in CLIENTS}:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [client for client in CLIENTS if client.name in wanted]


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
