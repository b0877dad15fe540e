"""Output formats, each a codec: the lines of a shard become a section, and sections the output. See `OutputCodec`.

jsonl     the lines as they are; the vectors of embeddings as lists of numbers
csv       a header, then a record for each row (columns: see `table`)
parquet   the same columns with their types; in one file, or in a directory of files
batch     what OpenAI's Batch API answers: results in the output, failed requests in the errors file

Of a run of several steps only the last one's lines are in a format; see `step_rows`.
"""

import os
from pathlib import PurePath
from typing import Literal

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import ConfigError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Layout, StepOfRun

_NAMED: dict[str, Literal["jsonl", "csv", "parquet"]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


def format_of(config: OutputConfig, *, plain: bool = False) -> Literal["jsonl", "csv", "parquet", "batch"]:
    """Return the output's format, where it is "auto" by its name.

    plain: a run of an earlier release goes on, which wrote JSON Lines under any other name. Raise ConfigError for a
    directory of another format, and for a name that tells none: what is written as JSON Lines under the name of a
    workbook is found out when it is opened, after everything was paid.
    """
    name = config.path.lower()
    directory = name.endswith("/")
    if config.format != "auto":
        if directory and config.format != "parquet":
            raise ConfigError(
                f"output.path: only Parquet is written into a directory, not {config.format}: name a file"
            )
        return config.format
    if directory:
        return "parquet"
    if (found := _NAMED.get(suffix := PurePath(name).suffix)) is not None:
        return found
    if plain or os.path.isdir(config.path):  # noqa: PTH112 - whatever the name, this tells and does not raise
        return "jsonl"  # it is that which is wrong with it, and is told when the places are looked at
    what = f"ends with {suffix}" if suffix else "has no suffix"
    raise ConfigError(
        f"output.path: {config.path} {what}, which is no format that is written; end it with {', '.join(_NAMED)}, "
        'or "/" for Parquet parts, or set output.format'
    )


def open_codec(config: OutputConfig, layout: Layout, step: StepOfRun | None = None) -> OutputCodec:
    """Return the codec of a run's output, or of what one of its steps hands on to the next.

    Raise ConfigError where the path does not go with it.
    """
    if step is not None:
        from rowmill.files.output.step_rows import ChosenRows, StepRows

        return ChosenRows(open_codec(config, layout), step) if step.last else StepRows(step)
    match format_of(config):
        case "csv":
            from rowmill.files.output.csv_records import CsvRecords

            return CsvRecords(config, layout)
        case "parquet":
            from rowmill.files.output.parquet import Parquet

            return Parquet(config, layout)
        case "batch":
            from rowmill.files.output.batch_lines import BatchLines

            return BatchLines()
        case _ if layout.vectors:
            from rowmill.files.output.jsonl import VectorLines

            return VectorLines()
        case _:
            from rowmill.files.output.jsonl import Lines

            return Lines()
