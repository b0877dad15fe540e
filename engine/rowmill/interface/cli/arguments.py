"""The command line of `rowmill`, as argparse reads it: which commands there are, what they take, how they say so."""

import argparse
from pathlib import Path

from rowmill.core.version import __version__

_EXIT_CODES = """exit codes:
  0  every row has a result               1  finished, some rows failed
  2  usage, configuration or input        3  stopped by a budget that you set
  4  stopped by the provider              5  damaged or mismatched run directory
  6  this machine (disk full, ...)      130  interrupted
all but 2 can be resumed: run the same command again, after 3 with a higher cap in [budget]"""


def parser() -> argparse.ArgumentParser:
    """Make the parser. `command` of what it returns is the command's name."""
    every = argparse.ArgumentParser(
        prog="rowmill",
        description="A file of rows in, a file of model replies out: in order, none lost, none paid for twice.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every.add_argument("--version", action="version", version=f"rowmill {__version__}")
    commands = every.add_subparsers(required=True, metavar="COMMAND", dest="command")

    run = commands.add_parser(
        "run",
        help="run a configuration, or go on where it stopped",
        description="Run a configuration. The same command resumes a run that was stopped or killed, and picks up the "
        "batches that it left at the provider.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_arguments(run)
    trial = run.add_mutually_exclusive_group()
    trial.add_argument(
        "--limit",
        type=_rows,
        metavar="N",
        help="a trial: only the first N rows, into an output and a run directory of its own beside the full run's",
    )
    trial.add_argument(
        "--sample", type=_rows, metavar="N", help="a trial as with --limit, but of N rows from all over the input"
    )

    retry = commands.add_parser(
        "retry",
        help="ask again for the failed rows of a finished run",
        description="Ask again for the rows that failed, and write the same output anew. Nothing else is asked for.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_arguments(retry)

    _add_plan(commands)

    cancel = commands.add_parser(
        "cancel",
        help="cancel the batches of a run at the provider",
        description="Cancel the batches of a run that are at work at the provider. What they have done until then is "
        "paid for; rowmill run collects it, and asks for the rest anew. Batches that the provider does not know any "
        "more are given up.",
    )
    _add_config_arguments(cancel)

    init = commands.add_parser(
        "init",
        help="write a configuration and sample rows to start from",
        description="Write the files of a recipe: a commented configuration, sample rows, a schema where one fits. "
        "Without a recipe, list them.",
    )
    init.add_argument("--recipe", metavar="NAME", help="which one; left out: list them")
    init.add_argument("directory", nargs="?", default=".", type=Path, metavar="DIR", help="default: this one")

    _add_simulate(commands)
    return every


def _add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = commands.add_parser(
        "plan",
        help="tell what a run would cost and how long it would take",
        description="Count the rows, build the requests, and tell what they would take: tokens, dollars and time, "
        "through the live API and through the Batch API. Nothing is sent and nothing written, unless by --sample-live. "
        "Without it the length of replies is a guess.",
    )
    _add_config_arguments(plan)
    plan.add_argument(
        "--sample-live",
        type=_rows,
        metavar="N",
        help="really ask N rows from all over the input, as rowmill run --sample N does, at their price, and go by "
        "what they took",
    )
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    _add_config_arguments(command)
    command.add_argument(
        "--salvage",
        action="store_true",
        help="where a checkpoint is damaged, keep its good records and do the other rows again",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON to stdout")


def _add_config_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", nargs="?", default="config.toml", type=Path, help="default: config.toml")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration, as in --set workers.count=4 (a TOML value; may be repeated)",
    )


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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
        "--content-fault",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="damage the content of this share of replies so, as in --content-fault extra-prose=0.05 (may be repeated)",
    )
    simulate.add_argument(
        "--script", default="", metavar="NAME,NAME,...", help="what the first requests meet, in order; ok for no fault"
    )
    simulate.add_argument(
        "--batch-s", type=_not_negative, default=1.0, help="from a batch's creation until it is completed (default: 1)"
    )
    simulate.add_argument(
        "--batch-script",
        default="",
        metavar="WORD,WORD,...",
        help="what becomes of the first batches, in order; ok for no fault",
    )
    simulate.add_argument(
        "--upload-script",
        default="",
        metavar="WORD,WORD,...",
        help="what becomes of the first files uploaded, in order",
    )
    simulate.add_argument(
        "--batch-fault",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="let this share of the lines of batches fail so, as in --batch-fault missing=0.01 (may be repeated)",
    )
    simulate.add_argument(
        "--batch-enqueued-tokens", type=int, help="fail batches that enqueue more prompt tokens at a time"
    )
    simulate.add_argument(
        "--no-batches", action="store_true", help="have no Batch API: answer 404 to files and batches"
    )
    simulate.add_argument("--state", metavar="DIR", help="keep files and batches there; default: a temporary directory")
    simulate.add_argument(
        "--hang-s", type=_not_negative, default=3600.0, help="how long a hung request is held (default: 3600)"
    )
    simulate.add_argument("--seed", type=int, default=0, help="of latencies and faults (default: 0)")


def share(option: str, text: str) -> tuple[str, float]:
    """Read a NAME=SHARE. Raises ValueError that names the option."""
    name, _, number = text.rpartition("=")
    try:
        if name:
            return name, float(number)
    except ValueError:
        pass
    raise ValueError(f"{option} {text}: write it as NAME=SHARE, for example {_EXAMPLES[option]}")


_EXAMPLES = {"--fault": "500=0.01", "--content-fault": "extra-prose=0.05", "--batch-fault": "missing=0.01"}


def _rows(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows: 1 or more")
    return int(text)


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
