"""A run from the beginning, where there is one already: that one is kept aside, with all that it has made.

It keeps its shape there: `out.old.jsonl` with `out.old.jsonl.run` is still a run, that of a configuration with this
output. The next one is called `out.old-2.jsonl`. Answers are not taken over; what `cache.use = "disk"` has kept is
found by the new run as by any other. The directory of a `rowmill.map` goes aside as a whole, as `kept.old`.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import InputError, RunDirectoryError
from rowmill.core.plain_text import place_of
from rowmill.files import remote
from rowmill.runs.preparation import check_new
from rowmill.runs.session import embedded
from rowmill.runs.trial import marked
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import ORPHANS_S, RunDirectory


class Aside(NamedTuple):
    """Where a run lies now."""

    output: Path | None  # None: it had made none
    run_dir: Path


def set_aside(config: Config, environ: Mapping[str, str], whole: Path | None = None) -> Aside | None:
    """Move the run of this configuration aside, for a new one in its place; None where there is none.

    whole: a directory that has all of the run, its rows too, and is moved as one; those of the new one lie elsewhere.
    Before that everything is checked that can be, so that a mistake moves nothing. Raises `RowmillError`s: also where
    that run is at work, or has batches at the provider.
    """
    directory = RunDirectory(config.run_dir)
    directory.refuse_odd()
    manifest = manifests.load(directory.manifest)
    if manifest is None:
        return None
    embedded(config)
    check_new(config, environ)
    if (
        remote.is_remote(config.output.path)
        and manifest.finished is not None
        and manifest.finished.delivered is not None
    ):
        raise InputError(
            f"output.path: {remote.shown(config.output.path)} has the results of the run before; name another one"
        )
    with RunDirectory.open(config.run_dir) as held:
        held.wait_for_orphans(ORPHANS_S)
        if any(t.open and t.creations for t in BatchJournal.read(held.journal).current()):
            raise RunDirectoryError(
                f"{config.run_dir} has batches at the provider, which would be paid for all the same: end them by "
                "rowmill cancel, or take in what they did by rowmill run"
            )
        return _moved(config, held, manifest) if whole is None else _moved_whole(config, whole, manifest)


def _moved(config: Config, directory: RunDirectory, manifest: Manifest) -> Aside:
    """Give everything its new name. Killed in between, the run goes on as it was, and makes its output anew."""
    own = _free(config)
    done = manifest.finished
    moved = None
    with durable.machine_errors(f"set the run in {directory.path} aside"):
        if done is not None and not remote.is_remote(config.output.path):
            for path, aside, made in (
                (config.output_path, own.output_path, done.output),
                (config.errors_path, own.errors_path, done.errors),
            ):
                if path.exists() and made == place_of(path):
                    durable.move(path, aside)
            moved = own.output_path if own.output_path.exists() else None
            errors = None if done.errors is None else place_of(own.errors_path)
            manifest.finished = msgspec.structs.replace(done, output=place_of(own.output_path), errors=errors)
            manifests.save(directory.manifest, manifest)
        durable.move(directory.path, own.run_dir)
    return Aside(moved, own.run_dir)


def _moved_whole(config: Config, folder: Path, manifest: Manifest) -> Aside:
    """Give the directory its new name; then the run in it is told where it is."""
    names = (f"{folder.name}.old{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    own = next(path for path in map(folder.with_name, names) if not path.exists())
    output, errors = (own / path.relative_to(folder) for path in (config.output_path, config.errors_path))
    run_dir = own / config.run_dir.relative_to(folder)
    with durable.machine_errors(f"set {folder} aside"):
        durable.move(folder, own)
        if (done := manifest.finished) is not None:
            there = None if done.errors is None else place_of(errors)
            manifest.finished = msgspec.structs.replace(done, output=place_of(output), errors=there)
            manifests.save(RunDirectory(run_dir).manifest, manifest)
    return Aside(output if output.exists() else None, run_dir)


def _free(config: Config) -> Config:
    """Return the configuration with places that nothing has."""
    for number in itertools.count(1):
        own = marked(config, "old" if number == 1 else f"old-{number}")
        local = [] if remote.is_remote(own.output.path) else [own.output_path, own.errors_path]
        if not any(path.exists() for path in (*local, own.run_dir)):
            return own
    raise AssertionError("there is always another number")
