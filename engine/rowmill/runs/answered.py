"""The rows of a run that have an outcome, as its checkpoints hold them, also while it is at work. It only reads."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.fingerprints import fingerprint, last_of
from rowmill.core.config.hidden import hidden
from rowmill.core.config.steps import of_step
from rowmill.core.errors import ConfigError, InvalidRow, RowmillError, RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.files.input.shard_readers import shard_lines
from rowmill.files.output import vectors
from rowmill.runs.begun import check_same_run, find_input
from rowmill.runs.preparation import settled
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest
from rowmill.store.recovery import CheckpointReading
from rowmill.store.row_index import FAILED, MISSING
from rowmill.store.run_directory import RunDirectory, ShardFiles
from rowmill.tasks.factory import open_task

_ASKED = ("messages", "input", "prompt")  # of a request, where what is asked stands

Line = dict[str, Any]  # an output line, decoded; `prompt`: the request's body, where the input is at hand
_Decoded = TypeVar("_Decoded")
_decode_line = msgspec.json.Decoder(Line).decode


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted: all that is said must hold.

    rows: their numbers; empty: any. failed: only failed ones. fault: only those of this class. holds: a condition on
    the line. step: of several, by name; None: the last. sample: so many at random; limit: no more than so many.
    """

    rows: tuple[int, ...] = ()
    failed: bool = False
    fault: str | None = None
    holds: Callable[[Mapping[str, Any]], bool] | None = None
    step: str | None = None
    sample: int | None = None
    limit: int | None = None

    def takes(self, line: Line) -> bool:
        """Tell whether a line is wanted, of those that `rows` and `failed` let through."""
        if self.fault is not None and (line.get("error") or {}).get("class") != self.fault:
            return False
        return self.holds is None or self.holds(line)


class Recorded(msgspec.Struct, gc=False):
    """What a row of a run of embeddings has come to: its id as JSON, and its vector in base64, None where it failed."""

    id: msgspec.Raw
    output: str | None


_decode_recorded = msgspec.json.Decoder(Recorded).decode


def recorded(path: Path) -> Iterator[tuple[Shard, list[Recorded]]]:
    """Return the shards of a run of embeddings with what their rows have come to, as far as they have.

    Raises `RunDirectoryError` as `answered` does.
    """
    directory = RunDirectory(path)
    _, shards = _begun(directory)
    return ((shard, list(_lines_of(directory, shard, Choice(), _decode_recorded))) for shard in shards)


def answered(path: Path, choice: Choice, *, rng: Random | None = None) -> Iterator[Line]:
    """Return the rows of the run in this directory that are chosen, in their order, read one after the other.

    Raises `RunDirectoryError` where there is no run, or where its answers were removed by `rowmill clean`, and
    `ConfigError` where it has no such step.
    """
    directory = RunDirectory(path)
    manifest, shards = _begun(directory)
    files = _files(directory, manifest, choice.step)
    if choice.rows:
        shards = [
            each for each in shards if any(each.first_row <= row < each.first_row + each.rows for row in choice.rows)
        ]
    lines: Iterator[Line] = (
        line for shard in shards for line in _lines_of(files, shard, choice, _decode_line) if choice.takes(line)
    )
    if choice.sample is not None:
        lines = iter(_sampled(lines, choice.sample, rng or Random()))  # noqa: S311 - no secret
    lines = islice(lines, choice.limit)
    return map(_unpacked, lines) if files is directory and _has_vectors(manifest) else lines


def _files(directory: RunDirectory, manifest: Manifest, step: str | None) -> ShardFiles:
    """Return where the answers of a step lie."""
    names: list[str] = manifest.fingerprint.get("step", [])
    if step is None or step in names[-1:]:
        return directory
    if step not in names:
        there = f"there are {', '.join(names)}" if names else "it asks one question"
        raise ConfigError(f"--step {step}: the run in {directory.path} has no such step; {there}")
    return directory.of_step(step)


def _has_vectors(manifest: Manifest) -> bool:
    asked = manifest.fingerprint
    return last_of(asked, "api") == "embeddings" and asked.get("output.format") != "batch"


def _unpacked(line: Line) -> Line:
    """Return the line with its vector as numbers, as the output has it, and not as it came."""
    with suppress(ImportError, ValueError, TypeError):
        (text,) = vectors.texts(vectors.decoded([line.get("output")]))
        line["output"] = None if text is None else msgspec.json.decode(text)
    return line


