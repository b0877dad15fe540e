"""What stands in the journal of batches, and how it is read back after whatever happened to it.

A batch costs money from its creation on, and only its id leads back to it. So every step is written here **before** it
is done (`uploading`, `creating`) and again **after** it (`uploaded`, `created`). Killed at any point, the next session
reads how far each part was:

- at "uploading" or "creating" the provider may or may not have done it: whoever resumes looks there first, by the
  file's name or the batch's metadata, and only then does it again;
- at every other phase nothing is in doubt.

The file holds one record (see `framing`) a step:

    header  {"rowmill":2,"batches":"<run id>"}                       once, first
    step    {"step":n,"event":"created","try":{..the whole try as it is then..}}    n counts from 1

Each is written and synced before anything is done on its strength, so at most the last one can be torn. The header is
there, whole, before the file has its name. From that:

- Something broken **behind** the last valid record is a **torn tail**, what a crash leaves: it is cut on opening. Its
  step was never acknowledged, so nothing was done on its strength.
- Something broken **before** a valid record, a step that is missing, or one that its try could not have taken, is
  **damage**: a disk or a foreign hand changed what was acknowledged. It is refused: to go on from a wrong state would
  be to pay for batches twice.

Known gap, as with checkpoints: a file that was cut short at its end looks like a torn tail.
"""

from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Literal

import msgspec

from rowmill.core.amounts import Amount, Spent
from rowmill.core.errors import RunDirectoryError
from rowmill.store.framing import FORMAT, framed, unframed, unframed_at_end

Phase = Literal["built", "uploading", "uploaded", "creating", "created", "ended", "collected", "given_up"]

# event -> (the phases in which it may come, the phase after it; None: it stays). A missing entry is a defect.
OPEN: frozenset[str] = frozenset({"built", "uploading", "uploaded", "creating", "created", "ended"})
MOVES: dict[str, tuple[frozenset[str], Phase | None]] = {
    "built": (frozenset({"", "built"}), "built"),  # "": a new try. Again: nothing had gone out, the file was lost
    # Again: the upload, or what had come of it, was not found. From "creating": the provider has lost the file.
    "uploading": (frozenset({"built", "uploading", "uploaded", "creating"}), "uploading"),
    "uploaded": (frozenset({"uploading"}), "uploaded"),
    "creating": (frozenset({"uploaded", "creating"}), "creating"),  # again: no batch was found
    "created": (frozenset({"creating"}), "created"),
    "rejected": (frozenset({"created"}), "uploaded"),
    "cancelling": (frozenset({"created"}), None),
    "ended": (frozenset({"created"}), "ended"),
    "collected": (frozenset({"ended"}), "collected"),
    "given_up": (OPEN, "given_up"),
}


class Try(msgspec.Struct):
    """One part's one try, as the journal has it. Times are Unix times; once it is built only the journal changes it."""

    part: int  # from 0
    number: int  # of the try, from 1
    first_row: int  # of the part, the same for all of its tries
    end_row: int  # exclusive
    requests: int  # this and the next four are of the try's file
    rows: int
    size: int  # bytes
    crc: int
    tokens: int  # estimated, of the prompts
    reserved: Amount
    asked_to: int  # exclusive; rows of the part from here on had no room in the file
    counted_from: int  # the first try of the part that counts against its rows: a retry counts anew
    phase: Phase = "built"
    since: float = 0.0  # when that phase began
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None  # in which the batch ended, in the provider's word
    output_file_id: str | None = None
    error_file_id: str | None = None
    creations: int = 0  # times that a batch was about to be created
    rejections: int = 0  # batches that the provider refused as a whole
    created_at: float | None = None  # the batch, by the provider's clock
    cancelling: bool = False
    reason: str = ""  # of the latest rejection, or why it was given up
    spent: Spent = msgspec.field(default_factory=Spent)  # this and the rest once it is collected
    wasted: Spent = msgspec.field(default_factory=Spent)  # of it, by replies that were no use
    answered: int = 0  # rows
    failed: int = 0  # rows that failed for good
    left: int = 0  # rows that the next try must ask
    once: list[int] = []  # those that failed in a way for which they are tried again once at most

    def file_name(self, run: str) -> str:
        """Return what its file is called at the provider, of the run with this id."""
        return f"rowmill-{run}-part-{self.part:05d}-try-{self.number}.jsonl"

    def metadata(self, run: str) -> dict[str, str]:
        """Return what tells its batch apart there. One that follows a rejected one has another."""
        number = f"{self.number}.{self.rejections}" if self.rejections else str(self.number)
        return {"rowmill_run": run, "rowmill_part": str(self.part), "rowmill_try": number}

    @property
    def open(self) -> bool:
        """Whether anything is still to come of it."""
        return self.phase in OPEN

    @property
    def maybe_billed(self) -> bool:
        """Whether what it reserved may be paid, though nothing says so: it was given up with a batch."""
        return self.phase == "given_up" and self.creations > self.rejections


