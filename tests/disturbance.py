"""Tests that measure rates and times need a machine that lets them: where it did not, what they saw tells nothing.

A thread that sleeps for a moment again and again sees how late it wakes. A measuring test that has failed while it woke
late waits until the machine lets it sleep as it says, and is done again. One that fails on a machine that was quiet
fails at once, and one that fails each time fails in the end: no bound is another for it.
"""

import threading
import time
from types import TracebackType
from typing import Self

import pytest
from _pytest.runner import runtestprotocol

MEASURING = ("quiet", "alone", "timed")  # marks
_MOMENT_S = 0.01
_LATE_S = 0.03  # as late as a quiet machine with two processors and six processes of a test never is twice
_TIMES = 3  # that such a test is done at most
_CALM_S = 1.0  # without a late waking: the machine is quiet
_PATIENCE_S = 20.0  # for that


class Sleeper:
    """The thread; `late` are the seconds of each late waking so far."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sleeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._over.wait(_MOMENT_S):
            now = time.monotonic()
            if (late := now - before - _MOMENT_S) > _LATE_S:
                self.late.append(late)
            before = now

    @property
    def disturbed(self) -> bool:
        """Whether the machine had others to serve."""
        return len(self.late) > 1


def calm() -> None:
    """Wait until the machine is quiet, for a while."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        with Sleeper() as sleeper:
            threading.Event().wait(_CALM_S)
        if not sleeper.late:
            return


def protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Be `pytest_runtest_protocol` for tests that measure."""
    if not any(item.get_closest_marker(mark) for mark in MEASURING):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(_TIMES)):
        with Sleeper() as sleeper:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not any(report.failed for report in reports) or not sleeper.disturbed or not left:
            break
        calm()
    for report in reports:
        if report.failed and sleeper.disturbed:
            report.sections.append(("disturbed", f"{len(sleeper.late)} times, for {max(sleeper.late):.2f} s at most"))
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
