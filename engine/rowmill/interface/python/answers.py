"""What a call gives back: a result for each row, and what all of them cost, on whatever holds the rows."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from rowmill.core.errors import InputError
from rowmill.core.reports import RunReport
from rowmill.interface.ui.report import summary

T = TypeVar("T")

_CLOSED = {"duckdb", "duckdb._relation", "_duckdb"}  # libraries whose tables take no attribute:
_BESIDE: MutableMapping[Any, "Report | None"] = WeakKeyDictionary()  # their reports, as long as they live
ATTRIBUTE = "rowmill"  # of a table's `attrs`, or of its schema's metadata: where the report is


class RowError(msgspec.Struct, frozen=True):
    """Why a row has no output."""

    fault: str = msgspec.field(name="class")  # as in the errors file: "context_length", "invalid_output", ...
    message: str = ""
    code: str | None = None
    status: int | None = None
    param: str | None = None  # what of the request the provider names
    reply: str | None = None  # the last one, where there was one that was no answer

    def __str__(self) -> str:
        """Return "class: message"."""
        return f"{self.fault}: {self.message}"


class Result(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One row's end: an output, or the error in its place."""

    index: int  # place of its row, from 0
    id: Any = None
    output: T | None = None  # a text; with a schema the object, or the instance; of embeddings a float32 array of numpy
    error: RowError | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None  # tokens, as the server counted them
    # What `include` names of the reply; None where there is none, or nobody asked for it.
    reasoning: str | None = None
    tool_calls: Any = None
    logprobs: Any = None
    choices: Any = None
    message: Any = None
    meta: dict[str, Any] | None = None  # who answered, after how many requests: where `cost` was asked for
    cost: float | None = None  # dollars for its reply, where a price is known; what came before it is in the report

    def __repr__(self) -> str:
        """Return which row it is and what came of it."""
        end = f"error={str(self.error)!r}" if self.error is not None else f"output={self.output!r}"
        return f"Result(index={self.index}, {end})"


class Report(RunReport, frozen=True, kw_only=True):
    """What came of a finished run. Its text is the summary that `rowmill run` prints.

    `output` and `errors` are the paths of the files, `errors` None where no row failed; `totals`, `failures`, `cost`
    and `sessions` are the figures of `report.json`.
    """

    @classmethod
    def of(cls, report: RunReport) -> "Report":
        """Make one of a run's report."""
        return cls(**{name: getattr(report, name) for name in RunReport.__struct_fields__})

    @property
    def ok(self) -> bool:
        """Whether every row has a result."""
        return self.finished and not self.totals.failed

    @property
    def usd(self) -> float | None:
        """Dollars that the run cost, all its sessions together; None where the price of anything is unknown."""
        return None if self.cost is None else self.cost.usd

    def __repr__(self) -> str:
        """Return the summary."""
        return summary(self, self.sessions[-1])


class ResultList(list[Result[T]]):
    """The results of all rows, in their order. `report` says what they cost; None where no row was asked."""

    def __init__(self, results: Iterable[Result[T]] = (), report: Report | None = None) -> None:
        super().__init__(results)
        self.report = report

    @property
    def outputs(self) -> list[T | None]:
        """The outputs alone, None for a row that failed."""
        return [result.output for result in self]

    @property
    def failed(self) -> list[Result[T]]:
        """The results of the rows that failed."""
        return [result for result in self if result.error is not None]


def as_plain(report: Report) -> dict[str, Any]:
    """Return the report as dicts and lists, as a table's `attrs` can be written to a file with it."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain


def report_of(result: Any) -> Report | None:
    """Return what a `rowmill.map` cost, and how it went, from what it gave back: a list or any kind of table.

    None where no row was asked. Raises `InputError` for what no `rowmill.map` gave back; a table loses its report where
    its library makes another table of it.
    """
    if isinstance(result, ResultList):
        return result.report
    if type(result).__module__ in _CLOSED and result in _BESIDE:
        return _BESIDE[result]
    attrs = getattr(result, "attrs", None)
    if isinstance(attrs, dict) and ATTRIBUTE in attrs:
        return None if attrs[ATTRIBUTE] is None else msgspec.convert(attrs[ATTRIBUTE], Report)
    metadata = getattr(getattr(result, "schema", None), "metadata", None)
    if isinstance(metadata, dict) and (found := metadata.get(ATTRIBUTE.encode())) is not None:
        return msgspec.json.decode(found, type=Report | None)
    raise InputError(f"rowmill.report_of: this {type(result).__name__} has no report of rowmill.map with it")


def with_report(table: Any, report: Report | None) -> Any:
    """Return the table with the report in its `attrs`, or in the metadata of its schema."""
    kind = type(table)
    if kind.__module__.partition(".")[0] == "pyarrow":
        metadata = {**(table.schema.metadata or {}), ATTRIBUTE: msgspec.json.encode(report)}
        return table.replace_schema_metadata(metadata)
    plain = None if report is None else as_plain(report)
    try:
        attrs = getattr(table, "attrs", None)
        table.attrs = {**(attrs if isinstance(attrs, dict) else {}), ATTRIBUTE: plain}
    except AttributeError:
        _BESIDE[table] = report
    return table
