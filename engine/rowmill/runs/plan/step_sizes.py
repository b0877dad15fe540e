"""What later steps of a run ask before anything is answered: rows with texts of a likely length as the answers."""

from collections.abc import Iterable, Sequence

import msgspec

from rowmill.core.config.sections import StepConfig
from rowmill.core.config.steps import columns_of
from rowmill.core.plan import Range, Tokens, TrialFigures
from rowmill.core.wire import Request
from rowmill.tasks import Task
from rowmill.tasks.wrapper import TaskWrapper

_ROW = b"}"
_SPREAD = (0.8, 1.25)  # of what a trial has measured, for all rows


class AnsweredTask(TaskWrapper):
    """The task of a step, on rows of the input as the steps before may answer them."""

    def __init__(self, inner: Task, before: Sequence[tuple[StepConfig, int]]) -> None:
        """`before`: those steps, each with the characters of an answer."""
        super().__init__(inner)
        self.rows_per_request = inner.rows_per_request
        self.pack = inner.pack
        self.columns = None if before else inner.columns
        self._build = inner.build
        columns: dict[str, str] = {}
        for step, characters in before:
            names = columns_of(step)
            columns |= dict.fromkeys(names, "x" * (characters // len(names)))
        self._more = msgspec.json.encode(columns)[1:] if columns else b""
        self.build = self._build_answered
        self.parse, self.unpack, self.again, self.asking = inner.parse, inner.unpack, inner.again, inner.asking

    def _build_answered(self, line: bytes) -> Request:
        row = line.rstrip()
        if not self._more or not row.endswith(_ROW):
            return self._build(line)
        start = row[: -len(_ROW)].rstrip()
        return self._build(b"%b%b%b" % (start, b"" if start.endswith(b"{") else b",", self._more))


def total(ranges: Iterable[Range]) -> Range:
    """Return the sum of all."""
    return sum(ranges, Range(0.0, 0.0, 0.0))


def scaled(trial: TrialFigures, rows: int) -> tuple[Tokens, Range | None]:
    """Return what so many rows take and cost if they are as those of a trial."""
    low, high = _SPREAD
    factor = rows / max(1, trial.rows)

    def of(amount: float) -> Range:
        return Range(amount * factor * low, amount * factor, amount * factor * high)

    by = f"measured on {trial.rows:,} rows"
    tokens = Tokens(
        prompt=of(trial.prompt_tokens), reply=of(trial.completion_tokens), prompt_by=by, reply_by=by, measured=True
    )
    return tokens, None if trial.usd is None else of(trial.usd)
