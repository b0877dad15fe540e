"""Everything that is checked before a run starts, so that a mistake costs nothing and writes nothing.

The order matters: input, columns, key, output and an existing manifest are looked at first; only then is the run
directory made and locked.
"""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rowmill.budget import prices as money
from rowmill.core import config as configuration
from rowmill.core import extras, private_files
from rowmill.core.config import SIMULATOR, Config, TaskConfig
from rowmill.core.config.steps import with_last
from rowmill.core.errors import ConfigError, InputError, RunDirectoryError
from rowmill.core.plain_text import place_of
from rowmill.core.wire import Endpoint
from rowmill.files import remote
from rowmill.files.input import inputs, jsonl
from rowmill.files.input.discovery import takes_in
from rowmill.files.input.inputs import Input
from rowmill.files.output import format_of
from rowmill.runs import delivery as deliveries
from rowmill.runs.begun import check_same_run, find_input
from rowmill.runs.delivery import delivery_of, staged
from rowmill.runs.frozen_plan import FrozenPlan, frozen_plan, noted
from rowmill.runs.notify.notifier import Notifier
from rowmill.runs.steps import CHECKED_ROWS, all_of, checked_tasks, endpoints_of, prepared_steps, with_schemas
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest, bytes_of
from rowmill.store.run_directory import ORPHANS_S, RunDirectory
from rowmill.supervisor.prepared import MOMENT, Delivery, Prepared
from rowmill.tasks import Task
from rowmill.tasks import schema as schemas
from rowmill.tasks.batch_file import api_of

_VECTOR_ROWS = 2_000  # of a shard: a vector is a hundred times as large as the text that it is of
_COLUMN_SHARD = 1 << 20  # bytes of input, where the output is written by columns,
_LEAST_SHARDS = 32  # as long as there are enough shards to go round
_LEAST_HANDED_ON, _SMALLEST_HANDED_ON = 64, 1 << 12  # shards, where one step waits for another; bytes of each


def prepare(
    config: Config, environ: Mapping[str, str], *, limit: int | None = None, sample: int | None = None
) -> Prepared:
    """Check everything, open the run directory, and make or load its manifest.

    limit, sample: only so many rows of the input, its first ones or any.
    Raises `RowmillError`s; before the run directory is opened nothing has been written.
    """
    found = find_input(config, limit=limit, sample=sample)
    config = settled(config, found)
    refuse_models_of_rows(config)
    with ExitStack() as stack:
        lookups = [stack.enter_context(money.of_providers(each)) for each in all_of(config)]
        return _prepare(config, environ, found, lookups, {"input.limit": limit, "input.sample": sample})


def _prepare(
    config: Config,
    environ: Mapping[str, str],
    found: Input,
    lookups: Sequence[money.Lookup],
    chosen: dict[str, int | None],
) -> Prepared:
    config, delivery, tasks, endpoints, fingerprint, _ = looked_at(config, environ, found, chosen)
    prices = [lookup.wait() for lookup in lookups]
    for own, priced in zip(all_of(config), prices, strict=True):
        money.require(own, priced)
    cached = _cached(config)
    directory = RunDirectory.open(config.run_dir, config.checkpoint.directory_mode)
    try:
        directory.wait_for_orphans(ORPHANS_S)
        manifest = manifests.load(directory.manifest)  # again: another supervisor may have been at work until now
        resumed = manifest is not None
        plan = FrozenPlan()
        if manifest is None:
            manifest = _new_manifest(fingerprint, found, config)
            if delivery is not None:
                private_files.make_directory(config.output_path.parent)
            manifests.save(directory.manifest, manifest)
        else:
            check_output(config, manifest)
            check_same_run(config, manifest, fingerprint, found)
            plan = frozen_plan(
                directory,
                manifest,
                found,
                output_bytes=_output_bytes(config, manifest),
                steps=[step.name for step in config.step[:-1]],
            )
        for step in config.step[:-1]:
            directory.make_step(step.name)
    except BaseException:
        directory.close()
        raise
    return Prepared(
        config,
        prepared_steps(config, endpoints, prices, found),
        directory,
        manifest,
        found,
        delivery,
        cached,
        plan.shards,
        resumed,
        [] if resumed else doubts(config, found, tasks),
        plan.new_rows,
        plan.completed,
    )


class LookedAt(NamedTuple):
    """What there is of a run before anything of it is opened."""

    config: Config  # with the places where its output is made
    delivery: Delivery | None
    tasks: list[Task]  # of each step
    endpoints: list[list[Endpoint]]  # of the providers of each
    fingerprint: dict[str, Any]
    manifest: Manifest | None


