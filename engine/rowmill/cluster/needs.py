"""What a run needs of a node's Python beside what Rowmill always needs: packages of extras, the module of a type."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from rowmill.core.config import Config
from rowmill.core.config.sections import ModelSchema
from rowmill.core.rows import InputPart


class Need(NamedTuple):
    """A module that the workers of a run import."""

    module: str
    what_for: str  # as it follows the module's name
    remedy: str  # what to do on a node that has none


def needs_of(config: Config, parts: Sequence[InputPart]) -> list[Need]:
    """Return what the workers of a run import; the configuration is settled, as a run has it."""
    return list({need.module: need for need in _needs(config, parts)}.values())


def _needs(config: Config, parts: Sequence[InputPart]) -> Iterator[Need]:
    if any(part.kind != "lines" for part in parts):
        yield from _of_tables("for an input of tables")
    if config.output.format == "parquet":
        yield from _of_tables("for an output of Parquet")
    if config.task.api == "embeddings" and config.output.format != "batch":
        yield _package("numpy", "for vectors")
    if config.task.documents:
        yield _package("pypdfium2", "for task.documents")
    if config.cache.use != "off":
        yield Need("sqlite3", "for the cache", "install a Python that has it")
    schema = config.task.schema
    if isinstance(schema, ModelSchema) and schema.code is None:
        yield Need(
            schema.name.partition(":")[0],
            f"for task.schema: {schema.name}",
            'install it there, or have it sent with cluster.runtime_env = {working_dir = "."}',
        )


def _of_tables(what_for: str) -> Iterator[Need]:
    yield _package("pyarrow", what_for)
    if find_spec("numpy") is not None:  # some columns need it; who has none here has no such columns
        yield _package("numpy", what_for)


def _package(name: str, what_for: str) -> Need:
    return Need(name, what_for, f'install it there, or set cluster.runtime_env = {{pip = ["{name}"]}}')
