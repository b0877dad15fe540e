"""A program that is told: what it is given, what becomes of it, and that it is there before anything begins."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from rowmill.core.errors import ConfigError
from rowmill.runs.notify.command import Program
from scripts.proving.runs import gone
from tests.end_to_end.conftest import until
from tests.runs.notify.news_of_a_run import NEWS

KEEP = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + os.environ['ROWMILL_TEXT'])"


def told(command: str | list[str], timeout_s: float = 20.0, given_up: threading.Event | None = None) -> str | None:
    return Program(command, {"PATH": os.environ["PATH"], "OWN": "x"}, timeout_s).tell(
        NEWS, threading.Event() if given_up is None else given_up
    )


def test_the_facts_are_json_on_its_stdin_and_in_its_environment(tmp_path: Path) -> None:
    file = tmp_path / "a file; with words"
    assert told([sys.executable, "-c", KEEP, str(file)]) is None
    facts, text = file.read_text().splitlines()
    assert json.loads(facts) == json.loads(json.dumps({**json.loads(facts), "event": "end", "rows": 1000, "why": None}))
    assert text == NEWS.text
    assert told(f"env > '{file}'") is None
    said = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert (said["ROWMILL_EVENT"], said["ROWMILL_EXIT_CODE"], said["ROWMILL_WHY"]) == ("end", "1", "")
    assert said["OWN"] == "x"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["false"], "ended with exit status 1"),
        ("echo to nobody; echo first >&2; printf 'no room\\n\\n' >&2; exit 3", "ended with exit status 3: no room"),
        ("kill -9 $$", "was killed by signal 9"),
        ("exec 0<&-; exit 0", None),  # it may not care for the facts
        ("true && nobody-has-this-program", "ended with exit status 127: "),
        ("NAME=value true", None),
        ('if test -n "$ROWMILL_RUN"; then cd /; fi', None),
    ],
)
def test_how_it_ends_is_told_in_words(command: str | list[str], problem: str | None) -> None:
    said = told(command)
    assert said == problem if problem is None else said is not None and said.startswith(problem)


def is_gone(pid: int) -> bool:
    try:
        return gone(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


@pytest.mark.timed
@pytest.mark.parametrize("given_up", [False, True])
def test_one_that_takes_too_long_is_killed_with_all_that_it_has_started(tmp_path: Path, *, given_up: bool) -> None:
    file = tmp_path / "pid"
    event = threading.Event()
    if given_up:
        event.set()
    began = time.monotonic()
    said = told(f"sleep 60 & echo $! > {file}.new && mv {file}.new {file}; wait", 0.3, event)
    assert said is not None
    assert "was killed" in said
    assert time.monotonic() - began < 30
    if file.exists():
        until(lambda: is_gone(int(file.read_text())), "the end of what it has started")


@pytest.mark.parametrize(
    "command", [["nobody-has-this-program", "x"], ["/"], ["~/bin/tell"], "nobody-has-this-program > x"]
)
def test_a_program_that_is_not_there_is_refused_before_anything_begins(command: str | list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^notify\.command: '.*' (is not found|cannot be executed)"):
        Program(command, {"PATH": "/bin:/usr/bin"}, 1.0)
