"""What a run directory says of the run that began in it: how the input is read, and whether it is still the same run.

A run goes on as it began, whatever this version would make of the same files: rows that were planned keep their
numbers, and what was paid for is not refused.
"""

from contextlib import suppress
from typing import Any

from rowmill.core.config import Config
from rowmill.core.config.hidden import hidden
from rowmill.core.errors import AnotherRun, InputError, RowmillError
from rowmill.core.rows import InputFile
from rowmill.files.input import inputs
from rowmill.files.input.inputs import Input
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory

_DELIMITER = "input.delimiter"


def find_input(config: Config, *, limit: int | None = None, sample: int | None = None) -> Input:
    """Find out what the input is, as the run reads it that began in the run directory, if any.

    Raises as `inputs.find` does. A run directory that cannot be read says nothing: it is refused when it is opened.
    """
    directory = RunDirectory(config.run_dir)
    with suppress(RowmillError, OSError):
        directory.refuse_odd()  # a named pipe in a file's place would be waited for
        manifest = manifests.load(directory.manifest)
        if manifest is not None and manifest.reading is None:
            # A version between the releases may have begun it, which read as this one does and did not say so.
            plain = inputs.find(config.input, limit=limit, sample=sample, plain=True)
            if plain.agrees(directory.spool, manifests.load_plan(directory.plan)):
                return plain
    return inputs.find(config.input, limit=limit, sample=sample)


def check_same_run(config: Config, manifest: Manifest, fingerprint: dict[str, Any], found: Input) -> None:
    """Refuse to go on with another input, prompt or model than the run has begun with. Raises `AnotherRun`.

    Of the input it is what can be seen without reading it; it may have grown.
    """
    before = {key: hidden(value) if key == "task.params" else value for key, value in manifest.fingerprint.items()}
    if _same_delimiter(found, before.get(_DELIMITER), fingerprint.get(_DELIMITER)):
        before, fingerprint = ({**each, _DELIMITER: None} for each in (before, fingerprint))
    changed = manifests.differences(before, fingerprint)
    changed += _changed_files(manifest.input, found)
    if changed:
        raise AnotherRun(
            f"{config.run_dir} is a run of something else: {'; '.join(changed)}. "
            "Put it back to resume, or name another checkpoint.dir and output.path for a new run"
        )


def _changed_files(before: list[InputFile], found: Input) -> list[str]:
    """Say in which file rows are gone, as far as sizes tell. Files may have moved together."""
    now = found.files
    if len(before) > len(now):
        return [f"the input: {len(before)} -> {len(now)} files"]
    for old, new in zip(before, now, strict=False):
        if new.size < old.size and found.in_place:
            where = f" {new.path}" if len(now) > 1 else ""
            return [f"the input{where}: {old.size} -> {new.size} bytes"]
    return []


def _same_delimiter(found: Input, before: str | None, now: str | None) -> bool:
    """Tell whether a key that was added, taken away or spelled otherwise leaves the fields as they were."""
    if before == now:
        return False
    with suppress(InputError):
        return found.separated_by(before) == found.separated_by(now)
    return False
