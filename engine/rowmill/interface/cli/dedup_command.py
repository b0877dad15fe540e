"""`rowmill dedup`: the rows of a run of embeddings without near-duplicates."""

import argparse
from pathlib import Path

import msgspec

from rowmill.core.errors import ExitCode
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import streams
from rowmill.interface.cli.configured import config_of
from rowmill.runs.deduplication import Deduplicated, deduplicate


def dedup(options: argparse.Namespace) -> int:
    """Write the rows that are kept and those that are not, say how many, and return the exit code."""
    config = config_of(options)
    kept = config.output_path.with_name(f"{config.input_path.stem}.kept.jsonl")

    def tell(text: str) -> None:
        if not options.quiet:
            streams.say(one_line(f"rowmill: {text}"))

    kept = kept if options.output is None else Path(options.output)
    done = deduplicate(config, threshold=options.threshold, kept=kept, tell=tell)
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(done), indent=2) + b"\n")
    tell(_told(done))
    return ExitCode.OK


def _told(done: Deduplicated) -> str:
    more = f"; {done.failed:,} without a vector are kept" if done.failed else ""
    if done.unreadable:
        more += f", but for {done.unreadable:,} that {'is no row' if done.unreadable == 1 else 'are no rows'}"
    return (
        f"{done.kept:,} of {done.rows:,} rows are kept, in {done.kept_path}; {done.duplicates:,} near-duplicates are "
        f"listed in {done.duplicates_path}{more}"
    )
