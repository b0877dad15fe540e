"""Recipes: each as a newcomer runs it, in an empty directory."""

import json
import subprocess
import sys
from pathlib import Path

from rowmill.interface.cli import recipes as known
from scripts.proving.runs import ItemError, check

LONGEST_S = 60.0  # a recipe has some ten rows


def recipes(folder: Path) -> bool:
    """Write and run every recipe by the two commands that the manual gives."""
    holds = True
    for name in known.names():
        empty = folder / f"recipe-{name}"
        empty.mkdir()
        try:
            _command(empty, "init", "--recipe", name)
            _command(empty, "run")
        except ItemError as error:
            holds &= check(name, holds=False, figures=str(error))
            continue
        (path,) = empty.glob("*.run/report.json")
        report = json.loads(path.read_bytes())
        output = empty / report["output"]
        written = output.stat().st_size if output.exists() else 0
        rows, totals = report["rows"], report["totals"]
        all_there = report["finished"] and written and rows == totals["rows"] > 0 == totals["failed"]
        figures = f"{totals['rows']} of {rows} rows, {totals['failed']} failed; {output.name}, {written:,} bytes"
        holds &= check(name, bool(all_there), figures)
    return holds


def _command(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "rowmill", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode:
        raise ItemError(f"rowmill {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