def looked_at(config: Config, environ: Mapping[str, str], found: Input, chosen: dict[str, int | None]) -> LookedAt:
    """Look at columns, key, output and an existing manifest of a settled configuration. Writes nothing.

    chosen: what of the input is asked for, as a fingerprint has it. Raises `RowmillError`s.
    """
    delivery = delivery_of(config)
    if delivery is not None:
        config = staged(config, delivery)
    tasks = checked_tasks(config, found)
    endpoints = endpoints_of(config, environ)
    if delivery is None:
        check_places(config)
    fingerprint = configuration.fingerprint(config) | chosen
    manifest = _existing_manifest(RunDirectory(config.run_dir))
    if delivery is not None:
        deliveries.check(delivery, manifest)
    check_output(config, manifest)
    if manifest is not None:
        check_same_run(config, manifest, fingerprint, found)
    return LookedAt(config, delivery, tasks, endpoints, fingerprint, manifest)


def refuse_models_of_rows(config: Config) -> None:
    """Refuse batches of rows that name their models. Raises `ConfigError`."""
    if config.task.mode != "live" and config.names_models:
        raise ConfigError(
            f'task.mode: "{config.task.mode}" needs one model for all rows, as a batch has one; '
            "name it by task.model or provider.model, which wins over the rows' own"
            f"{', and leave out task.per_row.model' if 'model' in config.task.per_row else ''}"
        )


def _output_bytes(config: Config, manifest: Manifest) -> int | None:
    """Return the bytes of the output that this run has made, and may write over."""
    if already_finished(config, manifest):
        return bytes_of(config.output_path)
    return None if manifest.finished is None else manifest.finished.replaces


def check_new(config: Config, environ: Mapping[str, str]) -> None:
    """Raise what a run of this input would be refused for, whatever run lies where its own is to be."""
    found = inputs.find(config.input)
    config = settled(config, found)
    refuse_models_of_rows(config)
    checked_tasks(config, found)
    endpoints_of(config, environ)
    if not remote.is_remote(config.output.path):
        check_places(config)
    for own in all_of(config):
        money.require(own, money.find(own))
    Notifier(config, environ)
    _cached(config)


def _cached(config: Config) -> int:
    """Check the reply cache, where there is one, and return the serial of its last reply."""
    if config.cache.use != "disk":
        return 0
    from rowmill.store.cache import kept_replies  # and sqlite3

    return kept_replies.prepare(Path(config.cache.dir).expanduser())


def settled(config: Config, found: Input) -> Config:
    """Put what was found in the place of every "auto" and of the schema's path: workers look for nothing.

    Raises `ConfigError`, also for what needs a package that is not installed.
    """
    if any(provider.base_url == SIMULATOR for provider in config.provider):
        extras.need("aiohttp", f'provider.base_url: "{SIMULATOR}": {extras.SERVING}')
    if config.metrics.port is not None:
        extras.need("prometheus_client", "metrics.port: metrics that are scraped")
    if config.metrics.otlp is not None:
        extras.need("opentelemetry", "metrics.otlp: metrics that are pushed")
    output_format = format_of(config.output, plain=found.plain)
    if output_format == "parquet":
        extras.need("pyarrow", f"output.path: {config.output.path}: Parquet files")
    if any(own.task.documents for own in all_of(config)):
        extras.need("pypdfium2", "task.documents: documents")
    if config.step:
        if found.format == "batch":
            raise ConfigError(
                f"{found.where}: is a batch file, whose lines are whole requests; remove the [[step]] tables to run "
                'it, or set input.format = "jsonl"'
            )
        config = with_last(with_schemas(config))
    task = schemas.resolved(config.task)
    if found.format == "batch":
        if config.output.format == "auto" and output_format == "jsonl":
            output_format = "batch"
        task = msgspec.structs.replace(task, api=api_of(found.first_rows(CHECKED_ROWS), found.where))
    if task.api == "embeddings" and output_format != "batch":
        extras.need("numpy", "the vectors of embeddings")
    return msgspec.structs.replace(
        config,
        input=msgspec.structs.replace(config.input, format=found.format, documents_dir=_documents_dir(config)),
        task=task,
        output=msgspec.structs.replace(config.output, format=output_format),
    )


def _documents_dir(config: Config) -> str | None:
    """Return where the documents lie, as a node of a cluster finds it, too."""
    root = config.input.documents_root
    if root is None or not any(own.task.documents for own in all_of(config)):
        return config.input.documents_dir
    return str(root.absolute())


def doubts(config: Config, found: Input, tasks: Sequence[Task]) -> list[str]:
    """Say what of checked tasks may be a slip, and what a provider is documented not to have: nobody refuses it."""
    return [*_asks_alike(config, found, tasks), *_misfits(config)]


