"""The recorded run of the README: an image that is whole and small, and shows what the command says today."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, Totals
from rowmill.core.errors import ExitCode
from rowmill.core.reports import Cost, RunReport, SessionReport, Snapshot
from rowmill.interface.ui.live import Frame as Display
from rowmill.interface.ui.report import of_config, summary
from scripts.recording import __main__ as recording
from scripts.recording import drawing
from scripts.recording.drawing import Frame, animation
from scripts.recording.terminal import Run, Screen, Terminal
from tests.interface.ui.snapshots import BUSY

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
RECORDED = recording.FILE.read_text(encoding="utf-8")
LEAST_FRAMES, MOST_BYTES = 10, 150_000

BEFORE = msgspec.structs.replace(
    BUSY,
    waiting=3,
    next_due_s=0.4,
    counters=Counters(requests=12_490, retries=12, faults={"server_error": 4, "connection": 2}),
    cost=Cost(usd=0.2, projected_usd=0.4),
    slowed_by="the rate of default: 60,000 requests a minute",
)
DRAINING = msgspec.structs.replace(
    BEFORE, draining=True, workers=tuple(msgspec.structs.replace(each, state="draining") for each in BUSY.workers)
)
SESSION = SessionReport(
    started="2026-01-02T03:04:05Z",
    ended="2026-01-02T03:04:13Z",
    exit_code=ExitCode.INTERRUPTED,
    stopped_by="interrupted",
    elapsed_s=8.4,
    rows=5_000,
    rows_per_s=639.7,
    counters=BEFORE.counters,
    in_flight_max=128,
    allowed=128,
    workers=2,
    deaths=0,
    quarantined=0,
    billed_twice_max=4,
    cpu_s=4.0,
    rss_max_bytes={"supervisor": 45 * 2**20, "worker": 61 * 2**20},
)
STOPPED = RunReport(
    run="a1b2",
    finished=False,
    input="reviews.jsonl",
    output="topics.jsonl",
    errors="topics.errors.jsonl",
    rows=10_000,
    totals=Totals(rows=5_000, prompt_tokens=97_000, completion_tokens=99_000),
    failures={},
    sessions=[SESSION],
    cost=Cost(usd=0.22, lost_usd=0.0015, lost=Spent(31, 600, 0, 600)),
)
EVENTS = """rowmill run 1a: reviews.jsonl
rowmill run 1a resumed: reviews.jsonl
SIGINT: finishing what is in flight; once more to stop at once
ended with exit code 0"""  # the log's, which `supervisor/shutdown.py` and `runs/session.py` word


def screens(svg: str) -> list[list[str]]:
    """Return the lines of text of each screen of an animation."""
    groups = ET.fromstring(svg).findall(f"{SVG}g")
    return [["".join(line.itertext()) for line in group.findall(f"{SVG}text")] for group in groups]


def drawn(snapshot: Snapshot) -> str:
    stream = io.StringIO()
    Console(file=stream, width=recording.COLUMNS, height=recording.LINES).print(Display(snapshot))
    return stream.getvalue()


def shapes(lines: list[str]) -> Iterator[str]:
    """Yield the pieces of lines, which stand apart by two spaces, with what differs from run to run left out."""
    for line in lines:
        named = re.sub(r"^(rowmill run )[0-9a-f]+", r"\1#", line)
        named = re.sub(r"[$+]?\d[\d,.:]*(?:[kM%]|ms|s|m\d+s)?(?![a-z])", "#", named)
        yield from (piece.strip() for piece in re.split(r" {2,}", named) if piece.strip(" ━─"))


def test_the_recording_is_small_and_has_nothing_of_the_machine_that_made_it() -> None:
    frames = screens(RECORDED)
    assert len(frames) >= LEAST_FRAMES
    assert len(RECORDED.encode()) < MOST_BYTES
    text = "\n".join(line for frame in frames for line in frame)
    assert re.findall(r"(?:^|[\s\"'=(])[/~][\w.-]+", text) == []
    assert "@" not in text, "a prompt with a user and a host"
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(RECORDED).iter()}
    assert tags == {"svg", "title", "style", "rect", "g", "text", "tspan"}, "no script, no font, no other file"
    assert "url(" not in RECORDED


def test_the_recording_shows_the_configuration_an_interrupt_and_the_end() -> None:
    texts = ["\n".join(frame) for frame in screens(RECORDED)]
    assert any(all(line in text for line in recording.CONFIG.splitlines()) for text in texts)
    assert any("draining: finishing what is in flight" in text for text in texts)
    assert any("resumed: reviews.jsonl" in text and "slowed by" in text for text in texts)
    assert f"Done: {recording.ROWS:,} rows, " in texts[-1]
    assert re.search(r"\bfailed [1-9]", "\n".join(texts)) is None


def test_all_that_the_recording_shows_is_what_the_command_says_today() -> None:
    finished = msgspec.structs.replace(STOPPED, finished=True, sessions=[SESSION, SESSION])
    printed = [drawn(BEFORE), drawn(DRAINING), EVENTS]
    again, page = of_config("config.toml"), Path("topics.jsonl.run", "report.html")
    printed += [summary(report, SESSION, again=again, page=page) for report in (STOPPED, finished)]
    today = set(shapes("\n".join(printed).splitlines()))
    own = {*recording.CONFIG.splitlines()}
    shown = [line for frame in screens(RECORDED) for line in frame if line not in own and not line.startswith("$")]
    assert set(shapes(shown)) - today == set(), "the display says something else now: scripts/record makes it anew"


def test_screens_are_drawn_as_they_were_one_after_another() -> None:
    first = Screen(((Run(0, "a <b> & c", "default", bold=False),), ()), (0, 1))
    second = Screen(
        (
            (
                Run(0, "━━", "green", bold=False),
                Run(2, "──", "brightblack", bold=False),
                Run(4, "  50%", "default", bold=True),
            ),
        ),
        (9, 0),
    )
    svg = animation([Frame(first, 1.0), Frame(second, 3.0)], "a <run>")
    assert screens(svg) == [["a <b> & c"], ["  50%"]]
    assert "0%{visibility:hidden}25.000%{visibility:visible}}" in svg, "the last one stays to the end"
    bars = ET.fromstring(svg).findall(f"{SVG}g[@id='f1']/{SVG}rect")
    assert [float(bar.attrib["width"]) for bar in bars[:2]] == pytest.approx([2 * drawing._CELL] * 2)


def test_a_terminal_is_read_by_what_its_screen_shows(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "PS1": "$ ", "HISTFILE": "", "HOME": str(tmp_path)}
    with Terminal(80, 4, tmp_path, environ) as terminal:
        terminal.shows(lambda text: text.startswith("$"))
        terminal.press(r"printf 'x\033[32my\033[0m\033[2mz\033[0m%s\n' o" + "\n")
        line = terminal.shows(lambda text: "xyzo" in text and text.rstrip().endswith("$")).lines[1]
    assert line == (
        Run(0, "x", "default", bold=False),
        Run(1, "y", "green", bold=False),
        Run(2, "z", "brightblack", bold=False),
        Run(3, "o", "default", bold=False),
    )