def doubtful(tries: Collection[Try]) -> Amount:
    """Return what batches may have cost that were given up: as reserved, but by what others really took of theirs."""
    collected = [t for t in tries if t.spent.requests and t.reserved.tokens]
    expected = sum(t.reserved.tokens * t.spent.requests / t.requests for t in collected)
    taken = min(sum(t.spent.tokens for t in collected) / expected, 1.0) if expected else 1.0
    given_up = sum((t.reserved for t in tries if t.maybe_billed), Amount())
    return Amount(given_up.requests, given_up.tokens * taken, given_up.usd * taken)


class _JournalHeader(msgspec.Struct):
    rowmill: int
    batches: str


class _StepRecord(msgspec.Struct):
    step: int
    event: str
    state: Try = msgspec.field(name="try")


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(_JournalHeader).decode
_decode_step = msgspec.json.Decoder(_StepRecord).decode


def header_record(run_id: str) -> bytes:
    """Return the first record of a run's journal."""
    return framed(_encode(_JournalHeader(FORMAT, run_id)))


def step_record(step: int, event: str, state: Try) -> bytes:
    """Return the record of the journal's n-th step, which left the try like this."""
    return framed(_encode(_StepRecord(step, event, state)))


class JournalReading:
    """What a journal's file holds."""

    def __init__(self, path: Path, data: bytes, run_id: str | None) -> None:
        """Read it. Raise RunDirectoryError for damage, another format, or another run (None: whichever it is)."""
        self.tries: dict[tuple[int, int], Try] = {}
        self.steps = 0
        self.end = 0  # bytes that count: what follows is a torn tail
        self._path = path
        broken_at: int | None = None
        offset = 0
        for record in BytesIO(data):
            if broken_at is None and self._take(record, run_id):
                self.end = offset + len(record)
            elif broken_at is None:
                broken_at = offset
            # A whole record after a broken one, perhaps with nothing but the newline between them broken.
            if broken_at is not None and _holds_record(record):
                break
            offset += len(record)
        else:
            if self.end:
                return
        raise RunDirectoryError(
            f"{path} is damaged at byte {broken_at or 0}: put it back from a copy; or move it away to have every row "
            "without an outcome asked again, which pays once more for the batches that it names"
        )

    def _take(self, record: bytes, run_id: str | None) -> bool:
        json = unframed(record)
        if json is None:
            return False
        try:
            if self.end:
                return self._take_step(_decode_step(json))
            header = _decode_header(json)
        except msgspec.DecodeError:
            return False
        if header.rowmill != FORMAT:
            raise RunDirectoryError(
                f"{self._path} has format {header.rowmill}, this version reads {FORMAT}: "
                "resume the run with the Rowmill that started it"
            )
        if run_id not in (None, header.batches):
            raise RunDirectoryError(
                f"{self._path} is the journal of another run ({header.batches}): use that run's own directory"
            )
        return True

    def _take_step(self, step: _StepRecord) -> bool:
        key = step.state.part, step.state.number
        before = self.tries.get(key)
        if step.step != self.steps + 1 or step.event not in MOVES:
            return False
        phases, after = MOVES[step.event]
        phase = before.phase if before else ""
        if phase not in phases or step.state.phase != (after or phase):
            return False
        self.steps += 1
        self.tries[key] = step.state
        return True


def _holds_record(line: bytes) -> bool:
    return unframed(line) is not None or unframed_at_end(line, b'{"step":') is not None
