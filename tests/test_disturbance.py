"""Tests that measure are done again where the machine was disturbed, and only there."""

import threading
from itertools import accumulate
from types import SimpleNamespace

import pytest

from tests import disturbance

pytest_plugins = "pytester"

CONFTEST = """
from tests import disturbance

class Sleeper:
    disturbed = late = None
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.late = LATE
        self.disturbed = len(self.late) > 1

disturbance.Sleeper = Sleeper
disturbance.calm = lambda: print("waits")
pytest_runtest_protocol = disturbance.protocol
"""
TESTS = """
import pytest
times = []

@pytest.mark.{mark}
def test_fails_so_often(tmp_path):
    assert not any(tmp_path.iterdir())
    times.append(tmp_path)
    assert len(times) > {often}

def test_was_done():
    print("done", len(set(times)))
"""


@pytest.mark.parametrize(
    ("mark", "late", "often", "passed", "done"),
    [
        ("quiet", [0.1, 0.2], 0, 2, 1),
        ("quiet", [0.1, 0.2], 1, 2, 2),
        ("alone", [0.1, 0.2], 2, 2, 3),
        ("quiet", [0.1, 0.2], 3, 1, 3),
        ("quiet", [0.1], 1, 1, 1),
        ("alone", [], 1, 1, 1),
        ("timed", [0.1, 0.2], 1, 2, 2),
        ("cluster", [0.1, 0.2], 1, 1, 1),
    ],
)
def test_what_measures_is_done_again_where_it_failed_and_woke_late(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    *,
    mark: str,
    late: list[float],
    often: int,
    passed: int,
    done: int,
) -> None:
    for name in ("Sleeper", "calm"):
        monkeypatch.setattr(disturbance, name, getattr(disturbance, name))  # put back afterwards
    pytester.makeini("[pytest]\nmarkers =\n    quiet:\n    alone:\n    timed:\n    cluster:")
    pytester.makeconftest(f"LATE = {late}\n{CONFTEST}")
    pytester.makepyfile(TESTS.format(mark=mark, often=often))
    result = pytester.runpytest_inprocess("-s", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=passed, failed=2 - passed)
    result.stdout.fnmatch_lines(f"*done {done}*")
    told = "2 times, for 0.20 s at most" in result.stdout.str()
    assert told == (passed == 1 and len(late) > 1 and mark in disturbance.MEASURING)


@pytest.mark.parametrize(
    ("pauses", "late"), [([0.01, 0.02, 0.039], []), ([0.01, 0.5], [0.49]), ([0.1, 0.01, 0.5, 0.01], [0.09, 0.49])]
)
def test_late_wakings_are_seen(monkeypatch: pytest.MonkeyPatch, pauses: list[float], late: list[float]) -> None:
    seen = threading.Event()
    moments = iter(accumulate(pauses, initial=100.0))
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        if (moment := next(moments, None)) is None:
            seen.set()
            return now
        now = moment
        return moment

    monkeypatch.setattr(disturbance, "time", SimpleNamespace(monotonic=monotonic))
    with disturbance.Sleeper() as sleeper:
        assert seen.wait(60)
    assert sleeper.late == pytest.approx(late)
    assert sleeper.disturbed == (len(late) > 1)
