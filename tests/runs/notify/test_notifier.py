"""Who is told what, once; and that nobody who is told holds up a run by more than his time."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.reports import Cost
from rowmill.runs.notify import notifier as module
from rowmill.runs.notify.news import News
from rowmill.runs.notify.notifier import Notifier
from tests.end_to_end.conftest import until
from tests.runs.notify.news_of_a_run import REPORT, SESSION, STOPPED, SUBJECT, UNFINISHED, at, config_with

SPENT = Cost(usd=4.5, max_usd=5.0)


class Ear:
    """A way that keeps what it is told, and says what it is to say once `go` is set."""

    def __init__(
        self, problem: str | None = None, *, waits: bool = False, deaf: bool = False, name: str = "ear"
    ) -> None:
        """Say the problem, where there is one; `waits`: for `go`, or until it is given up; `deaf`: not for that."""
        self.name = name
        self._deaf = deaf
        self.heard: list[News] = []
        self.go = threading.Event()
        if not waits and not deaf:
            self.go.set()
        self._problem = problem

    def tell(self, news: News, given_up: threading.Event) -> str | None:
        self.heard.append(news)
        while not self.go.wait(0.01) and (self._deaf or not given_up.is_set()):
            pass
        if self._problem == "a defect":
            raise KeyError(self._problem)
        return self._problem


def telling(folder: Path, *ears: Ear, secrets: tuple[str, ...] = (), **notify: Any) -> Notifier:
    made = Notifier(config_with(command=["true"], **notify), {"PATH": os.environ["PATH"], "MY_TOKEN": "tok-123456"})
    made._ways = list(ears)
    made.begin(SUBJECT, folder / "notified.json", secrets)
    return made


def events(ear: Ear) -> list[str]:
    return sorted(news.event for news in ear.heard)


def test_each_event_is_told_to_all_who_are_to_be_told(tmp_path: Path) -> None:
    ears = [Ear(), Ear()]
    one = telling(tmp_path, *ears, on=["end", "budget", "trouble"])
    assert one.look(at(1, cost=SPENT, providers={"a": "closed"})) == []
    assert list(one.end(REPORT, SESSION)) == []
    assert [events(ear) for ear in ears] == [["budget", "end", "trouble"]] * 2


@pytest.mark.parametrize(
    ("on", "heard"), [(["end"], []), (["stop"], ["stop"]), (["stop", "budget"], ["budget", "stop"])]
)
def test_only_what_is_asked_for_is_told(tmp_path: Path, on: list[str], heard: list[str]) -> None:
    ear = Ear()
    one = telling(tmp_path, ear, on=on)
    one.look(at(1, cost=SPENT, providers={"a": "closed"}))
    assert list(one.end(UNFINISHED, STOPPED)) == []
    assert events(ear) == heard


def test_a_cap_is_told_once_in_all_sessions_of_a_run_and_anew_where_it_is_raised(tmp_path: Path) -> None:
    ear = Ear()
    for cost in (SPENT, SPENT, Cost(usd=4.9, max_usd=6.0), Cost(usd=4.9, max_usd=50.0)):
        one = telling(tmp_path, ear)
        one.look(at(1, cost=cost))
        one.look(at(2, cost=cost))
        assert list(one.end(REPORT, SESSION)) == []
    assert events(ear) == ["budget", "budget", "end", "end", "end", "end"]
    (tmp_path / "notified.json").write_bytes(b"\0 damaged")
    one = telling(tmp_path, ear, on=["budget"])
    one.look(at(1, cost=SPENT))
    assert list(one.end(REPORT, SESSION)) == []
    assert events(ear).count("budget") == 3


def test_a_run_directory_that_takes_nothing_is_no_reason_to_tell_twice_in_a_session(tmp_path: Path) -> None:
    ear = Ear()
    one = telling(tmp_path / "nowhere", ear, on=["budget"])
    one.look(at(1, cost=SPENT))
    one.look(at(2, cost=SPENT))
    assert list(one.end(REPORT, SESSION)) == []
    assert events(ear) == ["budget"]


def test_what_goes_wrong_is_a_line_of_the_log_without_secrets(tmp_path: Path) -> None:
    ears = [Ear("ended: tok-123456 sk-provider \x1b[31m"), Ear("a defect", name="eye")]
    one = telling(tmp_path, *ears, secrets=("sk-provider",))
    lines = one.look(at(1, cost=SPENT))

    def both() -> bool:
        lines.extend(one.look(at(2)))
        return len(lines) == 2

    until(both, "the lines")
    assert sorted(lines) == [
        'notify: "budget" is not told: the ear ended: [redacted] [redacted] [31m',
        'notify: "budget" is not told: the eye failed (KeyError)',
    ]
    assert sorted(one.end(REPORT, SESSION)) == [line.replace("budget", "end") for line in sorted(lines)]


def test_the_end_waits_for_who_is_told_and_says_so_where_it_takes_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    ear = Ear(waits=True)
    one = telling(tmp_path, ear, timeout_s=60)
    lines = one.end(REPORT, SESSION)
    assert next(lines) == "notify: waiting for the ear"
    ear.go.set()
    assert list(lines) == []
    assert events(ear) == ["end"]


def test_who_never_comes_back_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    monkeypatch.setattr(module, "_PATIENCE_S", 30.0)
    ears = [Ear(), Ear(deaf=True, name="deaf")]
    one = telling(tmp_path, *ears, timeout_s=0.2)
    one.look(at(1, cost=SPENT))
    lost = [f'notify: "{event}" may not have reached the deaf: it has not ended' for event in ("budget", "end")]
    assert list(one.end(REPORT, SESSION)) == lost
    assert events(ears[0]) == ["budget", "end"]
    ears[1].go.set()


@pytest.mark.timed
def test_a_signal_ends_the_waiting_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    ear = Ear(deaf=True)
    one = telling(tmp_path, ear, timeout_s=600)

    def interrupt() -> None:
        until(lambda: ear.heard, "the news")
        os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    other = threading.Thread(target=interrupt)
    other.start()
    (*_, line) = one.end(REPORT, SESSION)
    other.join()
    assert line == 'notify: "end" may not have reached the ear: it has not ended'
    assert time.monotonic() - began < 60
    ear.go.set()


def test_nobody_is_told_where_nobody_is_to_be(tmp_path: Path) -> None:
    one = Notifier(msgspec.structs.replace(config_with()), {})
    one.begin(SUBJECT, tmp_path / "notified.json", ())
    assert not one.tells
    assert one.look(at(1, cost=SPENT)) == []
    assert list(tmp_path.iterdir()) == []