def _misfits(config: Config) -> list[str]:
    if all(provider.preset is None for provider in config.provider):
        return []
    from rowmill.core.config import preset_defaults  # what few runs have is not imported by every one

    return list(dict.fromkeys(said for own in all_of(config) for said in preset_defaults.misfits(own)))


def _asks_alike(config: Config, found: Input, tasks: Sequence[Task]) -> list[str]:
    """Say of checked tasks that they ask every row the same, where one does: a slip, but for who wants that."""
    said = []
    column = next((column.name for column in found.columns()), "text")
    for number, task in enumerate(tasks):
        if task.same_for_all:
            of = f" of step {config.step[number].name!r}" if config.step else ""
            asked = "prompt" if _asked(config, number).messages is None else "messages"
            name = "names" if asked == "prompt" else "name"
            said.append(f"the {asked}{of} {name} no column: every row gets the same; name a column as {{{column}}}")
    return said


def _asked(config: Config, number: int) -> TaskConfig:
    return config.step[number] if config.step else config.task


def already_finished(config: Config, manifest: Manifest) -> bool:
    """Tell whether the run's output is in its place, whole."""
    done = manifest.finished
    if done is None or done.grown or done.output != place_of(config.output_path):
        return False
    return bytes_of(config.output_path) == done.output_bytes


def check_places(config: Config) -> None:
    """Refuse output files that could not be written, before hours are spent on what they are to hold."""
    for key, path in (("output.path", config.output_path), ("output.errors", config.errors_path)):
        try:
            if path.is_dir() and not config.output.path.endswith("/"):
                raise InputError(f"{key}: {path} is a directory; name a file")
            if not path.parent.is_dir():
                raise InputError(f"{key}: the directory {path.parent} does not exist; make it, or choose another path")
        except OSError as error:  # a name too long, a directory that must not be entered
            raise InputError(f"{key}: {path} cannot be written: {error.strerror}; choose another path") from None
        made = path / "part.parquet" if config.output.path.endswith("/") and key == "output.path" else path
        if takes_in(config.input.path, made):  # the next run would ask about the answers of this one
            raise InputError(
                f"{key}: {path} would itself be a file of the input, {config.input.path}; "
                "choose another name or directory"
            )
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{key}: the directory {path.parent} cannot be written to; choose another path")


def _existing_manifest(directory: RunDirectory) -> Manifest | None:
    """Load the manifest of a run directory that need not exist, and need not be one."""
    try:
        directory.refuse_odd()
        return manifests.load(directory.manifest)
    except OSError as error:
        raise RunDirectoryError(
            f"{directory.path} cannot be used as run directory: {error.strerror}; set another checkpoint.dir"
        ) from None


def check_output(config: Config, manifest: Manifest | None) -> None:
    """Refuse to write over a file that this run has not made."""
    done = manifest.finished if manifest is not None else None
    for key, path, made in (
        ("output.path", config.output_path, done.output if done else None),
        ("output.errors", config.errors_path, done.errors if done else None),
    ):
        if path.exists() and made != place_of(path):
            raise InputError(f"{key}: {path} exists and is not of this run; move it away, or choose another path")
    if done is None or manifest is None or not config.output_path.exists() or already_finished(config, manifest):
        return
    if bytes_of(config.output_path) != done.replaces:
        raise InputError(
            f"output.path: {config.output_path} changed since the run finished; move it away and run the same command "
            "again to write it anew, without asking for any reply twice"
        )


def shard_bytes(config: Config, found: Input) -> int:
    """Return the size of a shard. A Parquet file has a head for each of its columns and shards: few rows do not pay."""
    size = jsonl.shard_bytes(found.size)
    if len(config.step) > 1:  # the next step waits for the first shard, and a small input is to have several
        size = min(size, max(found.size // _LEAST_HANDED_ON, _SMALLEST_HANDED_ON))
    return max(size, min(found.size // _LEAST_SHARDS, _COLUMN_SHARD)) if config.output.format == "parquet" else size


def shard_rows(config: Config) -> int:
    """Return the most rows of a shard."""
    return _VECTOR_ROWS if config.task.api == "embeddings" else jsonl.SHARD_ROWS


def _new_manifest(fingerprint: dict[str, Any], found: Input, config: Config) -> Manifest:
    return Manifest(
        run_id=uuid.uuid4().hex[:12],
        created=time.strftime(MOMENT, time.gmtime()),
        fingerprint=fingerprint,
        input=noted(found.files),
        shard_bytes=shard_bytes(config, found),
        shard_rows=shard_rows(config),
        reading=manifests.READING,
    )
