"""Record a run as a person sees it: typed into a shell, interrupted, gone on with; all of it really happens.

Rows are asked of the embedded simulator, which has one request in two hundred fail.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.recording.drawing import Frame, animation
from scripts.recording.terminal import Screen, Terminal

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "images" / "run.svg"
TITLE = (
    "A recorded terminal: rowmill run answers 10,000 rows, is interrupted half way, "
    "and the same command goes on where it stopped"
)
COLUMNS, LINES = 88, 24
PROMPT = "$ "
ROWS = 10_000
CONFIG = """\
[input]
path = "reviews.jsonl"

[task]
model = "gpt-5-mini"
prompt = "In one word, what is this about? {review}"

[output]
path = "topics.jsonl"

[[provider]]
base_url = "simulator"
requests_per_minute = 60_000

[simulator]
latency_ms = 400
faults = { "500" = 0.004, "reset" = 0.001 }

[prices]
gpt-5-mini = { input = 0.25, output = 2.0 }
"""
THINGS = ("kettle", "lamp", "chair", "radio", "bicycle", "umbrella", "blanket")


def main() -> None:
    """Record, and write the file."""
    parser = argparse.ArgumentParser(prog="scripts/record", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="where it goes (default: docs/images/run.svg)")
    file: Path = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        frames = recorded(Path(folder))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(animation(frames, TITLE), encoding="utf-8")
    print(f"{file}: {len(frames)} screens, {file.stat().st_size:,} bytes")


def recorded(folder: Path) -> list[Frame]:
    """Make the run in this folder; return what the terminal shows of it."""
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    home = folder / "home"  # what is not shown: nothing of this machine's own configuration is heard
    home.mkdir()
    with (folder / "reviews.jsonl").open("w", encoding="utf-8") as rows:
        for number in range(ROWS):
            thing = THINGS[number % len(THINGS)]
            row = {"review": f"After {number % 9 + 1} weeks this {thing} broke. Never again."}
            rows.write(f"{json.dumps(row)}\n")
    environ = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PS1": PROMPT,
        "HISTFILE": "",
    }
    with Terminal(COLUMNS, LINES, folder, environ) as terminal:
        frames = [Frame(terminal.shows(lambda text: text.startswith(PROMPT)), 0.5)]
        frames += _typed(terminal, "cat config.toml", 0.3)
        terminal.press("\n")
        frames.append(Frame(terminal.shows(_is_at_prompt), 3.0))
        terminal.press("\x0c")  # Ctrl-L
        terminal.shows(lambda text: text.startswith(f"{PROMPT.rstrip()} "))
        frames += _typed(terminal, "rowmill run", 0.6)
        terminal.press("\n")
        frames += [Frame(_at(terminal, share), 0.9) for share in (1, 14, 28, 41)]
        terminal.press("\x03")
        frames.append(Frame(terminal.shows(lambda text: "draining" in text), 1.2))
        frames.append(Frame(terminal.shows(_is_at_prompt), 3.5))
        frames += _typed(terminal, "rowmill run", 0.6)
        terminal.press("\n")
        frames += [Frame(_at(terminal, share), 0.9) for share in (52, 66, 81, 95)]
        frames.append(Frame(terminal.shows(_is_at_prompt), 6.0))
    return frames


def _typed(terminal: Terminal, words: str, seconds: float) -> list[Frame]:
    """Type, and show half of it first."""
    frames = []
    half = len(words) // 2
    typed = ""
    for piece in (words[:half], words[half:]):
        terminal.press(piece)
        typed += piece
        frames.append(Frame(terminal.shows(_ends_with(f"{PROMPT}{typed}")), seconds))
    return frames


def _ends_with(line: str) -> Callable[[str], bool]:
    return lambda text: text.rstrip().endswith(line)


def _is_at_prompt(text: str) -> bool:
    return text.rstrip().endswith(f"\n{PROMPT.rstrip()}")


def _at(terminal: Terminal, share: int) -> Screen:
    """Wait until the display says that so many rows in a hundred are done."""

    def is_there(text: str) -> bool:
        shares = re.findall(r"^rows .*\((\d+)", text, re.MULTILINE)
        return bool(shares) and int(shares[-1]) >= share

    return terminal.shows(is_there)


if __name__ == "__main__":
    main()
