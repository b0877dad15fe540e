"""`rowmill clean`: what a finished run does not need any more. Its output, its report and its log stay.

What can be made again for nothing goes in any case: the spool, claims, boards, files of batches, the report's page. The
checkpoints hold the answers: without them no failed row can be asked again by itself, and no new row be put behind the
others. They go where no row has failed, or where that is asked for; the manifest says so first, so that nothing is paid
twice unseen.
"""

import shutil
from pathlib import Path

import msgspec

from rowmill.core.errors import RunDirectoryError
from rowmill.core.reports import report_at
from rowmill.runs.listing import size_of
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.manifest import bytes_of
from rowmill.store.run_directory import ORPHANS_S, RunDirectory


class Cleaned(msgspec.Struct, frozen=True):
    """What was removed of a run directory, or would be."""

    run_dir: str
    freed: int  # bytes
    left: int  # bytes
    kept: int  # failed rows for whose sake the checkpoints were kept


def clean(path: Path, *, everything: bool = False, dry: bool = False) -> Cleaned:
    """Clean a run directory. everything: also what failed rows need. dry: only look what it would be.

    Raises `RunDirectoryError` where the run has not finished, is at work, or is none: then nothing is removed.
    """
    directory = RunDirectory(path)
    directory.refuse_odd()
    if manifests.load(directory.manifest) is None:
        raise RunDirectoryError(f"{path} holds no run: there is nothing to clean")
    with RunDirectory.open(path) as held:
        held.wait_for_orphans(ORPHANS_S)
        manifest = manifests.load(held.manifest)
        done = None if manifest is None else manifest.finished
        if manifest is None or done is None or done.grown:
            raise RunDirectoryError(
                f"the run in {path} has not finished, and nothing was removed: rowmill run goes on with it"
            )
        if bytes_of(Path(done.output)) != done.output_bytes:
            raise RunDirectoryError(
                f"{done.output} is not as the run in {path} has left it, and what would be removed could make it anew; "
                "nothing was removed"
            )
        failed = _failed(held.report)
        answers = everything or not failed
        gone = [held.spool, held.sealed, held.claims, path / "boards", path / "simulator", path / "cluster"]
        gone += [each.sealed for each in held.steps()]
        gone += [held.page] if held.page.is_file() else []  # which shows rows
        gone += [each for each in (held.batches.iterdir() if held.batches.is_dir() else ()) if each.name != "journal"]
        held_answers = [held.checkpoints, *(each.checkpoints for each in held.steps())] if answers else []
        freed = sum(
            size_of(each) if each.is_dir() else each.stat().st_size for each in (*gone, *held_answers) if each.exists()
        )
        if not dry:
            _remove(gone, path)  # first: on a disk that is full, which is why people clean, the manifest has room then
            if answers and not done.cleaned:
                manifest.finished = msgspec.structs.replace(done, cleaned=True)
                manifests.save(held.manifest, manifest)
            _remove(held_answers, path)
    left = size_of(path) - (freed if dry else 0)
    return Cleaned(str(path), freed, left, 0 if answers else failed)


def _remove(gone: list[Path], path: Path) -> None:
    with durable.machine_errors(f"clean {path}"):
        for each in gone:
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)


def _failed(report: Path) -> int:
    """Return how many rows have failed. Where nobody can tell, some may have."""
    found = report_at(report)
    return 1 if found is None else found.totals.failed
