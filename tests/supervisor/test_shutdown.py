"""How a session ends before its time: the first reason counts, and sets the exit code and what people are told."""

import signal
from pathlib import Path

import pytest

from rowmill.core.errors import BudgetError, ExitCode, MachineError, ProviderError, RowmillError
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.pool import Pool
from rowmill.supervisor.shutdown import LATE_S, Shutdown


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def shutdown(lines: list[str]) -> Shutdown:
    pool = Pool(RunDirectory(Path("unused")))
    return Shutdown(pool, drain_s=30.0, doing="finishing what is in flight", clock=Clock(), log=lines.append)


def test_a_session_that_goes_on(shutdown: Shutdown) -> None:
    assert repr(shutdown) == "<going on>"
    assert not shutdown.begun
    assert shutdown.outcome(finished=True, failed=0) == (ExitCode.OK, None)
    assert shutdown.outcome(finished=True, failed=3) == (ExitCode.ROWS_FAILED, None)


def test_the_first_reason_to_stop_is_told_and_kept(shutdown: Shutdown, lines: list[str]) -> None:
    shutdown.stop(ProviderError("no credit"))
    shutdown.stop(MachineError("disk full"))
    assert repr(shutdown) == "<no credit, draining>"
    assert lines == ["stopping: no credit"]
    assert shutdown.outcome(finished=False, failed=0) == (ExitCode.PROVIDER, "no credit")


@pytest.mark.parametrize("late", [ProviderError("closed"), BudgetError("the cap is reached")])
def test_a_provider_that_closes_or_a_cap_that_is_reached_after_a_signal_changes_nothing(
    shutdown: Shutdown, lines: list[str], late: RowmillError
) -> None:
    shutdown.interrupt(signal.SIGINT)
    shutdown.stop(late)
    assert shutdown.outcome(finished=False, failed=0) == (ExitCode.INTERRUPTED, "interrupted")
    assert len(lines) == 1
    shutdown.stop(MachineError("disk full"))
    assert shutdown.outcome(finished=False, failed=0) == (ExitCode.MACHINE, "disk full")


def test_a_signal_drains_and_what_takes_too_long_is_killed(
    shutdown: Shutdown, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[bool] = []
    monkeypatch.setattr(Pool, "kill_all", lambda _: killed.append(True))
    shutdown.interrupt(signal.SIGINT)
    assert repr(shutdown) == "<interrupted, draining>"
    assert lines == ["SIGINT: finishing what is in flight; once more to stop at once"]
    shutdown.look(100.0 + 30.0 + LATE_S)
    assert not killed
    shutdown.look(100.0 + 30.0 + LATE_S + 0.1)
    assert len(killed) == 1
    shutdown.interrupt(signal.SIGTERM)
    assert len(killed) == 2
    assert shutdown.outcome(finished=False, failed=0) == (ExitCode.INTERRUPTED, "interrupted")
    shutdown.over = True
    assert repr(shutdown) == "<interrupted, draining, over>"
