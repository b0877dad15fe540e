"""The manifest: what a run is of, so that a resume can tell whether it is still the same run; and its frozen plan."""

from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.errors import RunDirectoryError
from rowmill.core.plain_text import place_of
from rowmill.core.rows import InputFile, Shard
from rowmill.core.version import __version__
from rowmill.store import durable
from rowmill.store.framing import FORMAT, framed, unframed

READING = 2  # before there was a number, files were taken for what they are called: see `inputs.find`

_SHOWN_CHARACTERS = 80  # of a value in a difference
_SHOWN_BEFORE = 20  # of them, what stands before the first difference of a long value


class Finished(msgspec.Struct, frozen=True):
    """What a finished run has left. Sizes in bytes; `errors` is None where no errors file was made."""

    output: str
    output_bytes: int
    errors: str | None
    error_bytes: int
    at: str  # ISO 8601, UTC
    replaces: int | None = None  # bytes of this run's earlier output, which a retry is about to write over
    delivered: str | None = None  # the URL that the output was uploaded to
    cleaned: bool = False  # its checkpoints were removed: nothing of it can be asked again by itself
    grown: bool = False  # the input has, since: the output is to be made anew, with what came behind


class Manifest(msgspec.Struct, kw_only=True):
    """One run in one directory."""

    format: int = FORMAT
    rowmill_version: str = __version__  # that started the run
    run_id: str
    created: str  # ISO 8601, UTC
    fingerprint: dict[str, Any]  # flat keys such as "task.model": what must not change in a resume
    input: list[InputFile]
    shard_bytes: int  # how the plan was cut: bytes of input and rows that a shard has at most
    shard_rows: int
    reading: int | None = None  # how the input is read: `READING`; None where an earlier version began the run
    finished: Finished | None = None


class _Version(msgspec.Struct):
    format: int
    rowmill_version: str = "of an unknown version"


class _Plan(msgspec.Struct):
    rowmill: int
    shards: list[Shard]


def load(path: Path) -> Manifest | None:
    """Read a manifest; None where there is none. Raise RunDirectoryError for another format or damage."""
    data = _read(path)
    if data is None:
        return None
    try:
        version = msgspec.json.decode(data, type=_Version)
        if version.format != FORMAT:
            msg = (
                f"{path} has format {version.format}, made by Rowmill {version.rowmill_version}; this is Rowmill "
                f"{__version__}, which reads format {FORMAT}: "
                "resume with that version, or start in another run directory"
            )
            raise RunDirectoryError(msg)
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        msg = f"the manifest {path} is damaged ({error}): restore it from a backup, or start in another run directory"
        raise RunDirectoryError(msg) from error
    if manifest.finished is not None:
        manifest.finished = _where_it_lies(manifest.finished, path.absolute().parent.parent)
    return manifest


def _where_it_lies(done: Finished, folder: Path) -> Finished:
    """Return it with the paths of now, where the output was moved together with the run directory beside it."""
    beside = folder / Path(done.output).name
    try:
        if Path(done.output).exists() or bytes_of(beside) != done.output_bytes:
            return done
    except OSError:
        return done
    errors = None if done.errors is None else place_of(folder / Path(done.errors).name)
    return msgspec.structs.replace(done, output=place_of(beside), errors=errors)


def bytes_of(path: Path) -> int | None:
    """Return the size of a file, or of the files in a directory of parts; None where there is none."""
    try:
        if path.is_dir():
            return sum(part.stat().st_size for part in path.iterdir())
        return path.stat().st_size
    except FileNotFoundError:
        return None


def save(path: Path, manifest: Manifest) -> None:
    """Write a manifest durably, replacing what was there."""
    with durable.machine_errors(f"write the manifest {path}"):
        durable.replace_durably(path, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def save_plan(path: Path, shards: list[Shard]) -> None:
    """Write the plan durably. A resume with another number of workers uses the same shards."""
    with durable.machine_errors(f"write the plan {path}"):
        durable.replace_durably(path, framed(msgspec.json.encode(_Plan(FORMAT, shards))))


def load_plan(path: Path) -> list[Shard] | None:
    """Read the plan; None where there is none. Raise RunDirectoryError for another format or damage."""
    data = _read(path)
    if data is None:
        return None
    json = unframed(data)
    try:
        plan = None if json is None else msgspec.json.decode(json, type=_Plan)
    except msgspec.DecodeError:
        plan = None
    if plan is None or plan.rowmill != FORMAT:
        msg = f"the plan {path} is damaged or of another format: restore it from a backup, or use another run directory"
        raise RunDirectoryError(msg)
    return plan.shards


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Say what changed between two fingerprints: one line for each key, in the form `task.model: "a" -> "b"`."""
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = _shown(old, key), _shown(new, key)
        if before != after:
            start = max(0, _common_prefix(before, after) - _SHOWN_BEFORE)
            lines.append(f"{key}: {_abbreviated(before, start)} -> {_abbreviated(after, start)}")
    return lines


def _shown(fingerprint: dict[str, Any], key: str) -> str:
    return msgspec.json.encode(fingerprint[key], order="sorted").decode() if key in fingerprint else "not set"


def _common_prefix(a: str, b: str) -> int:
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _abbreviated(value: str, start: int) -> str:
    """Cut a long value down to what is around the first difference, which may be far behind its beginning."""
    if len(value) <= _SHOWN_CHARACTERS:
        return value
    start = min(start, len(value) - _SHOWN_CHARACTERS)
    piece = value[start : start + _SHOWN_CHARACTERS]
    return f"{'...' if start else ''}{piece}{'...' if start + _SHOWN_CHARACTERS < len(value) else ''}"


def _read(path: Path) -> bytes | None:
    try:
        with durable.machine_errors(f"read {path}", absent=True):
            return path.read_bytes()
    except FileNotFoundError:
        return None
