"""A moment of the time series is what has changed since the one before, whatever earlier sessions had come to."""

from pathlib import Path

import msgspec
import pytest

from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, Totals
from rowmill.core.histograms import Distributions
from rowmill.core.moments import Moment, joined
from rowmill.core.reports import Cost, CostLine, Snapshot, Status
from rowmill.store.run_directory import RunDirectory
from rowmill.store.series import read
from rowmill.supervisor.recorder import Recorder
from tests.interface.ui.snapshots import BUSY, MAIN


def standing(elapsed_s: float, rows: int, *, failed: int = 0, in_flight: int = 10, usd: float | None = 1.0) -> Snapshot:
    """Return where a session stands, of a run whose earlier sessions had 1,000 rows."""
    return msgspec.structs.replace(
        BUSY,
        elapsed_s=elapsed_s,
        totals=Totals(rows=1000 + rows, failed=5 + failed),
        counters=Counters(rows=rows, requests=rows + 2, retries=2, faults={"timeout": failed}),
        in_flight=in_flight,
        providers=(
            msgspec.structs.replace(MAIN, requests=rows + 2, answered=rows, limited=failed, prompt_tokens=rows * 3),
        ),
        cost=Cost(usd=usd),
    )


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def recorder(tmp_path: Path, lines: list[str]) -> Recorder:
    return Recorder(RunDirectory(tmp_path), "s1", log=lines.append, wall_clock=lambda: 1_000.0)


def written(tmp_path: Path) -> list[Moment]:
    return read(tmp_path / "series.jsonl")


def test_a_second_is_what_was_done_in_it(recorder: Recorder, tmp_path: Path) -> None:
    recorder.look(standing(0.25, 0))
    recorder.measured(Distributions(latency_ms={20: 3}))
    recorder.look(standing(0.5, 4, in_flight=20))
    assert written(tmp_path) == []
    recorder.measured(Distributions(latency_ms={20: 1, 40: 4}))
    recorder.look(standing(1.0, 8, failed=2, usd=1.25))
    recorder.look(standing(1.5, 8, failed=2, usd=1.25))
    recorder.look(standing(2.0, 20, failed=2, usd=1.5))
    first, second = written(tmp_path)
    assert (first.at, first.seconds, first.session) == (1_000.0, 1.0, "s1")
    assert (first.rows, first.failed, first.requests, first.retries, first.usd) == (8, 2, 10, 2, 0.25)
    assert (first.faults, first.in_flight, first.spread.latency_ms) == ({"timeout": 2}, 13.33, {20: 4, 40: 4})
    assert (second.rows, second.failed, second.requests, second.retries, second.usd) == (12, 0, 12, 0, 0.25)
    assert (second.faults, second.spread) == ({}, Distributions())
    one, other = first.providers["main"], second.providers["main"]
    assert (one.requests, one.answered, one.limited, one.prompt_tokens, one.state) == (10, 8, 2, 24, "open")
    assert (other.requests, other.answered, other.limited, other.prompt_tokens) == (12, 12, 0, 36)


def test_the_end_is_written_however_short_it_was(recorder: Recorder, tmp_path: Path) -> None:
    recorder.look(standing(0.25, 0))
    recorder.look(standing(0.4, 3), last=True)
    (only,) = written(tmp_path)
    assert (only.rows, only.seconds) == (3, 0.4)
    status = msgspec.json.decode((tmp_path / "status.json").read_bytes(), type=Status)
    assert (status.at, status.session, status.snapshot) == (1_000.0, "s1", standing(0.4, 3))


def test_rows_that_earlier_sessions_have_failed_are_not_of_this_one(recorder: Recorder, tmp_path: Path) -> None:
    recorder.look(msgspec.structs.replace(standing(0.25, 0), totals=Totals()))  # not found again yet
    recorder.look(standing(1.0, 0, failed=0))
    (only,) = written(tmp_path)
    assert (only.rows, only.failed) == (0, 0)


def test_where_nothing_can_be_written_that_is_said_once(tmp_path: Path, lines: list[str]) -> None:
    recorder = Recorder(RunDirectory(tmp_path / "gone"), "s1", log=lines.append)
    for second in range(1, 5):
        recorder.look(standing(float(second), second))
    assert lines == ["its progress cannot be written down: No such file or directory; the run goes on without it"]


@pytest.mark.parametrize("content", ["directory", "link"])
def test_where_the_series_cannot_be_written_it_is_still_told_where_the_session_stands(
    tmp_path: Path, lines: list[str], content: str
) -> None:
    series = tmp_path / "series.jsonl"
    if content == "directory":
        series.mkdir()
    else:
        series.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(b"kept\n")
    recorder = Recorder(RunDirectory(tmp_path), "s1", log=lines.append)
    for second in range(1, 4):
        recorder.look(standing(float(second), second))
    assert [line.partition(":")[0] for line in lines] == ["its progress cannot be written down"]
    status = msgspec.json.decode((tmp_path / "status.json").read_bytes(), type=Status)
    assert status.snapshot == standing(3.0, 3)
    assert content != "link" or (tmp_path / "elsewhere").read_bytes() == b"kept\n"


def test_what_each_model_has_cost_is_told_where_there_are_several(recorder: Recorder, tmp_path: Path) -> None:
    def cost(**usd: float) -> Cost:
        lines = [
            CostLine(provider=provider, model=model, mode="live", spent=Spent(), usd=each)
            for model, each in usd.items()
            for provider in ("east", "west")
        ]
        return Cost(usd=2 * sum(usd.values()), lines=tuple(lines))

    recorder.look(msgspec.structs.replace(standing(0.5, 0), cost=cost(mini=1.0)))
    recorder.look(msgspec.structs.replace(standing(1.0, 0), cost=cost(mini=1.5)))
    recorder.look(msgspec.structs.replace(standing(2.0, 0), cost=cost(mini=1.5, nano=0.25)))
    recorder.look(msgspec.structs.replace(standing(3.0, 0), cost=cost(mini=2.0, nano=0.5)))
    one, second, third = written(tmp_path)
    assert (one.usd, one.usd_by) == (1.0, {})
    assert (second.usd, second.usd_by) == (0.5, {"nano": 0.5})
    assert (third.usd, third.usd_by) == (1.5, {"mini": 1.0, "nano": 0.5})
    assert joined(second, third).usd_by == {"mini": 1.0, "nano": 1.0}
