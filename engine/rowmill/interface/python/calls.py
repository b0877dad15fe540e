"""Rowmill in a Python program: `rowmill.run` for a whole configuration, `rowmill.map` for rows that the program holds.

Both block until the run has ended, in a script, in a thread, or in a notebook's cell; `arun` and `amap` are the same to
be awaited. The first Ctrl-C lets what is in flight come home, then `KeyboardInterrupt` is raised; a second one stops at
once. In a thread that is not the main one a Ctrl-C belongs to the main one's program, and the run goes on; what is
awaited is interrupted by cancelling its task. No `if __name__ == "__main__"` is needed.

A row that fails is part of the result, never an exception. An exception says that the run has not come to its end;
the same call goes on where it stopped.
"""

import asyncio
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from rowmill.core.config import Config
from rowmill.core.config.credentials import environment
from rowmill.core.errors import (
    AnotherRun,
    BudgetError,
    ConfigError,
    InputError,
    MachineError,
    ProviderError,
    RowmillError,
    RunDirectoryError,
)
from rowmill.interface.python import asked_config, awaited
from rowmill.interface.python.answers import Report, Result, ResultList, RowError, report_of
from rowmill.interface.python.mapping import map_rows
from rowmill.interface.python.near import near_duplicates
from rowmill.interface.python.options import MapOptions
from rowmill.interface.python.running import raise_for_end, shown
from rowmill.interface.python.shapes import AnyFrame, BatchesOf, BlocksOfArrow, NamedColumns, SeriesOf, SpecialType
from rowmill.interface.ui.report_page import keep_page
from rowmill.runs.fresh import set_aside
from rowmill.runs.near_duplicates import Duplicate
from rowmill.runs.session import run as run_config
from rowmill.runs.trial import run_trial

__all__ = [
    "BudgetError",
    "ConfigError",
    "Duplicate",
    "InputError",
    "MachineError",
    "ProviderError",
    "Report",
    "Result",
    "ResultList",
    "RowError",
    "RowmillError",
    "RunDirectoryError",
    "amap",
    "arun",
    "map",
    "near_duplicates",
    "report_of",
    "run",
]

T = TypeVar("T")
FrameT = TypeVar("FrameT", bound=AnyFrame | NamedColumns | BlocksOfArrow)
NewFrameT = TypeVar("NewFrameT")
JsonSchema = str | Mapping[str, Any] | SpecialType | None
Row = str | Mapping[Any, Any] | object


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    schema: type[Any] | JsonSchema = None,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    salvage: bool = False,
    progress: bool | None = None,
) -> Report:
    """Run a configuration to its end, or go on where it stopped.

    `config` is the path of a config.toml, or the same as nested dicts; `overrides` are keys that win over it, as
    {"workers.count": 4}. `schema`: what task.schema would be, or a pydantic model. `limit` or `sample`: a trial of the
    first, or of random rows, in an output of its own, which the report names. `retry_failed`: ask again for the failed
    rows of a finished run, or trial. `fresh`: start from the beginning, and keep the run that is there aside, as
    `out.old.jsonl` with its run directory. `progress`: None shows it where stderr is a terminal and in a notebook, True
    anywhere, False nowhere.

    A run that had finished before is reported again, and nothing is asked for. Raises a `RowmillError` for what stops
    the run (a wrong key, no credit, a full disk), `KeyboardInterrupt` where it was interrupted.
    """
    changes = {**(overrides or {}), **({} if schema is None else {"task.schema": schema})}
    trial = asked_config.is_trial("rowmill.run", limit, sample)
    if fresh and (trial or retry_failed):
        raise ConfigError("rowmill.run: fresh is of a whole run, from its beginning; leave out what else there is")
    read = asked_config.read(config, changes)
    environ = _environ(config, read)
    with shown(progress) as display:
        if trial:
            read, report, session = run_trial(
                read, environ, display, limit=limit, sample=sample, salvage=salvage, retry=retry_failed
            )
        else:
            if fresh and (aside := set_aside(read, environ)) is not None:
                display.log(f"the run before is kept aside: {aside.run_dir}")
            try:
                report, session = run_config(read, environ, display, retry=retry_failed, salvage=salvage)
            except AnotherRun as error:
                raise AnotherRun(f"{error}; to start anew, with what there is kept aside: fresh=True") from None
    if session is not None:
        keep_page(read)
    raise_for_end(report, session)
    return Report.of(report)


def _environ(config: str | os.PathLike[str] | Mapping[str, Any] | Config, read: Config) -> Mapping[str, str]:
    """Return the environment, completed by `.env` beside the configuration where that is a file."""
    if isinstance(config, Mapping | Config):
        return os.environ
    return environment(read, os.environ, Path(config).parent)


async def arun(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    schema: type[Any] | JsonSchema = None,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    salvage: bool = False,
    progress: bool | None = None,
) -> Report:
    """Do what `run` does, in a thread of its own, while the event loop goes on.

    Cancelling the task lets what is in flight come home, as a first Ctrl-C does; the task is cancelled then, and the
    same call goes on from there. A second cancel stops at once.
    """
    return await awaited.in_thread(
        partial(
            run, config, overrides, schema=schema, limit=limit, sample=sample, retry_failed=retry_failed,
            fresh=fresh, salvage=salvage, progress=progress,
        )
    )  # fmt: skip


