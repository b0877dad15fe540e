"""What stands in the fields of structured replies, counted in bounded memory, a batch of rows at a time.

The work of a row is to put its values into lists, by field; lists are counted in C. Of a field with many values only
lengths, or what numbers come to, is kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import ceil, isfinite
from typing import Any

from rowmill.core.histograms import bucket_of, least_of
from rowmill.runs.report.document import FieldFacts, FieldsFacts, NumberFacts
from rowmill.runs.report.texts import cut, told

REPLY = "reply"  # the field that a reply is which is no object

_BATCH_ROWS = 4_096
_BATCH_BYTES = 8 << 20  # of rows that are held: those with images are megabytes each
_FIELDS = 300  # that are counted; those that come later are only told to be there
_SHOWN_FIELDS = 60
_DISTINCT = 4_096  # values of a field that are told apart
_SHOWN_VALUES = 20
_VALUE_CHARACTERS = 120  # of a value that is told apart; of longer texts only the length counts
_NUMBERS = 32_768  # of a field, from which quantiles are taken: evenly spread over all
_DEPTH = 3  # objects in objects that are told by their fields
_BUCKETS = 24
_LARGEST = 1e300  # of numbers that are added up; larger ones are passed over
_FEW = 12  # numbers: so many different ones are values, more are a distribution
_OFTEN = 4  # texts are values where each stands so often on average, or there are no more than
_ALWAYS = 20  # so many


class FieldCounts:
    """Counts the fields of rows one after the other."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._fields: dict[str, _FieldCount] = {}
        self._left_out: set[str] = set()
        self._pending = self._held = 0
        self.rows = 0

    def take(self, output: Any, size: int) -> None:
        """Count a row's answer, of about so many bytes."""
        columns = self._columns
        if isinstance(output, dict):
            for name, value in output.items():
                column = columns.get(name)
                if column is None:
                    column = columns[name] = []
                column.append(value)
        else:
            columns.setdefault(REPLY, []).append(output)
        self._pending += 1
        self._held += size
        if self._pending == _BATCH_ROWS or self._held > _BATCH_BYTES:
            self._count()

    def _count(self) -> None:
        self.rows += self._pending
        self._pending = self._held = 0
        columns, self._columns = self._columns, {}
        for name, values in columns.items():
            self._add(name, values, 1)

    def _add(self, name: str, values: list[Any], depth: int) -> None:
        objects = [value for value in values if isinstance(value, dict)] if depth < _DEPTH else []
        if objects:
            inner: dict[str, list[Any]] = {}
            for each in objects:
                for key, value in each.items():
                    inner.setdefault(f"{name}.{key}", []).append(value)
            for path, column in inner.items():
                self._add(path, column, depth + 1)
            if len(objects) == len(values):
                return
            values = [value for value in values if not isinstance(value, dict)]
        name = name[:_VALUE_CHARACTERS]
        field = self._fields.get(name)
        if field is None:
            if len(self._fields) >= _FIELDS:
                if len(self._left_out) < _DISTINCT:
                    self._left_out.add(name)
                return
            field = self._fields[name] = _FieldCount()
        field.take(values)

    def facts(self, of: int) -> FieldsFacts | None:
        """Return what was counted, of so many rows in all; None where there was nothing."""
        self._count()
        if not self._fields:
            return None
        shown = islice(self._fields.items(), _SHOWN_FIELDS)
        return FieldsFacts(
            looked_at=self.rows,
            of=max(of, self.rows),
            fields=[field.facts(cut(name, _VALUE_CHARACTERS)) for name, field in shown],
            more=max(0, len(self._fields) - _SHOWN_FIELDS) + len(self._left_out),
        )


