"""Rowmill in a Python program: `rowmill.run` for a whole configuration, `rowmill.map` for rows that the program holds.

Both block until the run has ended, in a script, in a thread, or in a notebook's cell. The first Ctrl-C lets what is in
flight come home, then `KeyboardInterrupt` is raised; a second one stops at once. In a thread that is not the main one a
Ctrl-C belongs to the main one's program, and the run goes on. No `if __name__ == "__main__"` is needed.

A row that fails is part of the result, never an exception. An exception says that the run has not come to its end;
the same call goes on where it stopped.
"""

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config, ProviderConfig, TaskConfig
from rowmill.core.config.sections import REPLY_PARTS, ReplyPart
from rowmill.core.errors import (
    BudgetError,
    ConfigError,
    ExitCode,
    InputError,
    MachineError,
    ProviderError,
    RowmillError,
    RunDirectoryError,
)
from rowmill.core.reports import RunReport, SessionReport, Snapshot
from rowmill.interface.python import frames
from rowmill.interface.python.frames import Result, RowError
from rowmill.interface.python.place import MapPlace, map_place
from rowmill.interface.python.ray_rows import RayRows, is_dataset
from rowmill.interface.python.row_lines import TEXT, lines
from rowmill.interface.ui.lines import LogLines
from rowmill.interface.ui.progress import open_progress
from rowmill.interface.ui.report import summary
from rowmill.interface.ui.screen import ProgressDisplay
from rowmill.runs.session import run as run_config
from rowmill.runs.trial import run_trial
from rowmill.tasks import schema as schemas
from rowmill.tasks.factory import open_task
from rowmill.tasks.readers import choices_asked

__all__ = [
    "BudgetError",
    "ConfigError",
    "InputError",
    "MachineError",
    "ProviderError",
    "Report",
    "Result",
    "RowError",
    "RowmillError",
    "RunDirectoryError",
    "map",
    "run",
]

_ENDS: dict[int, type[RowmillError]] = {
    each.exit_code: each for each in (ConfigError, BudgetError, ProviderError, RunDirectoryError, MachineError)
}
_OF_PROVIDER = frozenset(ProviderConfig.__struct_fields__)
_OF_TASK = frozenset(TaskConfig.__struct_fields__)
_SECTIONS = [name for name in Config.__struct_fields__ if name not in {"input", "task", "output"}]  # made by `map`


class Report(RunReport, frozen=True, kw_only=True):
    """What came of a finished run. Its text is the summary that `rowmill run` prints.

    `output` and `errors` are the paths of the files, `errors` None where no row failed; `totals`, `failures` and
    `sessions` are the figures of `report.json`.
    """

    @property
    def ok(self) -> bool:
        """Whether every row has a result."""
        return self.finished and not self.totals.failed

    def __repr__(self) -> str:
        """Return the summary."""
        return summary(self, self.sessions[-1])


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    limit: int | None = None,
    sample: int | None = None,
    retry_failed: bool = False,
    salvage: bool = False,
    progress: bool | None = None,
) -> Report:
    """Run a configuration to its end, or go on where it stopped.

    `config` is the path of a config.toml, or the same as nested dicts; `overrides` are keys that win over it, as
    {"workers.count": 4}. `limit` or `sample`: a trial of the first, or of random rows, in an output of its own, which
    the report names. `retry_failed`: ask again for the failed rows of a finished run. `progress`: None shows it where
    stderr is a terminal, True anywhere, False nowhere.

    A run that had finished before is reported again, and nothing is asked for. Raises a `RowmillError` for what stops
    the run (a wrong key, no credit, a full disk), `KeyboardInterrupt` where it was interrupted.
    """
    read = _read(config, overrides or {})
    if limit is not None and sample is not None:
        raise ConfigError("rowmill.run: a trial is of the first rows (limit) or of random ones (sample), not both")
    if retry_failed and (limit is not None or sample is not None):
        raise ConfigError("rowmill.run: retry_failed is of the whole run; leave out limit and sample")
    with _shown(progress) as shown:
        if limit is not None or sample is not None:
            _, report, session = run_trial(read, os.environ, shown, limit=limit, sample=sample, salvage=salvage)
        else:
            report, session = run_config(read, os.environ, shown, retry=retry_failed, salvage=salvage)
    _raise_for_end(report, session)
    return Report(**{name: getattr(report, name) for name in RunReport.__struct_fields__})