@overload
def map(  # noqa: A001 - rowmill.map is what it does
    rows: SeriesOf[NewFrameT] | BatchesOf[NewFrameT], *, schema: Any = None, **options: Unpack[MapOptions]
) -> NewFrameT: ...
@overload
def map(rows: FrameT, *, schema: Any = None, **options: Unpack[MapOptions]) -> FrameT: ...  # noqa: A001 - as above
@overload
def map(  # noqa: A001 - as above
    rows: Iterable[Row] | AsyncIterable[Row] | os.PathLike[str], *, schema: type[T], **options: Unpack[MapOptions]
) -> ResultList[T]: ...
@overload
def map(  # noqa: A001 - as above
    rows: Iterable[Row] | AsyncIterable[Row] | os.PathLike[str],
    *,
    schema: JsonSchema = None,
    **options: Unpack[MapOptions],
) -> ResultList[Any]: ...
def map(rows: Any, *, schema: Any = None, **options: Unpack[MapOptions]) -> Any:  # noqa: A001 - rowmill.map is what it does
    """Ask a model about every row, and give back the answers in the order of the rows, one for each.

    `rows`: a DataFrame or Series of pandas or polars, a Table of pyarrow, a relation of DuckDB, a Dataset of Hugging
    Face: the same kind comes back (of a Series a DataFrame, of a RecordBatchReader a Table), with the columns
    `output` (or one for each field of the schema) and `error`, whose names `prefix` may begin. Or any iterable of
    mappings or texts, a generator too, or an async one; or the `pathlib.Path` of a file, as `input.path` has it: a
    list of `Result`s comes back. A text, and a Series, has the one column "text"; the prompt is "{text}" where none
    is given. Of a `ray.data.Dataset` a Dataset comes back: its blocks stay in the cluster, and pass through here one
    at a time.

    `schema`: a pydantic model, or anything else that pydantic takes (a dataclass, a TypedDict, an enum, list[Model]):
    outputs are its instances, columns of a table its fields with their types; or the path of a JSON Schema, or one as
    dicts. What does not fit, by the validators of the model too, is asked again up to `retry.invalid_output` times.

    `options` are all further keys of [task] (model, prompt, system, params, template, images, ...), `id`,
    `images_dir` and `documents_dir` of [input] (left out: the current directory) and all of [[provider]] (preset,
    base_url, api_key_env, requests_per_minute, timeout_s, ...) by their names, and other sections as dicts:
    `workers={"count": 4}`, `cache={"use": "disk"}`; several providers as `provider=[{...}, {...}]`.

    `include`: what else is wanted, as members of the `Result`s, or as columns of JSON text: any of "reasoning" (a plain
    text), "tool_calls", "logprobs", "choices" and "message" of a reply, as `output.include` has them, "usage", and
    "cost", the dollars for the row's reply.

    `limit`, `sample`: ask only the first, or so many random rows. `progress`: None shows it where stderr is a terminal
    and in a notebook, True anywhere, False nowhere.

    `run_dir`: a directory where the run is kept. The same call again goes on there and asks for nothing twice; where
    rows have come behind the others it asks for those. With
    `retry_failed` it asks again for the rows that failed, with `fresh` for all: what there is is kept aside then, as
    `kept.old`. Without it the run is kept only where it was stopped, and the error says where.

    What it cost: `report` of the list, `rowmill.report_of(...)` of any result; of pandas and polars also
    `attrs["rowmill"]`.

    Raises a `RowmillError` for what stops the run, `KeyboardInterrupt` where it was interrupted; a row that fails has
    an `error` instead.
    """
    return map_rows(rows, schema, options)


@overload
async def amap(
    rows: SeriesOf[NewFrameT] | BatchesOf[NewFrameT], *, schema: Any = None, **options: Unpack[MapOptions]
) -> NewFrameT: ...
@overload
async def amap(rows: FrameT, *, schema: Any = None, **options: Unpack[MapOptions]) -> FrameT: ...
@overload
async def amap(
    rows: Iterable[Row] | AsyncIterable[Row] | os.PathLike[str], *, schema: type[T], **options: Unpack[MapOptions]
) -> ResultList[T]: ...
@overload
async def amap(
    rows: Iterable[Row] | AsyncIterable[Row] | os.PathLike[str],
    *,
    schema: JsonSchema = None,
    **options: Unpack[MapOptions],
) -> ResultList[Any]: ...
async def amap(rows: Any, *, schema: Any = None, **options: Unpack[MapOptions]) -> Any:
    """Do what `map` does, in a thread of its own, while the event loop goes on.

    Rows of an async iterable are gone through in the loop; any other in the thread. Cancelling the task, or a timeout,
    lets what is in flight come home, as a first Ctrl-C does; then the task is cancelled, and the same call with the
    same `run_dir` goes on from there. A second cancel stops at once.
    """
    loop = asyncio.get_running_loop()
    return await awaited.in_thread(
        partial(map_rows, rows, schema, options, lambda each, most: awaited.through(each, loop, most))
    )
