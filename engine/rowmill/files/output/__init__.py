"""Output formats, each a codec: the lines of a shard become a section, and sections the output. See `OutputCodec`.

jsonl     the lines as they are; the vectors of embeddings as lists of numbers
csv       a header, then a record for each row (columns: see `table`)
parquet   the same columns with their types; in one file, or in a directory of files
batch     what OpenAI's Batch API answers: results in the output, failed requests in the errors file
"""

from typing import Literal

from rowmill.core.config.sections import OutputConfig
from rowmill.core.errors import ConfigError
from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Layout


def format_of(config: OutputConfig) -> Literal["jsonl", "csv", "parquet", "batch"]:
    """Return the output's format, where it is "auto" by its name. Raise ConfigError for a directory of another one."""
    name = config.path.lower()
    directory = name.endswith("/")
    if config.format != "auto":
        if directory and config.format != "parquet":
            raise ConfigError(
                f"output.path: only Parquet is written into a directory, not {config.format}: name a file"
            )
        return config.format
    if directory or name.endswith(".parquet"):
        return "parquet"
    return "csv" if name.endswith(".csv") else "jsonl"


def open_codec(config: OutputConfig, layout: Layout) -> OutputCodec:
    """Return the codec of a run's output. Raise ConfigError where the path does not go with it."""
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
