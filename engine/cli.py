"""The `rowmill` command: reads the command line, shows what happens, exits. The only module that prints or exits.

Data goes to stdout, everything else to stderr. Modules are imported where a command needs them: worker processes
import this one too, and `--help` should not wait.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from engine import __version__
from engine.errors import ExitCode, RowmillError

_EXIT_CODES = """exit codes:
  0  every row has a result               1  finished, some rows failed
  2  usage, configuration or input        3  stopped by a budget that you set
  4  stopped by the provider              5  damaged or mismatched run directory
  6  this machine (disk full, ...)      130  interrupted
all but 2 can be resumed: run the same command again"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    options = _parser().parse_args(arguments)
    try:
        status = options.command(options)
    except RowmillError as error:
        print(f"rowmill: {error}", file=sys.stderr)
        status = error.exit_code
    except KeyboardInterrupt:
        status = ExitCode.INTERRUPTED
    sys.exit(int(status))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rowmill",
        description="A file of rows in, a file of model replies out: in order, none lost, none paid for twice.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rowmill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run a configuration, or go on where it stopped",
        description="Run a configuration. The same command resumes a run that was stopped or killed.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("config", nargs="?", default="config.toml", type=Path, help="default: config.toml")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration, as in --set workers.count=4 (a TOML value; may be repeated)",
    )
    run.add_argument(
        "--salvage",
        action="store_true",
        help="where a checkpoint is damaged, keep its good records and do the other rows again",
    )
    run.set_defaults(command=_run)

    simulate = commands.add_parser(
        "simulate",
        help="serve an OpenAI-compatible endpoint on this machine, with limits and faults",
        description="Serve an OpenAI-compatible endpoint on loopback until interrupted. Prints its base URL.",
    )
    simulate.add_argument("--port", type=_port, default=0, help="default: any free one")
    simulate.add_argument("--latency-ms", type=_not_negative, default=50.0, help="median reply time (default: 50)")
    simulate.add_argument(
        "--latency-sigma", type=_not_negative, default=0.3, help="its log-normal spread (default: 0.3)"
    )
    simulate.add_argument(
        "--per-token-ms", type=_not_negative, default=0.0, help="added for each token of the reply (default: 0)"
    )
    simulate.add_argument(
        "--reply-tokens", type=_not_negative, default=0.0, help="mean length of replies (default: one line)"
    )
    simulate.add_argument("--requests-per-minute", type=float, help="enforce this limit, strictly")
    simulate.add_argument("--tokens-per-minute", type=float, help="enforce this limit, strictly")
    simulate.add_argument("--parallel", type=int, help="work on so many requests at a time; the others wait in line")
    simulate.add_argument("--queue", type=int, help="let at most so many wait in that line; answer 429 to more")
    simulate.add_argument("--knee", type=float, help="grow slower, by the square of the load, with more in flight")
    simulate.add_argument("--no-limit-headers", action="store_true", help="do not tell limits in x-ratelimit headers")
    simulate.add_argument("--no-retry-after", action="store_true", help="do not tell when to come back after a 429")
    simulate.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="let this share of requests fail so, as in --fault 500=0.01 (may be repeated)",
    )
    simulate.add_argument(
        "--script", default="", metavar="NAME,NAME,...", help="what the first requests meet, in order; ok for no fault"
    )
    simulate.add_argument(
        "--hang-s", type=_not_negative, default=3600.0, help="how long a hung request is held (default: 3600)"
    )
    simulate.add_argument("--seed", type=int, default=0, help="of latencies and faults (default: 0)")
    simulate.set_defaults(command=_simulate)
    return parser


def _run(options: argparse.Namespace) -> int:
    from engine import config as configuration
    from engine.run import run
    from engine.ui.progress import open_progress
    from engine.ui.report import summary

    config = configuration.load(options.config, options.set)
    progress = open_progress(sys.stderr)
    try:
        report, session = run(config, os.environ, progress, salvage=options.salvage)
    finally:
        progress.close()
    if session is None:
        print(
            f"rowmill: this run has finished: {report.output} is complete ({report.totals.rows} rows, "
            f"{report.totals.failed} failed). For a new run, name another output.path.",
            file=sys.stderr,
        )
        return ExitCode.ROWS_FAILED if report.totals.failed else ExitCode.OK
    print(summary(report, session), file=sys.stderr)
    return session.exit_code


def _simulate(options: argparse.Namespace) -> int:
    from engine.records import SimulatorSettings
    from engine.simulator.server import serve

    def ready(port: int) -> None:
        print(f"http://127.0.0.1:{port}/v1", flush=True)

    try:
        settings = SimulatorSettings(
            latency_ms=options.latency_ms,
            latency_sigma=options.latency_sigma,
            per_token_ms=options.per_token_ms,
            reply_tokens=options.reply_tokens,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            parallel=options.parallel,
            queue=options.queue,
            knee=options.knee,
            limit_headers=not options.no_limit_headers,
            retry_after=not options.no_retry_after,
            faults=dict(_fault(text) for text in options.fault),
            script=tuple(name for name in options.script.split(",") if name),
            hang_s=options.hang_s,
            seed=options.seed,
        )
        serve(settings, port=options.port, on_ready=ready)
    except (ValueError, OSError) as error:
        print(f"rowmill simulate: {error}", file=sys.stderr)
        return ExitCode.USAGE
    return ExitCode.OK


def _fault(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        if name:
            return name, float(share)
    except ValueError:
        pass
    raise ValueError(f"--fault {text}: write it as NAME=SHARE, for example 500=0.01")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - what a port can be
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return number
