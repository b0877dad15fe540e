"""The commands that look at runs which are there: status, show, report, compare, dedup, runs, clean."""

import argparse
from pathlib import Path

from rowmill.interface.cli.flags import Command, add_config, add_manners, add_set, port, row, rows


def add_looks(commands: "argparse._SubParsersAction[Command]") -> None:
    """Add them."""
    status = commands.add_parser(
        "status",
        help="tell where a run stands, from another terminal or machine that sees its directory",
        description="Tell where a run stands: how far it is, whether its supervisor lives, what it waits for and why "
        "it is not faster. Nothing is written, and the run does not notice.",
    )
    _add_run(status)
    status.add_argument("-w", "--watch", action="store_true", help="show it as the run's own terminal does, to its end")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    add_manners(status)

    _add_show(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_dedup(commands)

    runs = commands.add_parser(
        "runs",
        help="list the runs below a folder: state, rows, cost",
        description="List the run directories in a folder and below it. Nothing is written.",
    )
    runs.add_argument("folder", nargs="?", default=".", type=Path, metavar="DIR", help="default: this one")
    runs.add_argument("--json", action="store_true", help="print them as JSON")
    add_manners(runs)

    clean = commands.add_parser(
        "clean",
        help="remove what a finished run does not need any more",
        description="Remove what a finished run does not need any more: spool, checkpoints, files of batches. Output, "
        "report and log stay. Where rows have failed the checkpoints stay too, for rowmill retry, unless with --all. "
        "A run that was cleaned of its checkpoints cannot take new rows behind the others.",
    )
    clean.add_argument(
        "runs", nargs="*", default=["config.toml"], metavar="RUN", help="a configuration, or a run directory"
    )
    add_set(clean)
    clean.add_argument("--all", action="store_true", help="also where rows have failed: they cannot be retried then")
    clean.add_argument("-n", "--dry-run", action="store_true", help="remove nothing, and say what it would be")
    add_manners(clean)


def _add_compare(commands: "argparse._SubParsersAction[Command]") -> None:
    compare = commands.add_parser(
        "compare",
        help="hold two runs or trials against each other, row by row",
        description="Hold two runs against each other, as those of two prompts or models: rows, failures, cost and "
        "latency of each, how many answers are the same, field by field, and the first rows in which they differ.",
    )
    compare.add_argument("first", metavar="A", help="a configuration, or a run directory")
    compare.add_argument("second", metavar="B", help="likewise")
    compare.add_argument("--limit", type=rows, default=5, metavar="N", help="differing rows that are shown; default: 5")
    compare.add_argument("--json", action="store_true", help="print it as JSON")
    compare.add_argument("--html", metavar="FILE", help="write it as a page, with 50 differing rows; -: to stdout")
    add_manners(compare)


def _add_dedup(commands: "argparse._SubParsersAction[Command]") -> None:
    dedup = commands.add_parser(
        "dedup",
        help="leave out rows that are near-duplicates, by the vectors of a finished run",
        description="Of a finished run of embeddings, write the rows of its input without those whose vectors are near "
        "to an earlier row's that is kept: as JSON Lines, in their order. Beside them a file lists each other one with "
        "the row that it is like. Nobody is asked, and the run stays as it is.",
    )
    add_config(dedup)
    dedup.add_argument(
        "-o", "--output", metavar="FILE", help="where kept rows go, a .jsonl file; default: INPUT.kept.jsonl"
    )
    dedup.add_argument(
        "--threshold",
        type=float,
        default=0.9,
        metavar="COSINE",
        help="the least cosine of two that are near, above 0 and at most 1; default: 0.9",
    )
    dedup.add_argument("--json", action="store_true", help="print what came of it as JSON")
    add_manners(dedup)


def _add_show(commands: "argparse._SubParsersAction[Command]") -> None:
    show = commands.add_parser(
        "show",
        help="show replies of a run beside what was asked",
        description="Show rows of a run, also of one that is at work: the prompt as it was sent, and the whole reply "
        "or why there is none. Without a choice: the first ones. Where RUN is a run directory, or the prompt or the "
        "input is another one by now, prompts are left out.",
    )
    _add_run(show)
    show.add_argument("--failed", action="store_true", help="only rows that have failed")
    show.add_argument("--class", dest="fault", metavar="CLASS", help="only rows that have failed so: timeout, ...")
    show.add_argument("--row", dest="rows", action="append", type=row, metavar="N", help="this row, from 0; repeatable")
    show.add_argument(
        "--where",
        metavar="CONDITION",
        help="""only rows of which it holds: 'topic = "x"', 'score >= 3 and lang != en'""",
    )
    show.add_argument("--step", metavar="NAME", help="what this step of several has answered; left out: the last one")
    show.add_argument("--sample", type=rows, metavar="N", help="so many of them at random")
    show.add_argument("--limit", type=rows, metavar="N", help="no more than so many")
    show.add_argument("--json", action="store_true", help="print them as lines of JSON")
    add_manners(show)


def _add_report(commands: "argparse._SubParsersAction[Command]") -> None:
    report = commands.add_parser(
        "report",
        help="make a page of what a run did: pace, failures, cost, what is in the replies",
        description="Make one file of HTML that shows what a run did, for a browser of any device; it fetches nothing. "
        "All rows are looked at. Without --output it is report.html in the run directory, where the end of every run "
        "leaves one, too. The run may be at work: it is only read.",
    )
    _add_run(report)
    report.add_argument(
        "-o", "--output", metavar="FILE", help="where the page goes, in place of a page only; -: to stdout"
    )
    report.add_argument("--json", action="store_true", help="print what the page shows as JSON")
    report.add_argument("--live", action="store_true", help="serve the page on this machine, and follow the run")
    report.add_argument("--port", type=port, metavar="N", help="of --live; default: any free one")
    report.add_argument("--open", action="store_true", help="open the page in the browser")
    add_manners(report)


def _add_run(command: Command) -> None:
    """Add the run that is looked at."""
    command.add_argument(
        "run", nargs="?", default="config.toml", metavar="RUN", help="a configuration, or a run directory"
    )
    add_set(command)
