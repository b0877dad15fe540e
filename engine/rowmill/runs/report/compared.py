"""Two runs held against each other, as one document that a page draws. Bounded as a run's report is."""

import re
import time
from difflib import SequenceMatcher
from typing import Literal

import msgspec

from rowmill.core.version import __version__
from rowmill.runs.answered import Line
from rowmill.runs.comparing import Compared, Side, alike
from rowmill.runs.report.texts import cut, told

DIFFERING = 50  # rows that are shown
_FIELDS = 60
_NAME, _PATH, _TEXT = 120, 1_000, 2_000  # characters
_BEFORE = 200  # of them that are alike, before the first ones that are not
_LONGEST = 1 << 20  # of an answer that is no text, as JSON
_WORD = re.compile(r"(?:\d+\.\d+|\w+|[^\w\s])\s*|\s+")

Piece = tuple[Literal["same", "first", "second"], str]


class SideFacts(msgspec.Struct, kw_only=True):
    """What one of the two runs took."""

    run_dir: str
    rows: int
    failed: int
    usd: float | None
    prompt_tokens: int
    completion_tokens: int
    latency_ms: dict[str, float | None]  # "p50", "p90", "p99" of its replies


class AgreementFacts(msgspec.Struct, kw_only=True):
    """How far the answers agree in a field."""

    name: str
    both: int  # rows that have it on both sides
    same: int


class DifferingRow(msgspec.Struct, kw_only=True):
    """A row that came to something else on either side."""

    index: int
    id: str | None
    failed: tuple[bool, bool]
    diff: list[Piece]  # those that are not of the second give the first text, one behind the other; and the other way


class ComparedDocument(msgspec.Struct, kw_only=True):
    """The whole document."""

    kind: str = "compare"
    rowmill_version: str
    made_at: float  # seconds since 1970
    live: bool = False
    sides: tuple[SideFacts, SideFacts]
    common: int  # rows that have an answer on both sides
    whole: AgreementFacts  # of the answers as they are
    fields: list[AgreementFacts]
    more_fields: int
    only: tuple[int, int]  # rows with an outcome on one side alone
    differing: list[DifferingRow]
    more_differing: int


def compared_document(compared: Compared) -> ComparedDocument:
    """Return the document of what two runs come to."""
    fields = sorted(compared.fields.items())
    first, second = map(_side, compared.sides)
    shown = compared.differing[:DIFFERING]
    return ComparedDocument(
        rowmill_version=__version__,
        made_at=round(time.time(), 3),
        sides=(first, second),
        common=compared.common,
        whole=AgreementFacts(name="", both=compared.whole.both, same=compared.whole.same),
        fields=[
            AgreementFacts(name=cut(name, _NAME), both=each.both, same=each.same) for name, each in fields[:_FIELDS]
        ],
        more_fields=max(0, len(fields) - _FIELDS),
        only=compared.only,
        differing=[_differing(one, other) for one, other in shown],
        more_differing=max(0, compared.differ - len(shown)),
    )


def _side(side: Side) -> SideFacts:
    return SideFacts(
        run_dir=cut(side.run_dir, _PATH),
        rows=side.rows,
        failed=side.failed,
        usd=side.usd,
        prompt_tokens=side.prompt_tokens,
        completion_tokens=side.completion_tokens,
        latency_ms=side.latency_ms,
    )


def _differing(one: Line, other: Line) -> DifferingRow:
    index = one.get("index")
    failed = (_has_failed(one), _has_failed(other))
    left, right = _where_they_differ(_text(one), _text(other))
    diff: list[Piece] = [("first", left), ("second", right)]
    return DifferingRow(
        index=index if isinstance(index, int) else -1,
        id=None if one.get("id") in (None, index) else told(one["id"], _NAME),
        failed=failed,
        diff=word_diff(left, right) if failed == (False, False) else diff,
    )


def _has_failed(line: Line) -> bool:
    return line.get("error") is not None


def _text(line: Line) -> str:
    error = line.get("error")
    if isinstance(error, dict):
        return f"{told(error.get('class') or '', _NAME)}: {told(error.get('message') or '', _TEXT)}"
    output = line.get("output")
    return output if isinstance(output, str) else told(output, _LONGEST)


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Return the texts from their beginnings, or from shortly before they differ, as far as they are shown."""
    same = alike(one, other)
    if same <= _TEXT // 2:
        return cut(one, _TEXT), cut(other, _TEXT)
    begin = same - _BEFORE
    return cut(f"…{one[begin:]}", _TEXT), cut(f"…{other[begin:]}", _TEXT)


def word_diff(one: str, other: str) -> list[Piece]:
    """Return what two texts have in common and what is of one alone, word by word, in their order."""
    left, right = _WORD.findall(one), _WORD.findall(other)
    pieces: list[Piece] = []
    for kind, begin, end, begin_b, end_b in SequenceMatcher(None, left, right).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(left[begin:end])))
            continue
        if end > begin:
            pieces.append(("first", "".join(left[begin:end])))
        if end_b > begin_b:
            pieces.append(("second", "".join(right[begin_b:end_b])))
    return pieces
