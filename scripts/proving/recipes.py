"""Recipes: each as a newcomer runs it, in an empty directory."""

import json
import subprocess
import sys
from pathlib import Path

from engine import recipes as known
from engine.config import load
from engine.sources.inputs import find
from scripts.proving.runs import check

LONGEST_S = 60.0  # a recipe has some ten rows


def recipes(folder: Path) -> bool:
    """Write and run every recipe by the two commands that the manual gives."""
    holds = True
    for name in known.names():
        empty = folder / f"recipe-{name}"
        empty.mkdir()
        told = ""
        for words in (["init", "--recipe", name], ["run"]):
            done = subprocess.run(
                [sys.executable, "-P", "-m", "engine", *words],
                cwd=empty,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
            if done.returncode:
                told = f"{words[0]}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}"
                break
        else:
            told = _rows(empty)
        holds &= check(name, told.endswith(" rows"), told)
    return holds
