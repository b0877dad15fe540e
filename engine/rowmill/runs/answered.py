"""The rows of a run that have an outcome, as its checkpoints hold them, also while it is at work. It only reads."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import InvalidRow, RowmillError, RunDirectoryError
from rowmill.core.rows import InputPart, Shard
from rowmill.files.input.shard_readers import open_reader
from rowmill.runs.begun import find_input
from rowmill.runs.preparation import settled
from rowmill.store import manifest as manifests
from rowmill.store.recovery import CheckpointReading
from rowmill.store.row_index import FAILED, MISSING
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task

Line = dict[str, Any]  # an output line, decoded; `prompt`: the request's body, where the input is at hand


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted: all that is said must hold.

    rows: their numbers; empty: any. failed: only failed ones. fault: only those of this class. holds: a condition on
    the line. sample: so many at random; limit: no more than so many.
    """

    rows: tuple[int, ...] = ()
    failed: bool = False
    fault: str | None = None
    holds: Callable[[Mapping[str, Any]], bool] | None = None
    sample: int | None = None
    limit: int | None = None

    def takes(self, line: Line) -> bool:
        """Tell whether a line is wanted, of those that `rows` and `failed` let through."""
        if self.fault is not None and (line.get("error") or {}).get("class") != self.fault:
            return False
        return self.holds is None or self.holds(line)


def answered(path: Path, choice: Choice, *, rng: Random | None = None) -> Iterator[Line]:
    """Yield the rows of the run in this directory that are chosen, in their order.

    Raises `RunDirectoryError` where there is no run, or where its answers were removed by `rowmill clean`.
    """
    directory = RunDirectory(path)
    shards = _shards(directory)
    if choice.rows:
        shards = [
            each for each in shards if any(each.first_row <= row < each.first_row + each.rows for row in choice.rows)
        ]
    lines: Iterator[Line] = (
        line for shard in shards for line in _of_shard(directory, shard, choice) if choice.takes(line)
    )
    if choice.sample is not None:
        lines = iter(_sampled(lines, choice.sample, rng or Random()))  # noqa: S311 - no secret
    yield from islice(lines, choice.limit)


def _shards(directory: RunDirectory) -> list[Shard]:
    if not directory.path.is_dir():
        raise RunDirectoryError(f"{directory.path} holds no run: there is nothing to show")
    directory.refuse_odd()
    manifest = manifests.load(directory.manifest)
    if manifest is None:
        raise RunDirectoryError(f"{directory.path} holds no run: there is nothing to show")
    if manifest.finished is not None and manifest.finished.cleaned:
        raise RunDirectoryError(
            f"the run in {directory.path} was cleaned of its answers; its output is {manifest.finished.output}"
        )
    shards = manifests.load_plan(directory.plan)
    if shards is None:
        raise RunDirectoryError(f"the run in {directory.path} still counts its input; look again in a while")
    return shards


def _of_shard(directory: RunDirectory, shard: Shard, choice: Choice) -> Iterator[Line]:
    path = directory.checkpoint_path(shard)
    try:
        index = CheckpointReading(path, shard).read().index
        with path.open("rb") as file:
            for place, state in enumerate(index.states):
                if state == MISSING or (choice.failed and state != FAILED):
                    continue
                if choice.rows and shard.first_row + place not in choice.rows:
                    continue
                line = os.pread(file.fileno(), index.lengths[place], index.offsets[place])
                with suppress(ValueError, RecursionError):
                    yield msgspec.json.decode(line, type=Line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}") from None


def _sampled(lines: Iterator[Line], count: int, rng: Random) -> list[Line]:
    """Return so many of the lines, each as likely as any other, in their order."""
    kept: list[tuple[int, Line]] = []
    for place, line in enumerate(lines):
        if place < count:
            kept.append((place, line))
        elif (instead := rng.randrange(place + 1)) < count:
            kept[instead] = (place, line)
    return [line for _, line in sorted(kept, key=lambda each: each[0])]


def with_prompts(config: Config, lines: Sequence[Line]) -> None:
    """Put the request of each row beside it, as it is built from the input: under `prompt`, decoded.

    Where the input is gone, or another one, there is none.
    """
    directory = RunDirectory(config.run_dir)
    with suppress(RowmillError, OSError):
        manifest = manifests.load(directory.manifest)
        chosen = {} if manifest is None else manifest.fingerprint
        found = find_input(config, limit=chosen.get("input.limit"), sample=chosen.get("input.sample"))
        config = settled(config, found)
        task = open_task(config.task, config.input, parts=config.output.parts)
        shards = manifests.load_plan(directory.plan) or []
        asyncio.run(_put(task, shards, found.parts(directory.spool), {line["index"]: line for line in lines}))


async def _put(task: Task, shards: list[Shard], parts: list[InputPart], lines: Mapping[int, Line]) -> None:
    for shard in shards:
        end = shard.first_row + shard.rows
        wanted = [row for row in lines if shard.first_row <= row < end]
        if not wanted:
            continue
        async with open_reader(parts[shard.part], shard, task.columns) as reader:
            row = shard.first_row
            while row <= max(wanted) and (read := await reader.read()):
                for number, text in enumerate(read, row):
                    if number in lines:
                        with suppress(InvalidRow):
                            lines[number]["prompt"] = msgspec.json.decode(task.build(text).body)
                row += len(read)
