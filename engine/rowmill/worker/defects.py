"""What no code foresaw for one row ends as that row's failure: a worker's death would pay for all in flight again.

Any exception that building, judging or recording a row raises, and that is not what the machine or the run is told by
(`RowmillError`), is a defect of this program that this row has met. The row fails with the place; the log has the way
to it, once for each place. Where row after row meets the same, the streak of one error stops the run.
"""

import traceback
from collections.abc import Callable
from pathlib import Path

from rowmill.core.errors import DefectError, RowmillError
from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.transport.foreign_words import cleaned

_CHARACTERS = 200
_FRAMES = 12
_STREAK = 100


class Defects:
    """The defects that the rows of one worker have met.

    tell: is given each place once, with the calls that led there.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._told: set[str] = set()

    def failure(self, error: Exception, row: int, *, status: int | None = None, sent: bool = False) -> Failure:
        """Return the failure of the row that has met this; raises what is of the run, not of a row.

        `sent`: a request of the row has been sent, and may be billed.
        """
        failure = defect(error, status=status, sent=sent)
        if failure.code not in self._told:
            self._told.add(failure.code or "")
            self.tell(f"row {row}: {failure.message}; by way of {_way(error)}")
        return failure


class SameDefect:
    """How many rows, one after the other, have met one defect: of the worker of batches, which closes no provider."""

    def __init__(self) -> None:
        self._code: str | None = None
        self._rows = 0

    def fine(self) -> None:
        """Hear of a row that has met none."""
        self._rows = 0

    def failed(self, failure: Failure) -> None:
        """Hear why a row has failed. Raises `DefectError` where so many have met the same that all others would."""
        if failure.fault is not faults.INTERNAL_ERROR:
            return
        self._rows = self._rows + 1 if failure.code == self._code else 1
        self._code = failure.code
        if self._rows >= _STREAK:
            raise DefectError(f"the same error on {self._rows} rows, one after the other: {failure.message}")


def defect(error: Exception, *, status: int | None = None, sent: bool = False) -> Failure:
    """Return what a row fails with that has met a defect; raises what is of the run, not of a row."""
    if isinstance(error, RowmillError):
        raise error
    place = _place(error)
    text = cleaned(str(error), ())[:_CHARACTERS]
    return Failure(
        fault=faults.INTERNAL_ERROR,
        message=f"a defect of this program, met by this row: {type(error).__name__} at {place}: {text}",
        code=f"{type(error).__name__} at {place}",
        status=status,
        maybe_billed=sent,
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return _named(frames[-1]) if frames else "an unknown place"


def _way(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    left = [*frames[: _FRAMES // 2], *frames[-_FRAMES // 2 :]] if len(frames) > _FRAMES else frames
    return " > ".join(map(_named, left))


def _named(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