def _begun(directory: RunDirectory) -> tuple[Manifest, list[Shard]]:
    if not directory.path.is_dir():
        raise RunDirectoryError(f"{directory.path} holds no run: there is nothing to show")
    directory.refuse_unreadable()
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
        why = "has not come to its rows: rowmill run goes on with it"
        if directory.holder() is not None:
            why = "still counts its input; look again in a while"
        raise RunDirectoryError(f"the run in {directory.path} {why}")
    return manifest, shards


def _lines_of(
    files: ShardFiles, shard: Shard, choice: Choice, decode: Callable[[bytes], _Decoded]
) -> Iterator[_Decoded]:
    path = files.checkpoint_path(shard)
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
                    yield decode(line)
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


def with_prompts(
    config: Config, lines: Iterable[Line], *, missing: Callable[[str], None], step: str | None = None
) -> Iterator[Line]:
    """Yield the lines with the request of each beside it, as it is built from the input: under `prompt`, decoded.

    The lines are in the order of their rows; those of one shard at a time are held. Where the input or what is asked of
    it is gone, or another one than the run's, there is no prompt, and `missing` is told why, once.
    """
    told = False

    def tell(error: Exception) -> None:
        nonlocal told
        if not told:
            told = True
            missing(str(error))

    try:
        asked: Questions | None = Questions(config, step)
    except (RowmillError, OSError) as error:
        asked = None
        tell(error)
    if asked is None:
        yield from lines
        return
    for shard, group in groupby(lines, key=lambda line: asked.shard_of(line["index"])):
        held = list(group)
        texts: dict[int, bytes] = {}
        try:
            texts = asked.texts(shard, held)
        except (RowmillError, OSError) as error:
            tell(error)
        for line in held:
            if (text := texts.pop(line["index"], None)) is not None:
                with suppress(InvalidRow):
                    line["prompt"] = hidden(asked.body(text))
            yield line


class Questions:
    """What the rows of a run ask, by its configuration and its input. Raises `RowmillError`s where they changed."""

    def __init__(self, config: Config, step: str | None = None) -> None:
        """`step`: of several, by name; None: the last."""
        directory = RunDirectory(config.run_dir)
        manifest = manifests.load(directory.manifest)
        assert manifest is not None
        chosen = {name: manifest.fingerprint.get(name) for name in ("input.limit", "input.sample")}
        found = find_input(config, limit=chosen["input.limit"], sample=chosen["input.sample"])
        config = settled(config, found)
        check_same_run(config, manifest, fingerprint(config) | chosen, found)
        number = next((place for place, each in enumerate(config.step) if each.name == step), len(config.step) - 1)
        asked = of_step(config, number)
        self._task = open_task(asked.task, config.input, parts=asked.output.parts)
        self._shards = manifests.load_plan(directory.plan) or []
        self._parts = found.parts(directory.spool)
        self._in_lines = bool(config.step)  # what a step asks about is in its lines, and of later ones nowhere else

    @property
    def rows(self) -> int:
        """How many rows the run has."""
        return sum(shard.rows for shard in self._shards)

    def lines(self, shard: Shard) -> Iterator[bytes]:
        """Yield the rows of the shard as the input has them, as lines with all their columns."""
        return (bytes(line) for read in shard_lines(self._parts[shard.part], shard, None) for line in read)

    def shard_of(self, row: int) -> Shard:
        """Return the shard that has a row."""
        return self._shards[bisect_right(self._shards, row, key=lambda shard: shard.first_row) - 1]

    def body(self, text: bytes) -> Any:
        """Return the request that a row is, decoded; of rows that share one, what it would be alone.

        Raises `InvalidRow`.
        """
        return msgspec.json.decode(self._task.pack([self._task.build(text)]).body)

    def texts(self, shard: Shard, lines: Sequence[Line]) -> dict[int, bytes]:
        """Return the rows of these output lines, of one shard, as they were asked about, by number.

        All of the shard is read, and checked.
        """
        rows = {line["index"] for line in lines}
        if self._in_lines:
            return {line["index"]: msgspec.json.encode(line.get("input")) for line in lines}
        found: dict[int, bytes] = {}
        row = shard.first_row
        for read in shard_lines(self._parts[shard.part], shard, self._task.columns):
            found.update((number, bytes(text)) for number, text in enumerate(read, row) if number in rows)
            row += len(read)
        return found


def asked_in(body: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield what a request asks: who says it, None where that is nobody, and the content."""
    if not isinstance(body, dict):
        return
    if isinstance(body.get("instructions"), str):
        yield "system", body["instructions"]
    value = next((body[name] for name in _ASKED if name in body), None)
    if isinstance(value, list) and value and all(isinstance(each, dict) and "role" in each for each in value):
        yield from ((str(message["role"]), message.get("content")) for message in value)
    elif value is not None:
        yield None, value
