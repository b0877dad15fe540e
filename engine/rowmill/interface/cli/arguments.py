"""The command line of `rowmill`, as argparse reads it: which commands there are, what they take, how they say so."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rowmill.core.version import __version__
from rowmill.interface.cli.flags import Command, add_config, add_manners, add_set, port, rows
from rowmill.interface.cli.looking_flags import add_looks

_EXIT_CODES = """exit codes:
  0  every row has a result               1  finished, some rows failed
  2  usage, configuration or input        3  stopped by a budget that you set
  4  stopped by the provider              5  damaged or mismatched run directory
  6  this machine (disk full, ...)       70  a defect of Rowmill itself
  130  interrupted
all but 2 can be resumed: run the same command again, after 3 with a higher cap in [budget]"""


_ASKED_CODES = (
    "exit codes: 0 nothing speaks against a run; 2 usage, configuration or input; 4 a provider does not answer as it "
    "should; 5 damaged or mismatched run directory; 130 interrupted"
)
_PLANNED_CODES = (
    "exit codes: 0 planned; 2 usage, configuration or input; those of a run where --sample-live could not ask its rows"
)
_CANCELLED_CODES = (
    "exit codes: 0 cancelled, or nothing was at work; 2 usage or configuration; 4 the provider does not answer; "
    "5 damaged run directory, or a run that is at work; 130 interrupted"
)
_DONE_CODES = "exit codes: 0 done; 2 usage; 130 interrupted"
_LOOKED_CODES = "exit codes: 0 done; 2 usage, or there is no such run; 5 damaged run directory; 130 interrupted"
_MAP_EXAMPLES = """examples:
  rowmill map rows.csv -m gpt-5-mini -p "Which category is this in? {title}" -o out.csv
  cat lines.txt | rowmill map - -m gpt-5-mini -p "Translate into French: {text}" | head"""
_INPUTS = ("jsonl", "json", "csv", "tsv", "xlsx", "parquet", "arrow", "batch", "text")
_OUTPUTS = ("jsonl", "csv", "parquet", "batch")
# By name: looking at their folder, or for any of it, is no work for the start of every command.
RECIPES = (
    "back-translation", "deduplication", "documents", "embedding", "extraction", "generation", "judge", "labelling",
    "moderation", "qa", "translation",
)  # fmt: skip


class _Rowmill(Command):
    """The command itself. What it refuses, it refuses with what was meant, as far as anybody can tell."""

    words: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line."""
        self.words = args if args is not None else sys.argv[1:]
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        from rowmill.interface.cli import suggestions

        commands = with_all_flags(self)
        command = next((commands[word] for word in self.words if word in commands), self)
        flags = {name: list(each._option_string_actions) for name, each in commands.items()}  # noqa: SLF001
        hint = suggestions.in_error(message, list(self.words), flags)
        if hint and "invalid choice" in message:
            message = message.partition(" (choose from")[0]
        command.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}{f'; {hint}' if hint else ''}\n")