class _FieldCount:
    """One field."""

    def __init__(self) -> None:
        self._rows = self._null = 0
        self._values: Counter[Any] | None = Counter()  # by type and value; None: too many
        self._texts = self._lists = self._flags = 0
        self._lengths: Counter[int] = Counter()  # by bucket, of texts and lists
        self._longest = 0
        self._shortest: int | None = None
        self._sum_of_lengths = 0
        self._numbers = _NumberSample()

    def take(self, values: list[Any]) -> None:
        self._rows += len(values)
        kinds = Counter(map(type, values))
        for kind in kinds:
            own: list[Any] = values if len(kinds) == 1 else [value for value in values if type(value) is kind]
            if kind is type(None):
                self._null += len(own)
            elif kind is str:
                self._texts += len(own)
                self._measure(own)
                self._tell(value if len(value) <= _VALUE_CHARACTERS else value[:_VALUE_CHARACTERS] for value in own)
            elif kind is bool:
                self._flags += len(own)
                self._tell("true" if value else "false" for value in own)
            elif kind in (int, float):
                self._numbers.take(own, whole=kind is int)
                self._tell(own)
            elif kind is list:
                self._lists += len(own)
                self._measure(own)
                self._tell(_members(own))
            else:
                self._texts += len(own)
                self._tell(told(value, _VALUE_CHARACTERS) for value in own)

    def _tell(self, values: Iterable[Any]) -> None:
        if self._values is not None:
            self._values.update(values)
            if len(self._values) > _DISTINCT:
                self._values = None

    def _measure(self, values: list[Any]) -> None:
        for length, count in Counter(map(len, values)).items():
            self._lengths[bucket_of(length)] += count
            self._longest = max(self._longest, length)
            self._shortest = length if self._shortest is None else min(self._shortest, length)
            self._sum_of_lengths += length * count

    @property
    def _kind(self) -> str:
        distinct = len(self._values) if self._values is not None else None
        others = self._texts + self._lists + self._flags
        if self._numbers.count and others:
            return "mixed"
        if self._numbers.count:
            return "values" if distinct is not None and distinct <= _FEW else "numbers"
        if distinct is None:
            return "texts"
        often = distinct <= _ALWAYS or sum(self._values.values()) >= _OFTEN * distinct if self._values else True
        return "values" if often else "texts"

    def facts(self, name: str) -> FieldFacts:
        kind = self._kind
        found = self._values.most_common(_SHOWN_VALUES) if self._values is not None and kind != "texts" else []
        return FieldFacts(
            name=name,
            kind=kind,
            rows=self._rows,
            null=self._null,
            values=[(told(value, _VALUE_CHARACTERS), count) for value, count in found],
            distinct=None if self._values is None else len(self._values),
            more=0 if self._values is None else sum(self._values.values()) - sum(count for _, count in found),
            numbers=self._numbers.facts(),
            lengths=self._length_facts(),
        )

    def _length_facts(self) -> NumberFacts | None:
        count = sum(self._lengths.values())
        if not count or self._shortest is None:
            return None

        def at(part: float) -> float:
            seen = 0
            for bucket in sorted(self._lengths):
                seen += self._lengths[bucket]
                if seen >= part * count:
                    return float(min(self._longest, least_of(bucket)))
            return float(self._longest)

        spread = [(least_of(bucket), self._lengths[bucket]) for bucket in sorted(self._lengths)]
        return NumberFacts(
            count=count,
            min=float(self._shortest),
            p25=at(0.25),
            median=at(0.5),
            p75=at(0.75),
            max=float(self._longest),
            mean=round(self._sum_of_lengths / count, 3),
            buckets=_evenly(spread, float(self._shortest), float(self._longest), whole=True),
        )


class _NumberSample:
    """Numbers: what they come to, and some of them from all over."""

    def __init__(self) -> None:
        self.count = 0
        self._whole = True  # there is no fraction among them
        self._sum = 0.0
        self._min = self._max = 0.0
        self._kept: list[float] = []
        self._step = 1  # every so many-th is kept

    def take(self, values: list[Any], *, whole: bool) -> None:
        self._whole = self._whole and whole
        finite = [float(value) for value in values if -_LARGEST < value < _LARGEST]
        if not finite:
            return
        low, high = min(finite), max(finite)
        self._min, self._max = (min(self._min, low), max(self._max, high)) if self.count else (low, high)
        self._kept += finite[(-self.count) % self._step :: self._step]
        self.count += len(finite)
        self._sum += sum(finite)
        while len(self._kept) > _NUMBERS:
            del self._kept[1::2]
            self._step *= 2

    def facts(self) -> NumberFacts | None:
        if not self.count:
            return None
        ordered = sorted(self._kept)

        def at(part: float) -> float:
            return _short(ordered[min(len(ordered) - 1, int(part * len(ordered)))])

        mean = self._sum / self.count
        share = self.count / len(ordered)
        stretches = _evenly(((each, 1) for each in ordered), self._min, self._max, whole=self._whole)
        return NumberFacts(
            count=self.count,
            min=_short(self._min),
            p25=at(0.25),
            median=at(0.5),
            p75=at(0.75),
            max=_short(self._max),
            mean=_short(mean if isfinite(mean) else 0.0),
            buckets=[(low, high, round(count * share)) for low, high, count in stretches],
        )


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _evenly(
    values: Iterable[tuple[float, int]], low: float, high: float, *, whole: bool
) -> list[tuple[float, float, int]]:
    """Return how many values lie in each of some stretches of equal width, from the least to the largest.

    whole: they are whole numbers, and so are the edges: else one stretch had three of them and the next one four.
    """
    width = ceil((high - low + 1) / _BUCKETS) if whole else (high - low) / _BUCKETS
    stretches = min(_BUCKETS, int((high - low) // width) + 1) if width > 0 else 1
    if stretches == 1:
        return [(low, high, sum(count for _, count in values))]
    counts = [0] * stretches
    for value, count in values:
        counts[max(0, min(stretches - 1, int((value - low) / width)))] += count
    return [
        (_short(low + place * width), _short(low + (place + 1) * width), count) for place, count in enumerate(counts)
    ]


def _members(lists: Iterable[list[Any]]) -> Iterator[Any]:
    for members in lists:
        for member in members:
            if isinstance(member, str):
                yield member[:_VALUE_CHARACTERS]
            elif isinstance(member, int | float) and not isinstance(member, bool):
                yield member
            elif isinstance(member, Mapping | list):
                continue  # what stands in it would be told as one long text
            else:
                yield told(member, _VALUE_CHARACTERS)
