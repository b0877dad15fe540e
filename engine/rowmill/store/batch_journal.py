"""The journal of batches: what was intended and what was done with each part's batches.

What the file looks like, why every step stands in it before and after it is done, and how it is read after a crash is
said in `batch_records`.

Every method that writes blocks for a write and a sync, a millisecond or two, the event loop included: a part takes
about eight of them in its whole life of minutes to hours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from rowmill.core import private_files
from rowmill.core.amounts import Spent
from rowmill.store import durable
from rowmill.store.append_log import AppendLog
from rowmill.store.batch_records import MOVES, OPEN, JournalReading, Phase, Try, header_record, step_record

__all__ = ["BatchJournal", "Try"]


class BatchJournal:
    """The journal of one run. One object is the only writer of its file; any number may read it meanwhile.

    tries: every try so far, by part and number.

    A method that writes raises ValueError, before anything is written, for a step that the try cannot take, or where
    the journal is only read; and MachineError where it cannot be written. Then nothing is written any more: what the
    disk has is found out by opening the file anew.
    """

    def __init__(self, reading: JournalReading, log: AppendLog | None) -> None:
        self.tries = reading.tries
        self._log = log  # None where it is only read
        self._steps = reading.steps

    @classmethod
    def open(cls, path: Path, run_id: str) -> Self:
        """Open the journal at `path`, or make an empty one there, its directory included.

        Raise RunDirectoryError where it is damaged or another run's, MachineError where it cannot be read or written.
        """
        with durable.machine_errors(f"open the batch journal {path}"):
            if not path.exists():
                private_files.make_directory(path.parent)
                durable.sync_directory(path.parent.parent)
            log, reading = AppendLog.open(
                "batch journal", path, header_record(run_id), lambda: JournalReading(path, path.read_bytes(), run_id)
            )
        return cls(reading, log)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open the journal at `path` to be read only, whichever run's it is; one without tries where there is none.

        The tries are in order. Another process may be writing meanwhile: its last step is there or not. Raise as `open`
        does.
        """
        with durable.machine_errors(f"read the batch journal {path}"):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = header_record("")  # no steps
        reading = JournalReading(path, data, None)
        reading.tries = dict(sorted(reading.tries.items()))
        return cls(reading, None)

    @property
    def read_only(self) -> bool:
        """Whether it is only read: then steps are another process's to note."""
        return self._log is None

    def current(self) -> list[Try]:
        """Return the newest try of each part, by part."""
        newest = {part: self.tries[part, number] for part, number in sorted(self.tries)}
        return list(newest.values())

    def earlier(self, t: Try) -> list[int]:
        """Return the row up to which each earlier try asked that counts against the rows of this one; ascending.

        Only a batch that ran to its end has tried its rows.
        """
        tries = (self.tries[t.part, number] for number in range(t.counted_from, t.number))
        return sorted(each.asked_to for each in tries if each.phase == "collected" and each.status == "completed")

    def once(self, t: Try) -> frozenset[int]:
        """Return the rows that an earlier try, which counts, has left to be tried again once at most."""
        tries = (self.tries[t.part, number] for number in range(t.counted_from, t.number))
        return frozenset(row for each in tries for row in each.once)

    def built(self, t: Try) -> Try:
        """Note that the file of a new try is there, and return the try. One that is "built" already is replaced."""
        earlier = self.tries.get((t.part, t.number - 1))
        if t.number > 1 and (earlier is None or earlier.phase in OPEN):
            raise ValueError(f"part {t.part} has no try {t.number} before its try {t.number - 1} is done with")
        if earlier is not None and (earlier.first_row, earlier.end_row) != (t.first_row, t.end_row):
            raise ValueError(f"part {t.part} has the rows {earlier.first_row} to {earlier.end_row} exclusive")
        before = self.tries.get((t.part, t.number))
        _check("built", t, before.phase if before else "")
        self._append("built", t)
        self.tries[t.part, t.number] = t
        return t

    def uploading(self, t: Try, now: float) -> None:
        """Note that its file is about to be uploaded."""
        self._note("uploading", t, now, file_id=None)

    def uploaded(self, t: Try, file_id: str, now: float) -> None:
        """Note the file's id at the provider."""
        self._note("uploaded", t, now, file_id=file_id)

    def creating(self, t: Try, now: float) -> None:
        """Note that its batch is about to be created."""
        self._note("creating", t, now, creations=t.creations + 1)

    def created(self, t: Try, batch_id: str, created_at: float, now: float) -> None:
        """Note the batch's id, and when it was created by the provider's clock."""
        self._note("created", t, now, batch_id=batch_id, created_at=created_at)

    def rejected(self, t: Try, reason: str, now: float) -> None:
        """Note that the provider did not take the batch as a whole and did no work: its file waits for another one."""
        self._note(
            "rejected",
            t,
            now,
            batch_id=None,
            created_at=None,
            cancelling=False,
            reason=reason,
            rejections=t.rejections + 1,
        )

    def cancelling(self, t: Try, now: float) -> None:
        """Note that its batch is about to be cancelled. The phase stays as it is."""
        self._note("cancelling", t, now, cancelling=True)

    def ended(self, t: Try, status: str, output_file_id: str | None, error_file_id: str | None, now: float) -> None:
        """Note that its batch is over, and which files hold what came of it."""
        self._note("ended", t, now, status=status, output_file_id=output_file_id, error_file_id=error_file_id)

    def collected(  # noqa: PLR0917 - the figures of a try, in the order of its members
        self,
        t: Try,
        spent: Spent,
        wasted: Spent,
        answered: int,
        failed: int,
        left: int,
        now: float,
        once: Sequence[int] = (),
    ) -> None:
        """Note that every outcome of it is in the checkpoints, and what it cost. `once`: see `Try`."""
        spent, wasted = msgspec.structs.replace(spent), msgspec.structs.replace(wasted)  # the caller's go on growing
        figures = {"answered": answered, "failed": failed, "left": left}
        self._note("collected", t, now, spent=spent, wasted=wasted, once=[*once], **figures)

    def given_up(self, t: Try, reason: str, now: float) -> None:
        """Note that nothing comes of it any more: its rows are asked again, and may be paid twice."""
        self._note("given_up", t, now, reason=reason, left=t.rows)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._log is not None:
            self._log.close()

    def _note(self, event: str, t: Try, now: float, **changes: Any) -> None:
        if self.tries.get((t.part, t.number)) is not t:
            raise ValueError(f"try {t.number} of part {t.part} is not of this journal")
        phase = _check(event, t, t.phase)
        if phase is not None:
            changes |= {"phase": phase, "since": now}
        self._append(event, msgspec.structs.replace(t, **changes))
        for name, value in changes.items():
            setattr(t, name, value)

    def _append(self, event: str, state: Try) -> None:
        if self._log is None:
            raise ValueError(f"the journal is only read, and part {state.part} is to be {event!r}")
        self._log.append(step_record(self._steps + 1, event, state))
        self._steps += 1


def _check(event: str, t: Try, phase: str) -> Phase | None:
    """Return the phase that an event brings a try to; None where it stays in its own."""
    phases, after = MOVES[event]
    if phase not in phases:
        raise ValueError(f"try {t.number} of part {t.part} cannot be {event!r}: it is {phase or 'not there'!r}")
    return after
