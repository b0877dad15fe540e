"""The plan of a run that goes on: the input is held against it, and rows that came behind are planned too."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from rowmill.core.errors import AnotherRun
from rowmill.core.rows import InputFile, Shard
from rowmill.files.input.inputs import Input
from rowmill.files.input.streams import shown
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.batch_journal import BatchJournal
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory
from rowmill.store.shortening import shortened


class FrozenPlan(NamedTuple):
    """What earlier sessions have planned, with what is new."""

    shards: list[Shard] | None = None  # None: the first session was killed while it counted
    new_rows: int = 0
    # The first of these is one that had only begun: a last line that whoever writes the input had not ended. It is
    # another row than what was there of it, which has left the plan.
    completed: bool = False


def frozen_plan(
    directory: RunDirectory,
    manifest: Manifest,
    found: Input,
    *,
    output_bytes: int | None,
    steps: Sequence[str] = (),
) -> FrozenPlan:
    """Return the plan, once it is certain that the input is the one that was planned.

    Sizes and times of change are trusted, as by make. Where one differs, every byte is read and compared. Rows behind
    those that were planned are planned too, and the output, which has `output_bytes`, is made anew with them.
    Without a plan each shard is compared as a worker opens it. `steps`: those before the last one, by name.
    """
    shards = manifests.load_plan(directory.plan)
    if shards is None:
        return FrozenPlan()
    cleaned = manifest.finished is not None and manifest.finished.cleaned
    same = _looks_of(found.files) == _looks_of(manifest.input)
    if same and (cleaned or found.whole(directory.spool, shards)):
        return FrozenPlan(shards)
    differing, new = found.compare(
        directory.spool,
        shards,
        shard_bytes=manifest.shard_bytes,
        shard_rows=manifest.shard_rows,
        # A row that has a part in a batch stays what it was.
        files=() if cleaned or BatchJournal.read(directory.journal).current() else manifest.input,
    )
    if differing is not None:
        raise AnotherRun(
            f"{found.where} has changed: rows {differing.first_row} to {differing.first_row + differing.rows - 1} are "
            f"not those that the run in {directory.path} began with; put them back, or name another checkpoint.dir"
        )
    if new and cleaned:
        raise refused_as_cleaned(directory, "the rows that came behind cannot be put behind the others")
    for path in found.spooled(directory.spool):
        durable.sync_path(path)
    planned = sum(shard.rows for shard in shards)
    completed = bool(new) and new[0].number < len(shards)
    if completed:
        last = shards.pop()
        planned -= 1
        for files in (directory, *map(directory.of_step, steps)):
            shortened(files.checkpoint_path(last), last, new[0])
    if new:
        if manifest.finished is not None:  # in this order: killed in between, the next start finds them again
            manifest.finished = msgspec.structs.replace(manifest.finished, grown=True, replaces=output_bytes)
            manifests.save(directory.manifest, manifest)
        manifests.save_plan(directory.plan, shards + new)
        if (longer := found.take_new()) is not None:
            durable.sync_path(longer)
    manifest.input = noted(found.files)
    manifests.save(directory.manifest, manifest)
    shards += new
    return FrozenPlan(shards, sum(shard.rows for shard in shards) - planned, completed)


def refused_as_cleaned(directory: RunDirectory, why: str) -> AnotherRun:
    """Return the error of a run that cannot go on for what `rowmill clean` has removed of it."""
    return AnotherRun(f"the run in {directory.path} has finished and was cleaned of its answers: {why}")


def _looks_of(files: list[InputFile]) -> list[tuple[int, int]]:
    return [(file.size, file.mtime_ns) for file in files]


def noted(files: list[InputFile]) -> list[InputFile]:
    """Return the files as the manifest may name them: the query of a URL can be a key."""
    return [msgspec.structs.replace(file, path=shown(file.path)) for file in files]
