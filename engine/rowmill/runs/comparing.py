"""Two runs or trials held against each other, row by row: what agrees, what differs, and what each has taken."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.histograms import Distributions, quantile
from rowmill.core.reports import report_at
from rowmill.runs.answered import Choice, Line, answered
from rowmill.store import series
from rowmill.store.run_directory import RunDirectory

Pair = tuple[Line | None, Line | None]  # of the first run and of the second


class _OtherRowsError(Exception):
    """Rows of the same number are not the same rows."""


class Side(msgspec.Struct, kw_only=True):
    """One of the two."""

    run_dir: str
    rows: int = 0  # with an outcome
    failed: int = 0
    usd: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_ms: dict[str, float | None] = {}  # "p50", "p90", "p99" of its replies


class Agreement(msgspec.Struct):
    """Of one field of the answers, or of the whole: in how many rows it is there on both sides, and the same."""

    both: int = 0
    same: int = 0


class Compared(msgspec.Struct, kw_only=True):
    """What two runs come to.

    common: rows that have an answer on both sides. whole: how many of these answers are the same. fields: of answers
    that are objects. differ: rows whose answers or failures differ; differing: the first of them, both lines of each.
    """

    sides: tuple[Side, Side]
    common: int = 0
    whole: Agreement = msgspec.field(default_factory=Agreement)
    fields: dict[str, Agreement] = msgspec.field(default_factory=dict)
    only: tuple[int, int] = (0, 0)  # rows with an outcome on one side alone
    differ: int = 0
    differing: list[tuple[Line, Line]] = msgspec.field(default_factory=list)


def compare(first: Path, second: Path, *, most: int) -> Compared:
    """Compare the runs in two directories. most: differing rows that are kept.

    Rows are paired by their numbers where their ids say that they are the same; else by their ids, as those of trials
    of other rows, which takes both into memory. Raises `RunDirectoryError` as `answered` does.
    """
    try:
        return _compared(first, second, _by_number(first, second), most)
    except _OtherRowsError:
        return _compared(first, second, _by_id(first, second), most)


def _compared(first: Path, second: Path, pairs: Iterable[Pair], most: int) -> Compared:
    compared = Compared(sides=(_side(first), _side(second)))
    only = [0, 0]
    for one, other in pairs:
        if one is not None and other is not None:
            _take(compared, one, other, most)
        else:
            only[one is None] += 1
    compared.only = (only[0], only[1])
    return compared


def _by_number(first: Path, second: Path) -> Iterator[Pair]:
    """Pair two runs of the same rows, as both are read. Raises `_OtherRowsError` where they are of others."""
    left, right = answered(first, Choice()), answered(second, Choice())
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one["index"] < other["index"]):
            yield one, None
            one = next(left, None)
        elif one is None or other["index"] < one["index"]:
            yield None, other
            other = next(right, None)
        else:
            if one.get("id") != other.get("id"):
                raise _OtherRowsError
            yield one, other
            one, other = next(left, None), next(right, None)


def _by_id(first: Path, second: Path) -> Iterator[Pair]:
    left, right = ({_key(line.get("id")): line for line in answered(path, Choice())} for path in (first, second))
    for key, line in left.items():
        yield line, right.pop(key, None)
    yield from ((None, line) for line in right.values())


def _key(value: Any) -> Any:
    return value if isinstance(value, str | int) else msgspec.json.encode(value)


def _take(compared: Compared, one: Line, other: Line, most: int) -> None:
    failed = [line.get("error") is not None for line in (one, other)]
    if not any(failed):
        compared.common += 1
        _count(compared.whole, one.get("output"), other.get("output"))
        for name in _names(one) & _names(other):
            _count(compared.fields.setdefault(name, Agreement()), one["output"][name], other["output"][name])
    differs = failed[0] != failed[1] or (not any(failed) and one.get("output") != other.get("output"))
    compared.differ += differs
    if differs and len(compared.differing) < most:
        compared.differing.append((one, other))


def _count(agreement: Agreement, one: Any, other: Any) -> None:
    agreement.both += 1
    agreement.same += one == other


def _names(line: Line) -> set[str]:
    output = line.get("output")
    return set(output) if isinstance(output, dict) else set()


def _side(path: Path) -> Side:
    directory = RunDirectory(path)
    side = Side(run_dir=str(path))
    report = report_at(directory.report)
    if report is not None:
        side.rows, side.failed = report.totals.rows, report.totals.failed
        side.prompt_tokens, side.completion_tokens = report.totals.prompt_tokens, report.totals.completion_tokens
        side.usd = None if report.cost is None else report.cost.usd
    try:
        spread = Distributions.total(moment.spread for moment in series.read(directory.series))
    except OSError:
        return side
    side.latency_ms = {f"p{part}": quantile(spread.latency_ms, part / 100) for part in (50, 90, 99)}
    return side


def alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many of the first words, or characters, are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def words_of(line: Line) -> Iterator[str]:
    """Yield the words of what a row came to, for a diff."""
    error = line.get("error")
    value = f"failed: {error.get('class')}" if isinstance(error, dict) else line.get("output")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    yield from text.split()
