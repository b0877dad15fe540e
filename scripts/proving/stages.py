"""How far each part of a run by batches is, as the files of its run directory tell; nothing asks the run itself."""

import contextlib
import enum
from collections.abc import Mapping
from pathlib import Path

from rowmill.core.errors import RowmillError
from rowmill.store.batch_journal import BatchJournal, Try


class Stage(enum.IntEnum):
    """What is done with a part, in its order; the last one is of the whole run, when all parts are done."""

    BUILD = 0
    UPLOAD = 1
    CREATE = 2
    POLL = 3
    DOWNLOAD = 4
    COLLECT = 5
    DONE = 6
    MERGE = 7


_BY_PHASE: Mapping[str, Stage] = {
    "built": Stage.UPLOAD,
    "uploading": Stage.UPLOAD,
    "uploaded": Stage.CREATE,
    "creating": Stage.CREATE,
    "created": Stage.POLL,
    "ended": Stage.DOWNLOAD,
    "collected": Stage.DONE,
    "given_up": Stage.BUILD,
}


class Stages:
    """The stage of each part of a run that has so many."""

    def __init__(self, run_dir: Path, parts: int) -> None:
        self._batches = run_dir / "batches"
        self._parts = parts
        self.now = [Stage.BUILD] * parts
        self.known = 0  # parts that are built

    def look(self) -> list[Stage]:
        """Look again, and return them."""
        with contextlib.suppress(RowmillError, OSError):  # it is just being made
            newest = {each.part: each for each in BatchJournal.read(self._batches / "journal").current()}
            self.known = len(newest)
            self.now = [self._stage(newest[part]) if part in newest else Stage.BUILD for part in range(self._parts)]
        return self.now

    def _stage(self, t: Try) -> Stage:
        stage = _BY_PHASE[t.phase]
        if stage is Stage.DOWNLOAD and self._is_there(t):
            return Stage.COLLECT
        return stage

    def _is_there(self, t: Try) -> bool:
        """Tell whether everything that there is to download has its place."""
        names = {path.name for path in self._batches.iterdir()}
        wanted = [kind for kind, file in (("output", t.output_file_id), ("errors", t.error_file_id)) if file]
        stem = f"-part-{t.part:05d}-try-{t.number}.jsonl."
        return all(any(name.endswith(stem + kind) and not name.startswith(".") for name in names) for kind in wanted)

    def reached(self, stage: Stage, part: int) -> bool:
        """Tell whether the part has come so far; MERGE: whether all are done."""
        if stage is Stage.BUILD:
            return self.known >= part
        if stage is Stage.MERGE:
            return min(self.now) is Stage.DONE
        return self.now[part] >= stage

    def passed(self, stage: Stage, part: int) -> bool:
        """Tell whether the part has come further."""
        return self.now[part] > stage
