"""Screens of a terminal as one SVG that shows them after one another, without a script or a font of its own.

Each screen is a group that is visible for its time and hidden for the rest of the round, by CSS alone: a page that
shows the file as an image runs no scripts. Where nothing moves (a reader who wants no motion, a program that knows no
CSS animation) the last one stands there.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from scripts.recording.terminal import Run, Screen

_CELL, _LINE, _FONT = 8.4, 19, 14  # pixels: what a column and a line take of a monospaced font of that size
_FAMILIES = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_MARGIN = 16
_BARS = {"━": 4, "─": 1}  # drawn as lines that thick: fonts leave gaps between the characters
# A dark terminal, on light pages and on dark ones: colours of at least 4.5 to 1 on it, and a border that both show.
_GROUND, _BORDER, _TEXT = "#0d1117", "#444c56", "#e6edf3"
_COLOURS = {"green": "#3fb950", "red": "#ff7b72", "brown": "#d29922", "brightblack": "#8b949e"}


class Frame(NamedTuple):
    """A screen, and for how long it is shown."""

    screen: Screen
    seconds: float


def animation(frames: Sequence[Frame], title: str) -> str:
    """Return the SVG of these screens, which all have the same size; `title` is what a screen reader says of it."""
    lines = max(len(_filled(frame.screen)) for frame in frames)
    columns = max(run.column + len(run.text) for frame in frames for line in frame.screen.lines for run in line)
    width, height = round(columns * _CELL + 2 * _MARGIN), lines * _LINE + 2 * _MARGIN
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} viewBox="0 0 {width} {height}">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_style(frames)}\n</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{_GROUND}" stroke="{_BORDER}"/>',
        *(part for number, frame in enumerate(frames) for part in _group(number, frame.screen)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _filled(screen: Screen) -> Sequence[Sequence[Run]]:
    """Return the lines down to the last one that has something, or the cursor."""
    last = max((number for number, line in enumerate(screen.lines) if line), default=0)
    return screen.lines[: max(last, screen.cursor[1]) + 1]


def _style(frames: Sequence[Frame]) -> str:
    """Return how all is drawn, and when each frame is shown."""
    whole = sum(frame.seconds for frame in frames)
    rules = [
        f"text{{font:{_FONT}px {_FAMILIES};fill:{_TEXT};white-space:pre}}",
        *(f".{name}{{fill:{colour}}}" for name, colour in _COLOURS.items()),
        ".b{font-weight:bold}",
        f".f{{visibility:hidden;animation:{whole:g}s step-end infinite}}",
        f"#f{len(frames) - 1}{{visibility:visible}}",
    ]
    begin = 0.0
    for number, frame in enumerate(frames):
        end = begin + frame.seconds
        hidden = "0%{visibility:hidden}" if begin else ""
        after = f"{end / whole:.3%}{{visibility:hidden}}" if number + 1 < len(frames) else ""
        rules.append(f"#f{number}{{animation-name:k{number}}}")
        rules.append(f"@keyframes k{number}{{{hidden}{begin / whole:.3%}{{visibility:visible}}{after}}}")
        begin = end
    rules.append("@media (prefers-reduced-motion:reduce){.f{animation:none}}")
    return "\n".join(rules)


def _group(number: int, screen: Screen) -> Iterator[str]:
    yield f'<g class="f" id="f{number}">'
    for place, line in enumerate(screen.lines):
        top = _MARGIN + place * _LINE
        written = [run for run in line if run.text[0] not in _BARS]
        for run in line:
            if run.text[0] in _BARS:
                thick = _BARS[run.text[0]]
                yield (
                    f'<rect x="{_left(run.column)}" y="{top + (_LINE - thick) / 2:g}" width="{_wide(run.text)}"'
                    f' height="{thick}" class="{run.colour}"/>'
                )
        if any(run.text.strip() for run in written):
            spans = "".join(_span(run) for run in written)
            yield f'<text y="{top + _FONT}">{spans}</text>'
    column, line_of_cursor = screen.cursor
    yield (
        f'<rect x="{_left(column)}" y="{_MARGIN + line_of_cursor * _LINE}" width="{_CELL}" height="{_LINE - 2}"'
        f' fill="{_TEXT}" opacity=".6"/>'
    )
    yield "</g>"


def _span(run: Run) -> str:
    looks = [run.colour] * (run.colour in _COLOURS) + ["b"] * run.bold
    classes = f' class="{" ".join(looks)}"' if looks else ""
    return f'<tspan x="{_left(run.column)}" textLength="{_wide(run.text)}"{classes}>{escape(run.text)}</tspan>'


def _left(column: int) -> str:
    return f"{_MARGIN + column * _CELL:g}"


def _wide(text: str) -> str:
    return f"{len(text) * _CELL:g}"
