"""Two runs side by side, as text for a terminal."""

import difflib
from collections.abc import Iterator

from rowmill.core.plain_text import one_line, stripped
from rowmill.interface.ui import arranged, figures
from rowmill.runs.answered import Line
from rowmill.runs.comparing import Agreement, Compared, Side, words_of

_SECOND_MS = 1000.0
_AROUND = 6  # words that are the same, beside those that differ


def compared_text(compared: Compared) -> str:
    """Return what each of them took, how far they agree, and the first rows in which they differ."""
    return "\n".join(_lines(compared))


def _lines(compared: Compared) -> Iterator[str]:
    sides = [_figures(side) for side in compared.sides]
    rows = [["", "A", "B"], *([name, *(each[name] for each in sides)] for name in sides[0])]
    yield from ("  ".join(cells).rstrip() for cells in arranged.columns(rows, right=(1, 2)))
    yield ""
    yield arranged.line("answers", f"{_of(compared.whole)} of the rows that both have answered")
    for name, agreement in sorted(compared.fields.items()):
        yield arranged.line("", f"{one_line(name)}: {_of(agreement)}")
    for side, count in zip("AB", compared.only, strict=True):
        if count:
            yield arranged.line("", f"{count:,} rows have an outcome in {side} alone")
    for one, other in compared.differing:
        yield ""
        yield from _difference(one, other)


def _figures(side: Side) -> dict[str, str]:
    latency = " / ".join("-" if ms is None else _time(ms) for ms in side.latency_ms.values())
    return {
        "run": one_line(side.run_dir),
        "rows": f"{side.rows:,}",
        "failed": f"{side.failed:,}",
        "cost": "-" if side.usd is None else figures.money(side.usd),
        "tokens": f"{figures.compact(side.prompt_tokens)}+{figures.compact(side.completion_tokens)}",
        "latency p50 / p90 / p99": latency or "-",
    }


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < _SECOND_MS else figures.duration(ms / _SECOND_MS)


def _of(agreement: Agreement) -> str:
    return f"{agreement.same:,} of {agreement.both:,} the same ({figures.share(agreement.same, agreement.both)})"


def _difference(one: Line, other: Line) -> Iterator[str]:
    """Yield what differs, word by word; of long stretches that do not, the words at their ends."""
    name = "" if one.get("id") in (None, one["index"]) else f"  id {one_line(str(one['id']))}"
    yield f"row {one['index']}{name}"
    left, right = ([stripped(word) for word in words_of(line)] for line in (one, other))
    a, b = [], []
    for kind, begin, end, begin_b, end_b in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        words = left[begin:end]
        if kind == "equal":
            same = words if len(words) <= 2 * _AROUND else [*words[:_AROUND], "...", *words[-_AROUND:]]
            a += same
            b += same
        else:
            a += [f"[{' '.join(words)}]"] if words else []
            b += [f"[{' '.join(right[begin_b:end_b])}]"] if end_b > begin_b else []
    yield f"  A  {' '.join(a)}"
    yield f"  B  {' '.join(b)}"