def with_all_flags(every: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the commands, with all their flags."""
    commands: dict[str, argparse.ArgumentParser] = {}
    for action in every._actions:  # noqa: SLF001 - argparse has no other way to its commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            commands = dict(action.choices)
    for command in commands.values():
        if isinstance(command, Command) and command.add_options is not None:
            command.add_options(command)
            command.add_options = None
    return commands


def parser() -> argparse.ArgumentParser:
    """Make the parser. `command` of what it returns is the command's name."""
    every = _Rowmill(
        prog="rowmill",
        description="A file of rows in, a file of model replies out: in order, none lost, none paid for twice.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every.add_argument("-V", "--version", action="version", version=f"rowmill {__version__}")
    every.add_argument("-q", "--quiet", action="store_true", help="say nothing but what is wrong")
    every.add_argument("-v", "--verbose", action="store_true", help="every event as a plain line, on a terminal too")
    commands = every.add_subparsers(required=True, metavar="COMMAND", dest="command", parser_class=Command)

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
        type=rows,
        metavar="N",
        help="a trial: only the first N rows, into an output and a run directory of its own beside the full run's",
    )
    trial.add_argument(
        "--sample", type=rows, metavar="N", help="a trial as with --limit, but of N rows from all over the input"
    )
    trial.add_argument(
        "--fresh",
        action="store_true",
        help="from the beginning: the run that there is, and its output, are kept aside as out.old.jsonl",
    )

    retry = commands.add_parser(
        "retry",
        help="ask again for the failed rows of a run",
        description="Ask again for the rows that failed, and write the same output anew. Nothing else is asked for: in "
        "a run that is not finished, rowmill run asks for the rows that were not asked yet.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_arguments(retry)
    some = retry.add_mutually_exclusive_group()
    some.add_argument("--limit", type=rows, metavar="N", help="of the trial of the first N rows")
    some.add_argument("--sample", type=rows, metavar="N", help="of the trial of N rows from all over the input")

    _add_map(commands)
    _add_check(commands)
    _add_plan(commands)

    cancel = commands.add_parser(
        "cancel",
        help="cancel the batches of a run at the provider",
        description="Cancel the batches of a run that are at work at the provider. What they have done until then is "
        "paid for; rowmill run collects it, and asks for the rest anew. Batches that the provider does not know any "
        "more are given up.",
        epilog=_CANCELLED_CODES,
    )
    add_config(cancel)
    add_manners(cancel)

    add_looks(commands)

    init = commands.add_parser(
        "init",
        help="write a configuration and sample rows to start from",
        description="Write the files of a recipe: a commented configuration, sample rows, a schema where one fits. "
        "Without a recipe, say what each is for.",
        epilog=_DONE_CODES,
    )
    init.add_argument("--recipe", metavar="NAME", help=f"one of {', '.join(RECIPES)}; left out: says what each is for")
    init.add_argument(
        "--preset", metavar="NAME", help="the provider to be asked, as groq or ollama, instead of the simulator"
    )
    init.add_argument("directory", nargs="?", default=".", type=Path, metavar="DIR", help="default: this one")
    add_manners(init)

    _add_simulate(commands)

    completion = commands.add_parser(
        "completion",
        help="print what a shell reads to complete commands, flags and files",
        description="Print the script for a shell. For bash: rowmill completion bash > "
        "~/.local/share/bash-completion/completions/rowmill; for zsh, into a file _rowmill of a directory of $fpath.",
        epilog=_DONE_CODES,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh")
    for command in commands.choices.values():
        command.epilog = command.epilog or _LOOKED_CODES  # all others look at runs that are there
    return every


def _add_map(commands: "argparse._SubParsersAction[Command]") -> None:
    command = commands.add_parser(
        "map",
        allow_abbrev=False,  # --api-key is no beginning of --api-key-env
        help="ask a model about every row of a file or of a pipe, without a configuration",
        description="Ask a model about every row, as rowmill run does, with flags for the common keys of a "
        "configuration. Without -o the results go to stdout, in order, as they come, and what is answered is kept "
        "until all of it is: the same command goes on.",
        epilog=f"{_MAP_EXAMPLES}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "rows", nargs="?", metavar="ROWS", help="a file, directory, glob or URL with the rows; - reads them from stdin"
    )
    add = command.add_argument
    add("-m", "--model", help="which model is asked")
    add(
        "-p",
        "--prompt",
        help="what is asked, or @FILE; {column} stands for the row's column, {text} for a line of text",
    )
    add("-o", "--output", metavar="FILE", help="where the results go: .jsonl, .csv, .parquet; left out, or -: stdout")
    add("--system", metavar="TEXT", help="the system message")
    add("--schema", metavar="FILE", help="JSON Schema of the replies, a file or the JSON itself")
    add("--id", metavar="COLUMN", help="the column that becomes id of each result")
    add(
        "--include",
        action="append",
        default=[],
        metavar="WHAT",
        help="more in each result, as input or meta",
    )
    add("--api", metavar="NAME", help="chat.completions (default), responses, completions, embeddings, moderations")
    add("--preset", metavar="NAME", help="a known provider, as groq or ollama: gives its URL and the key's variable")
    add("--base-url", metavar="URL", help='the server; left out: OpenAI\'s; "simulator": the embedded one')
    add("--api-key-env", metavar="NAME", help="the environment variable with the key; of OpenAI's: OPENAI_API_KEY")
    add("--max-usd", type=float, metavar="USD", help="spend no more than this")
    add("--from", dest="input_format", choices=_INPUTS, metavar="FORMAT", help=f"of the rows: {', '.join(_INPUTS)}")
    add("--to", dest="output_format", choices=_OUTPUTS, metavar="FORMAT", help=f"of the results: {', '.join(_OUTPUTS)}")
    some = command.add_mutually_exclusive_group()
    some.add_argument("--limit", type=rows, metavar="N", help="a trial: only the first N rows")
    some.add_argument("--sample", type=rows, metavar="N", help="a trial: N rows from all over the input")
    add("--retry", action="store_true", help="ask again for the rows that failed")
    add("--fresh", action="store_true", help="from the beginning, with what there is kept aside (with -o)")
    add("--save", type=Path, metavar="FILE", help="also write all of this as a configuration, for rowmill run")
    add_set(command)
    add("--json", action="store_true", help="print the report as JSON to stdout (with -o)")
    add_manners(command)


def _add_check(commands: "argparse._SubParsersAction[Command]") -> None:
    check = commands.add_parser(
        "check",
        help="look whether a run would start, by one real request for one real row",
        description="Look at input, columns, schema, key, output, run directory and prices, as a run does, then send "
        "one real request for the first row to each provider, and show what was sent and what came back, with the "
        "limits that its headers tell. It costs what a row costs. Nothing is written.",
        epilog=_ASKED_CODES,
    )
    add_config(check)
    check.add_argument("--no-request", action="store_true", help="only what is free: ask nobody")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    add_manners(check)


def _add_plan(commands: "argparse._SubParsersAction[Command]") -> None:
    plan = commands.add_parser(
        "plan",
        help="tell what a run would cost and how long it would take",
        description="Count the rows, build the requests, and tell what they would take: tokens, dollars and time, "
        "through the live API and through the Batch API. Nothing is sent and nothing written, unless by --sample-live. "
        "Without it the length of replies is a guess.",
        epilog=_PLANNED_CODES,
    )
    add_config(plan)
    plan.add_argument(
        "--sample-live",
        type=rows,
        metavar="N",
        help="really ask N rows from all over the input, as rowmill run --sample N does, at their price, and go by "
        "what they took",
    )
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_manners(plan)


def _add_run_arguments(command: argparse.ArgumentParser) -> None:
    add_config(command)
    command.add_argument(
        "--salvage",
        action="store_true",
        help="where a checkpoint is damaged, keep its good records and do the other rows again",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON to stdout")
    add_manners(command)


def _add_simulate(commands: "argparse._SubParsersAction[Command]") -> None:
    simulate = commands.add_parser(
        "simulate",
        help="serve an OpenAI-compatible endpoint on this machine, with limits and faults",
        description="Serve an OpenAI-compatible endpoint on loopback until interrupted. Prints its base URL.",
        epilog=_DONE_CODES,
    )
    simulate.add_argument("--port", type=port, default=0, help="default: any free one")
    simulate.add_options = _add_simulator_flags


def _add_simulator_flags(simulate: argparse.ArgumentParser) -> None:
    from rowmill.interface.cli.simulator_flags import add_flags

    add_flags(simulate)
