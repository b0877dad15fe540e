"""Two runs side by side, as text for a terminal."""

import difflib
from collections.abc import Iterator

from rowmill.core.plain_text import clipped, one_line, stripped
from rowmill.interface.ui import arranged, figures
from rowmill.interface.ui.cells import Style, filled, painted
from rowmill.runs.answered import Line
from rowmill.runs.comparing import Agreement, Compared, Side, alike, words_of

_SECOND_MS = 1000.0
_QUANTILES = ("p50", "p90", "p99")
_LEAST = 20  # columns of a text, however narrow the terminal is
_AROUND = 6  # words that are the same, beside those that differ
_WORDS = 400  # of a text that are held against the other's: a diff takes the square of them
_FIELDS = 40


def compared_text(compared: Compared, width: int = 0, *, colour: bool = False) -> str:
    """Return what each of them took, how far they agree, and the first rows in which they differ.

    width: of the terminal; 0 where there is none.
    """
    return "\n".join(_lines(compared, width, colour=colour))


def _lines(compared: Compared, width: int, *, colour: bool) -> Iterator[str]:
    for name, side in zip("AB", compared.sides, strict=True):
        yield arranged.line(name, one_line(side.run_dir))
    yield ""
    sides = [_figures(side) for side in compared.sides]
    rows = [["", "A", "B"], *([name, *(each[name] for each in sides)] for name in sides[0])]
    yield from ("  ".join(["", *cells]).rstrip() for cells in arranged.columns(rows, right=(1, 2)))
    yield ""
    agreed = f"{_of(compared.whole)} of the rows that both have answered"
    before = arranged.line("answers", "")
    for line in filled([(word, None) for word in agreed.split()], _room(width, before), colour=False):
        yield before + line
        before = " " * len(before)
    for name, agreement in sorted(compared.fields.items())[:_FIELDS]:
        yield arranged.line("", f"{one_line(clipped(name))}: {_of(agreement)}")
    if (more := len(compared.fields) - _FIELDS) > 0:
        yield arranged.line("", f"and {more:,} more fields: --json has them all")
    for name, count in zip("AB", compared.only, strict=True):
        if count:
            yield arranged.line("", f"{count:,} rows have an outcome in {name} alone")
    for one, other in compared.differing:
        yield ""
        yield from _difference(one, other, width, colour=colour)


def _figures(side: Side) -> dict[str, str]:
    return {
        "rows": f"{side.rows:,}",
        "failed": f"{side.failed:,}",
        "cost": "-" if side.usd is None else figures.money(side.usd),
        "tokens in + out": f"{figures.compact(side.prompt_tokens)} + {figures.compact(side.completion_tokens)}",
        **{f"latency {name}": _time(side.latency_ms.get(name)) for name in _QUANTILES},
    }


def _time(ms: float | None) -> str:
    if ms is None:
        return "-"
    return f"{ms:.0f} ms" if ms < _SECOND_MS else figures.duration(ms / _SECOND_MS)


def _of(agreement: Agreement) -> str:
    return f"{agreement.same:,} of {agreement.both:,} the same ({figures.share(agreement.same, agreement.both)})"


def _difference(one: Line, other: Line, width: int, *, colour: bool) -> Iterator[str]:
    """Yield what differs, word by word; of long stretches that do not, the words at their ends."""
    name = "" if one.get("id") in (None, one["index"]) else f"  id {one_line(str(one['id']))}"
    yield painted(f"row {one['index']}", "bold", colour=colour) + name
    left, right = (list(words_of(line)) for line in (one, other))
    same = alike(left, right)
    begin = same - _AROUND if same > _WORDS // 2 else 0
    more = [max(0, len(words) - begin - _WORDS) for words in (left, right)]
    left, right = (words[begin : begin + _WORDS] for words in (left, right))
    shown_left, shown_right = ([stripped(clipped(word)) for word in words] for words in (left, right))
    a: list[tuple[str, Style | None]] = [("...", None)] if begin else []
    b = [*a]
    for kind, at, end, at_b, end_b in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        words = shown_left[at:end]
        if kind == "equal":
            ends = words if len(words) <= 2 * _AROUND else [*words[:_AROUND], "...", *words[-_AROUND:]]
            a += ((word, None) for word in ends)
            b += ((word, None) for word in ends)
        else:
            a += ((word, "red") for word in _marked(words))
            b += ((word, "green") for word in _marked(shown_right[at_b:end_b]))
    for side, pieces, rest in zip("AB", (a, b), more, strict=True):
        if rest:
            pieces.extend((word, None) for word in ("...", "and", f"{rest:,}", "more", "words"))
        before = f"  {side}  "
        for line in filled(pieces, _room(width, before), colour=colour):
            yield (before + line).rstrip()
            before = " " * len(before)


def _room(width: int, before: str) -> int:
    """Return the columns that a text has behind others; 0 where there is no terminal."""
    return max(width - len(before), _LEAST) if width else 0


def _marked(words: list[str]) -> list[str]:
    """Put a stretch of words into brackets."""
    if not words:
        return []
    marked = [*words]
    marked[0] = f"[{marked[0]}"
    marked[-1] = f"{marked[-1]}]"
    return marked