def map(  # noqa: A001 - rowmill.map is what it does
    rows: Any,
    *,
    model: str | None = None,
    prompt: str | None = None,
    system: str | None = None,
    schema: str | Mapping[str, Any] | None = None,
    api: str = "chat.completions",
    base_url: str | None = None,
    api_key_env: str | None = None,
    id: str | None = None,  # noqa: A002 - the configuration's word
    run_dir: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    prefix: str = "",
    include: Sequence[ReplyPart] = (),
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Ask a model about every row, and give back the answers in the order of the rows, one for each.

    `rows`: a DataFrame or Series of pandas or polars, a Table of pyarrow: the same kind comes back, with the columns
    `output` (or one for each field of the schema) and `error`, whose names `prefix` may begin. Or any iterable of
    mappings or texts, a generator too: a list of `Result`s comes back. A text, and a Series, has the one column
    "text"; the prompt is "{text}" where none is given. Of a `ray.data.Dataset` a Dataset comes back: its blocks stay in
    the cluster, and pass through this process one at a time.

    `options` are further keys of [task] (params, template, images, ...), `images_dir` of [input] (left out: the current
    directory) and of [[provider]] (requests_per_minute, timeout_s, ...) by their names, and other sections as dicts:
    `workers={"count": 4}`, `cache={"use": "disk"}`; several providers as `provider=[{...}, {...}]`.

    `include`: what else of a reply is wanted, as members of the `Result`s, or as columns of JSON text: any of
    "reasoning" (a plain text), "tool_calls", "logprobs", "choices" and "message", as `output.include` has them.

    `run_dir`: a directory where the run is kept. The same call again goes on there and asks for nothing twice; with
    `retry_failed` it asks again for the rows that failed. Without it the run is kept only where it was stopped, and the
    error says where.

    Raises a `RowmillError` for what stops the run, `KeyboardInterrupt` where it was interrupted; a row that fails has
    an `error` instead.
    """
    dataset = RayRows(rows) if is_dataset(rows) else None
    table = frames.source(rows) if dataset is None else None
    given: frames.Rows | None = dataset or table
    task = {"api": api, "model": model, "prompt": prompt, "system": system, "schema": schema}
    if prompt is None and "messages" not in options:
        task["prompt"] = f"{{{TEXT}}}"
    provider = {"base_url": base_url, "api_key_env": api_key_env}
    with map_place(None if run_dir is None else Path(run_dir)) as place:
        config = configuration.parse(_tree(task, provider, options, place, id, include=include), "rowmill.map")
        resolved = schemas.resolved(config.task).schema
        # A reply of several choices is a list, whose members are no columns.
        fields = schemas.fields(resolved) if isinstance(resolved, dict) and choices_asked(config.task) == 1 else ()
        if given is not None:
            frames.check_names(given, fields, prefix, config.output.parts)
        wanted = open_task(config.task, config.input).columns
        count = place.write(lines(rows if given is None else given.rows(wanted), wanted))
        if count:
            _ask(config, place, retry=retry_failed, progress=progress)
        results = place.each(vectors=config.task.api == "embeddings") if count else iter(())
        columns = partial(frames.answers, fields=fields, prefix=prefix, parts=config.output.parts)
        if dataset is not None:
            return dataset.with_answers(results, columns)
        answered = list(results)
    return answered if table is None else table.joined(columns(answered))


def _ask(config: Config, place: MapPlace, *, retry: bool, progress: bool | None) -> None:
    """Run what a `map` asks."""
    with _shown(progress) as shown:
        place.holds_answers = True  # whatever ends this now: somebody may have paid
        try:
            report, session = run_config(config, os.environ, shown, retry=retry)
        except RowmillError:
            place.holds_answers = False  # raised only before the start
            raise
    place.holds_answers = not report.finished and report.totals.rows > 0
    again = "the same call" if place.kept else f"the same call with run_dir={str(place.path)!r}"
    _raise_for_end(report, session, again if place.holds_answers or place.kept else "the same call")


def _raise_for_end(report: RunReport, session: SessionReport | None, again: str = "the same call") -> None:
    """Raise where the run has not come to its end."""
    if report.finished or session is None:
        return
    kept = f"{report.totals.rows:,} rows are done and kept; {again} goes on from there"
    if session.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt(kept)
    error = _ENDS.get(session.exit_code, RowmillError)(f"{session.stopped_by}; {kept}")
    error.exit_code = ExitCode(session.exit_code)
    raise error


def _read(config: str | os.PathLike[str] | Mapping[str, Any] | Config, overrides: Mapping[str, Any]) -> Config:
    changes = [f"{key}={_toml(key, value)}" for key, value in overrides.items()]
    if isinstance(config, Config) and not changes:
        return config
    if not isinstance(config, Mapping | Config):
        return configuration.load(Path(config), changes)
    tree = _plain(config)
    for change in changes:
        configuration.override(tree, change)
    return configuration.parse(tree, "rowmill.run")


def _plain(value: Any) -> dict[str, Any]:
    """Copy a configuration into dicts and lists; paths may be `Path`s."""
    try:
        tree: dict[str, Any] = msgspec.to_builtins(value, enc_hook=os.fspath)
    except RecursionError:
        raise ConfigError("the configuration lies in itself, or is nested too deep") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"a value of the configuration is none that TOML has: {error}") from None
    return tree


def _toml(key: str, value: Any) -> str:
    """Write a value as TOML has it on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case os.PathLike():
            return _toml(key, os.fspath(value))
        case Mapping():
            return f"{{{', '.join(f'{_toml(key, str(name))} = {_toml(key, each)}' for name, each in value.items())}}}"
        case Sequence():
            return f"[{', '.join(_toml(key, each) for each in value)}]"
    raise ConfigError(f"rowmill.run: {key}: a {type(value).__name__} is no value of a configuration")


def _tree(
    task: Mapping[str, Any],
    provider: Mapping[str, Any],
    options: Mapping[str, Any],
    place: MapPlace,
    id_: str | None,
    *,
    include: Sequence[ReplyPart] = (),
) -> dict[str, Any]:
    """Make the configuration of a `map`."""
    wrong = [include] if isinstance(include, str) else [part for part in include if part not in REPLY_PARTS]
    if wrong:
        raise ConfigError(f"rowmill.map: include: {wrong[0]!r}: must be a list of any of {', '.join(REPLY_PARTS)}")
    task, provider, sections = dict(task), dict(provider), dict[str, Any]()
    images_dir: Any = "."  # the rows lie nowhere: what they name is seen from where the program is
    for name, value in options.items():
        if name == "images_dir":
            images_dir = value
        elif name in _OF_TASK:
            task[name] = value
        elif name in _OF_PROVIDER:
            provider[name] = value
        elif name in _SECTIONS:
            sections[name] = value
        else:
            known = ["images_dir", *_OF_TASK, *_OF_PROVIDER, *_SECTIONS]
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"rowmill.map: unknown option {name}; did you mean {nearest}?")
    provider = {name: value for name, value in provider.items() if value is not None}
    if provider and "provider" in sections:
        raise ConfigError(f"rowmill.map: with provider=[...] put {next(iter(provider))} into each of them")
    if not isinstance(checkpoint := sections.get("checkpoint", {}), Mapping) or "dir" in checkpoint:
        raise ConfigError("rowmill.map: checkpoint.dir is made from run_dir; name that")
    return _plain(
        {
            **({"provider": [provider]} if provider else {}),
            **sections,
            "checkpoint": {**checkpoint, "dir": place.run},
            "input": {
                "path": place.rows,
                "format": "jsonl",
                "images_dir": images_dir,
                **({} if id_ is None else {"id": id_}),
            },
            "task": {name: value for name, value in task.items() if value is not None},
            "output": {"path": place.results, "format": "jsonl", "include": list(include)},
        }
    )


@contextmanager
def _shown(progress: bool | None) -> Iterator[ProgressDisplay]:
    """Give what shows the run, and close it after."""
    # A notebook's stderr is no terminal, but a stream of the notebook's own: its descriptor leads elsewhere.
    terminal = sys.stderr is not None and sys.stderr.isatty()
    shown: ProgressDisplay = _Quiet()
    if terminal and progress is not False:
        shown = open_progress(sys.stderr)
    elif progress and sys.stderr is not None:
        shown = LogLines(sys.stderr)
    try:
        yield shown
    finally:
        shown.close()


class _Quiet:
    def show(self, snapshot: Snapshot) -> None:
        pass

    def log(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass
