"""Starting a process: it runs what it is told, by name, and its pipe says when it is gone."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rowmill
from rowmill.core.errors import ExitCode
from rowmill.ipc import processes
from rowmill.ipc.processes import Child

START = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[START]:
    """Start a process whose `main(pipe)` has this body."""
    monkeypatch.syspath_prepend(tmp_path)
    children: list[Child] = []

    def make(body: str) -> Child:
        name = f"rowmill_test_child_{len(children)}"
        (tmp_path / f"{name}.py").write_text(f"import os, signal, sys\ndef main(pipe):\n    {body}\n")
        child = processes.start(name, "test-child")
        children.append(child)
        return child

    yield make
    for child in children:
        child.process.kill()
        child.process.join()
        child.pipe.close()


def test_what_main_returns_is_the_exit_status(start: START) -> None:
    children = [start("return 0"), start("return 6")]
    for child in children:
        child.process.join(30)
    assert [child.process.exitcode for child in children] == [0, 6]


def test_both_ends_can_speak_and_the_end_of_the_process_closes_the_pipe(start: START) -> None:
    child = start("pipe.send_bytes(pipe.recv_bytes() + b' and back'); return 0")
    child.pipe.send_bytes(b"there")
    assert child.pipe.recv_bytes() == b"there and back"
    with pytest.raises(EOFError):
        child.pipe.recv_bytes()


def test_an_interrupt_of_the_terminal_is_not_for_the_child(start: START) -> None:
    child = start("pipe.send_bytes(b'up'); pipe.recv_bytes(); return 3")
    child.pipe.recv_bytes()
    os.kill(child.process.pid or 0, signal.SIGINT)
    child.pipe.send_bytes(b"go")
    child.process.join(30)
    assert child.process.exitcode == 3


def test_a_killed_process_closes_its_pipe_although_others_were_started_after_it(start: START) -> None:
    """A copy of the end in a sibling would keep the pipe open for ever."""
    first = start("pipe.send_bytes(b'up'); pipe.recv_bytes(); return 0")
    second = start("pipe.send_bytes(b'up'); pipe.recv_bytes(); return 0")
    assert first.pipe.recv_bytes() == second.pipe.recv_bytes() == b"up"
    os.kill(first.process.pid or 0, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionResetError)):
        first.pipe.recv_bytes()
    first.process.join(30)
    assert first.process.exitcode == -signal.SIGKILL
    assert second.process.is_alive()


def test_a_child_sees_the_end_of_its_parents_side(start: START) -> None:
    child = start("pipe.send_bytes(b'up')\n    try: pipe.recv_bytes()\n    except EOFError: return 5\n    return 0")
    child.pipe.recv_bytes()
    child.pipe.close()
    child.process.join(30)
    assert child.process.exitcode == 5


def test_a_defect_ends_the_process_with_status_70_and_one_line(start: START, capfd: pytest.CaptureFixture[str]) -> None:
    child = start("raise KeyError('of the test')")
    child.process.join(30)
    assert child.process.exitcode == ExitCode.DEFECT
    (line,) = capfd.readouterr().err.splitlines()
    assert "a defect of Rowmill: KeyError: 'of the test'; the traceback is in " in line
    kept = Path(re.search(r"the traceback is in (\S+):", line)[1])  # type: ignore[index]
    assert "raise KeyError('of the test')" in kept.read_text()
    kept.unlink()


def test_a_child_finds_what_its_parent_finds_and_takes_no_file_of_the_program_for_a_module(
    start: START, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shlex.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    # The package itself is found even where the parent was told of it by a path that means something else by now.
    root = str(Path(rowmill.__file__).parents[1])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(each for each in sys.path if each not in (root, str(tmp_path)))])
    child = start("import shlex, rowmill; pipe.send((sys.path, rowmill.__file__)); return 0")
    assert child.pipe.recv() == ([*sys.path[1:], str(tmp_path)], rowmill.__file__)


def test_a_child_is_given_the_interpreters_options(start: START, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["error::ImportWarning"])
    child = start("pipe.send(sys.warnoptions); return 0")
    assert child.pipe.recv() == ["error::ImportWarning"]


def test_signals_are_noted_and_given_back() -> None:
    noted: list[signal.Signals] = []
    before = signal.getsignal(signal.SIGTERM)
    with processes.signals_noted(noted.append):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert noted == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    noted: list[signal.Signals] = []
    try:
        with processes.signals_noted(noted.append):
            os.kill(os.getpid(), signal.SIGHUP)
        assert noted == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_signals_stay_with_the_main_one() -> None:
    noted: list[signal.Signals] = []
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def note() -> None:
        with processes.signals_noted(noted.append):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert (seen, noted) == ([before], [])


def test_starting_one_imports_nothing_of_it_here(start: START) -> None:
    start("return 0")
    assert "rowmill_test_child_0" not in sys.modules
