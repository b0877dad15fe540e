"""Tells the news of one run, each in threads of its own: the run goes on, and its end waits, but not for long.

What goes wrong is a line of the log. It is written by the supervisor's thread, which asks for such lines as it looks.
"""

import queue
import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from rowmill.core.config import Config
from rowmill.core.reports import RunReport, SessionReport, Snapshot
from rowmill.ipc import processes
from rowmill.runs.notify.news import News, ToldRun, of_end, of_snapshot
from rowmill.runs.notify.occasions import Outages, reached
from rowmill.store import durable

_LIKE_A_SECRET = re.compile(r"key|token|secret|passw|auth|credential|hook|url", re.IGNORECASE)
_SHORTEST = 6  # characters of what is taken out of a command's words
_PATIENCE_S = 1.0  # the end says that it waits where that takes longer
_GRACE_S = 1.0  # for a way that is given up to say how it is: to kill a program takes a moment


class Way(Protocol):
    """By which somebody is told."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def tell(self, news: News, given_up: threading.Event) -> str | None:
        """Tell it, within its time, and sooner where that is given up. Returns what went wrong, in words."""


class _Answered(NamedTuple):
    """A way has told an event, or not: `problem` says why."""

    way: str
    event: str
    problem: str | None


class Notifier:
    """Knows what is worth telling, and has it told. Does nothing where nobody is to be told."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Find those that are to be told. Raises `ConfigError` where one cannot be."""
        notify = config.notify
        self._config = notify
        self._ways: list[Way] = []
        self._secrets: list[str] = []
        if notify.command is not None:
            from rowmill.runs.notify.command import Program  # who tells nobody need not load it

            self._ways.append(Program(notify.command, environ, notify.timeout_s))
            # What a program says at its end may have what it was given.
            self._secrets += [value for name, value in environ.items() if _LIKE_A_SECRET.search(name)]
        if notify.webhook is not None or notify.url_env is not None:
            from rowmill.runs.notify.webhook import Hook  # likewise

            hook = Hook(config, environ)
            self._ways.append(hook)
            self._secrets += hook.secrets
        self._subject: ToldRun | None = None
        self._file: Path | None = None
        self._caps: dict[str, float] = {}  # of which "budget" was told
        self._outages = Outages()
        self._given_up = threading.Event()
        self._ended: queue.SimpleQueue[_Answered | None] = queue.SimpleQueue()  # None: a signal has come
        self._under_way: list[tuple[str, str]] = []  # way and event

    def __repr__(self) -> str:
        return f"<{len(self._ways)} to be told, under way: {self._under_way}>"

    @property
    def tells(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._ways)

    def begin(self, subject: ToldRun, file: Path, secrets: tuple[str, ...]) -> None:
        """Say which run it is. `file` keeps what is not told again; `secrets`: those of the providers."""
        self._subject = subject
        self._file = file
        known = {each for each in (*self._secrets, *secrets) if len(each) >= _SHORTEST}
        self._secrets = sorted(known, key=len, reverse=True)
        if self._ways:
            with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._caps = msgspec.json.decode(file.read_bytes(), type=dict[str, float])

    def look(self, snapshot: Snapshot) -> list[str]:
        """Have told what is worth it of where the run stands. Returns lines for the log."""
        if not self._ways:
            return []
        if "budget" in self._config.on:
            for cap in reached(snapshot.cost, self._config.budget_at, self._caps):
                self._caps[cap.key] = cap.cap
                self._keep()  # first: of a run that is killed now nobody shall hear twice
                self._tell("budget", cap.why, snapshot)
        if "trouble" in self._config.on:
            for why in self._outages.look(snapshot):
                self._tell("trouble", why, snapshot)
        lines = []
        with suppress(queue.Empty):
            while True:
                lines += self._line(self._ended.get_nowait())
        return lines

    def end(self, report: RunReport, session: SessionReport) -> Iterator[str]:
        """Have told that the session has ended, and wait for all that are told, as long as one may take.

        A signal ends the waiting, and nothing else. Yields lines for the log.
        """
        if self._subject is None:
            return
        news = of_end(self._subject, report, session)
        with processes.signals_noted(lambda _: self._ended.put(None)):
            if news.event in self._config.on:
                self._start(news)
            more_s = self._config.timeout_s - _PATIENCE_S
            if not (yield from self._wait(min(_PATIENCE_S, self._config.timeout_s))) and more_s > 0:
                yield f"notify: waiting for the {self._under_way[0][0]}"
                yield from self._wait(more_s)
            self._given_up.set()
            yield from self._wait(_GRACE_S)
        for way, event in self._under_way:
            yield f'notify: "{event}" may not have reached the {way}: it has not ended'

    def _wait(self, seconds: float) -> Generator[str, None, bool]:
        """Wait for those that are told, and say whether that is over: all have ended, or a signal has come."""
        until = time.monotonic() + seconds
        while self._under_way:
            try:
                ended = self._ended.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return False
            if ended is None:
                return True
            yield from self._line(ended)
        return True

    def _tell(self, event: str, why: str, snapshot: Snapshot) -> None:
        if self._subject is not None:
            self._start(of_snapshot(self._subject, event, why, snapshot))

    def _start(self, news: News) -> None:
        for way in self._ways:
            self._under_way.append((way.name, news.event))
            threading.Thread(target=self._run, args=(way, news), name="notify", daemon=True).start()

    def _run(self, way: Way, news: News) -> None:
        try:
            problem = way.tell(news, self._given_up)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on without
            problem = f"failed ({type(error).__name__})"
        self._ended.put(_Answered(way.name, news.event, problem))

    def _line(self, ended: _Answered | None) -> list[str]:
        if ended is None:
            return []
        self._under_way.remove((ended.way, ended.event))
        if ended.problem is None:
            return []
        from rowmill.transport.foreign_words import cleaned  # and the table of faults

        return [f'notify: "{ended.event}" is not told: the {ended.way} {cleaned(ended.problem, self._secrets)}']

    def _keep(self) -> None:
        assert self._file is not None
        with suppress(OSError):  # nobody loses a row by it
            durable.replace_unsynced(self._file, msgspec.json.encode(self._caps))
