"""Where a call shows its run: on a terminal one at a time, in a notebook each in its cell, elsewhere if wanted."""

import io
import os
import signal
import socket
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

import rowmill
from rowmill.core.counts import Counters, Totals
from rowmill.core.reports import Snapshot
from rowmill.interface.python import running
from rowmill.interface.ui.lines import LogLines
from rowmill.interface.ui.notebook import NotebookProgress
from rowmill.interface.ui.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def snapshot(elapsed_s: float, rows: int = 1) -> Snapshot:
    return Snapshot(
        elapsed_s=elapsed_s, total_rows=10, totals=Totals(rows=rows), session_rows=rows, rows_per_s=1.0, eta_s=1.0,
        in_flight=1, allowed=1, waiting=0, next_due_s=None, counters=Counters(), shards_sealed=0, shards_merged=0,
        workers=(), deaths=0, draining=False,
    )  # fmt: skip


def test_of_several_calls_at_once_one_draws_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with running.shown(None) as first:
        assert isinstance(first, Screen)
        with running.shown(True) as second:
            assert not isinstance(second, Screen | LogLines)
    with running.shown(None) as third:
        assert isinstance(third, Screen)
    with running.shown(False) as none:
        assert not isinstance(none, Screen)


def test_where_there_is_no_terminal_it_is_shown_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with running.shown(None) as quiet, running.shown(True) as lines:
        quiet.log("nothing")
        lines.log("a line")
    assert stream.getvalue() == "a line\n"
    monkeypatch.setattr(sys, "stderr", None)
    with running.shown(True) as nowhere:
        nowhere.log("nothing")


class FrontEnd:
    """Stands for a notebook's, which may be gone."""

    def __init__(self, fails: bool = False) -> None:
        self.pictures: list[dict[str, str]] = []
        self._fails = fails

    def display(self, picture: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.update(picture, raw=raw)
        return self

    def update(self, picture: dict[str, str], *, raw: bool) -> None:
        if self._fails:
            raise OSError("gone")
        self.pictures.append(picture)


def test_a_notebook_is_drawn_as_often_as_a_browser_likes_and_in_the_end() -> None:
    front = FrontEnd()
    shown = NotebookProgress(front.display)
    shown.log("began <b>\x1b[31m")
    for tick in range(9):
        shown.show(snapshot(tick / 4, rows=tick))
    shown.show(snapshot(2.1, rows=10))
    assert len(front.pictures) == 5
    shown.close()
    shown.close()
    shown.show(snapshot(9.0))
    assert len(front.pictures) == 6
    last = front.pictures[-1]
    assert "10/10" in last["text/plain"]
    assert "began &lt;b&gt;" in last["text/html"]
    assert "\x1b" not in last["text/html"]
    nothing = FrontEnd()
    NotebookProgress(nothing.display).close()
    assert nothing.pictures == []


def test_a_front_end_that_is_gone_ends_no_run() -> None:
    shown = NotebookProgress(FrontEnd(fails=True).display)
    shown.show(snapshot(1.0))
    shown.show(snapshot(2.0))
    shown.close()


def test_what_a_signal_handler_raises_is_the_programs_and_no_defect(tmp_path: Path) -> None:
    """As of a timeout: it comes out as it is, and says where what is done is kept."""

    class Late(Exception):
        pass

    def too_late(*_: object) -> None:
        raise Late

    with socket.create_server(("127.0.0.1", 0)) as server:  # it never answers

        def alarm() -> None:
            with server.accept()[0] as asked:
                assert asked.recv(1)
                os.kill(os.getpid(), signal.SIGALRM)
                gone.wait(30)

        gone = threading.Event()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        before = signal.signal(signal.SIGALRM, too_late)
        threading.Thread(target=alarm, daemon=True).start()
        try:
            with pytest.raises(Late) as raised:
                rowmill.map(["a"], model="m", base_url=url, run_dir=tmp_path / "kept", workers={"count": 1})
        finally:
            gone.set()
            signal.signal(signal.SIGALRM, before)
    assert raised.value.__notes__ == ["rowmill.map: what is done is kept; the same call goes on from there"]


def test_a_notebook_is_told_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell:
        kernel: Any = object()

    front = FrontEnd()
    ipython: Any = types.ModuleType("IPython")
    display: Any = types.ModuleType("IPython.display")
    display.display = front.display
    shells: list[Any] = [Shell(), object(), None]
    ipython.get_ipython = lambda: shells[0]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with running.shown(None) as shown, running.shown(None) as other, running.shown(False) as none:
        assert isinstance(shown, NotebookProgress)
        assert isinstance(other, NotebookProgress), "each has an output of its own"
        assert not isinstance(none, NotebookProgress)
    while len(shells) > 1:  # IPython in a terminal; no IPython at all
        shells.pop(0)
        assert not running.in_notebook()
