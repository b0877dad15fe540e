"""Everything that is checked before a run starts, so that a mistake costs nothing and writes nothing.

The order matters: input, columns, key, output and an existing manifest are looked at first; only then is the run
directory made and locked.
"""

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine import config as configuration
from engine.config import Config, ProviderConfig
from engine.errors import InputError, RunDirectoryError
from engine.records import Endpoint, Shard
from engine.sources import jsonl
from engine.store import manifest as manifests
from engine.store.manifest import InputFile, Manifest
from engine.store.run_directory import RunDirectory
from engine.tasks.chat import ChatTask

_CHECKED_ROWS = 100  # first rows looked at for the columns that the configuration names
_ORPHANS_S = 20.0  # workers of a killed supervisor are gone within 10


@dataclass
class Prepared:
    """A run that can start."""

    config: Config
    endpoints: list[Endpoint]  # one for each provider, in the configuration's order; without URL and headers yet
    directory: RunDirectory  # locked
    manifest: Manifest
    input: BinaryIO
    shards: list[Shard] | None  # the frozen plan, where an earlier session brought it to its end
    resumed: bool


def prepare(config: Config, environ: Mapping[str, str]) -> Prepared:
    """Check everything, open the run directory, and make or load its manifest.

    Raises `RowmillError`s; before the run directory is opened nothing has been written.
    """
    file = jsonl.open_input(config.input_path)
    try:
        task = ChatTask(config.task, config.input.id)
        task.check(jsonl.first_rows(config.input_path, _CHECKED_ROWS), str(config.input_path))
        endpoints = [_endpoint(provider, environ) for provider in config.provider]
        stat = os.fstat(file.fileno())
        found = InputFile(str(config.input_path), stat.st_size, stat.st_mtime_ns)
        _check_places(config)
        manifest = _existing_manifest(RunDirectory(config.run_dir))
        _check_output(config, manifest)
        if manifest is not None:
            _check_same_run(config, manifest, found)
        directory = RunDirectory.open(config.run_dir)
    except BaseException:
        file.close()
        raise
    try:
        directory.wait_for_orphans(_ORPHANS_S)
        manifest = manifests.load(directory.manifest)  # again: another supervisor may have been at work until now
        resumed = manifest is not None
        shards = None
        if manifest is None:
            manifest = _new_manifest(config, found)
            manifests.save(directory.manifest, manifest)
        else:
            _check_output(config, manifest)
            _check_same_run(config, manifest, found)
            shards = _frozen_plan(directory, manifest, found, file)
    except BaseException:
        file.close()
        directory.close()
        raise
    return Prepared(config, endpoints, directory, manifest, file, shards, resumed)


def already_finished(config: Config, manifest: Manifest) -> bool:
    """Tell whether the run's output is in its place, whole."""
    done = manifest.finished
    if done is None or done.output != _real(config.output_path):
        return False
    try:
        return config.output_path.stat().st_size == done.output_bytes
    except FileNotFoundError:
        return False


def _endpoint(provider: ProviderConfig, environ: Mapping[str, str]) -> Endpoint:
    return Endpoint(
        provider=provider.name,
        base_url=provider.base_url,
        key=configuration.api_key(provider, environ),
        openai_account=provider.base_url.rstrip("/") == configuration.OPENAI_URL,
        timeout_s=provider.timeout_s,
        extra_headers=configuration.extra_headers(provider, environ),
        secrets=configuration.secrets(provider, environ),
    )


def _check_places(config: Config) -> None:
    """Refuse output files that could not be written, before hours are spent on what they are to hold."""
    for key, path in (("output.path", config.output_path), ("output.errors", config.errors_path)):
        try:
            if path.is_dir():
                raise InputError(f"{key}: {path} is a directory; name a file")
            if not path.parent.is_dir():
                raise InputError(f"{key}: the directory {path.parent} does not exist; make it, or choose another path")
        except OSError as error:  # a name too long, a directory that must not be entered
            raise InputError(f"{key}: {path} cannot be written: {error.strerror}; choose another path") from None
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{key}: the directory {path.parent} cannot be written to; choose another path")


def _existing_manifest(directory: RunDirectory) -> Manifest | None:
    """Load the manifest of a run directory that need not exist, and need not be one."""
    try:
        return manifests.load(directory.manifest)
    except OSError as error:
        raise RunDirectoryError(
            f"{directory.path} cannot be used as run directory: {error.strerror}; set another checkpoint.dir"
        ) from None


def _check_output(config: Config, manifest: Manifest | None) -> None:
    """Refuse to write over a file that this run has not made."""
    done = manifest.finished if manifest is not None else None
    for key, path, made in (
        ("output.path", config.output_path, done.output if done else None),
        ("output.errors", config.errors_path, done.errors if done else None),
    ):
        if path.exists() and made != _real(path):
            raise InputError(f"{key}: {path} exists and is not of this run; move it away, or choose another path")
    if done is not None and config.output_path.exists() and not (manifest and already_finished(config, manifest)):
        raise InputError(
            f"output.path: {config.output_path} changed since the run finished; move it away and run the same command "
            "again to write it anew, without asking for any reply twice"
        )


def _check_same_run(config: Config, manifest: Manifest, found: InputFile) -> None:
    """Refuse to go on with another input, prompt or model than the run has begun with."""
    changed = manifests.differences(manifest.fingerprint, configuration.fingerprint(config))
    if manifest.input.size != found.size:
        changed.append(f"the input: {manifest.input.size} -> {found.size} bytes")
    if changed:
        raise RunDirectoryError(
            f"{config.run_dir} is a run of something else: {'; '.join(changed)}. "
            "Put it back to resume, or name another checkpoint.dir and output.path for a new run"
        )


def _frozen_plan(directory: RunDirectory, manifest: Manifest, found: InputFile, file: BinaryIO) -> list[Shard] | None:
    """Return the plan, once it is certain that the input is the one that was planned.

    Size and time of change are trusted, as by make. Where only the time differs, every byte is read and compared.
    Without a plan (the first session was killed while it counted) each shard is compared as a worker opens it.
    """
    shards = manifests.load_plan(directory.plan)
    if shards is None or found.mtime_ns == manifest.input.mtime_ns:
        return shards
    again = jsonl.plan_shards(file, shard_bytes=manifest.shard_bytes, shard_rows=manifest.shard_rows)
    for shard, now in zip(shards, again, strict=False):
        if shard != now:
            raise RunDirectoryError(
                f"{found.path} has changed: rows {shard.first_row} to {shard.first_row + shard.rows - 1} are not those "
                f"that the run in {directory.path} began with; put them back, or name another checkpoint.dir"
            )
    file.seek(0)
    manifest.input = found
    manifests.save(directory.manifest, manifest)
    return shards


def _new_manifest(config: Config, found: InputFile) -> Manifest:
    return Manifest(
        run_id=uuid.uuid4().hex[:12],
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        fingerprint=configuration.fingerprint(config),
        input=found,
        shard_bytes=jsonl.shard_bytes(found.size),
        shard_rows=jsonl.SHARD_ROWS,
    )


def _real(path: Path) -> str:
    return os.path.realpath(path)
