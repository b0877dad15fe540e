"""What a log says while a run goes on."""

import io
import os
from typing import Any

import msgspec
import pytest

from rowmill.core.reports import Snapshot
from rowmill.interface.ui.lines import LogLines, progress_line
from tests.interface.ui.snapshots import (
    BATCHES,
    BATCHING,
    BUSY,
    COSTLY,
    COUNTING,
    HINDERED,
    HOLDING,
    LONG_WAIT,
    MAIN,
    SEVERAL,
    SINGLE,
)


class OutcomeWriter(io.StringIO):
    """A stream that is no terminal and remembers its flushed lines."""

    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def test_the_log_line_is_short_and_complete() -> None:
    assert progress_line(BUSY) == (
        "rows 12,345/60,000 (20.6%) failed 3  1,234 rows/s  ETA 0:38  in flight 127/128  retries 12  "
        "tokens 1.2M+400k  workers 2"
    )
    assert progress_line(LONG_WAIT).endswith("workers 2  waiting 12, next in 9m58s")
    assert progress_line(COUNTING).startswith("rows 12,345 (counting) failed 3  ")


def test_what_hinders_the_run_stands_at_the_end_of_the_line() -> None:
    assert progress_line(SINGLE) == progress_line(BUSY)
    assert progress_line(HINDERED) == progress_line(BUSY) + (
        "  provider main: holding, next in 9m58s  disk nearly full, paused  memory is short: half of the slots"
    )
    assert progress_line(SEVERAL) == progress_line(BUSY) + "  provider main: holding, next in 9m58s"


def test_the_cost_stands_beside_the_tokens_and_the_line_still_fits_two_of_a_terminal() -> None:
    line = progress_line(COSTLY)
    assert line == progress_line(BUSY).replace("  workers", "  cost $1.23 of $5.00, about $3.10 in all  workers")
    assert len(line) <= 160


def test_by_batches_the_line_tells_of_them_and_not_of_slots() -> None:
    assert progress_line(BATCHING) == (
        "rows 12,345/60,000 (20.6%) failed 3  "
        "batches 3 of 7 parts done; validating 1, in progress 2 (61%), collecting 1  "
        "requests 92,734/170,000 completed, 12 failed  tokens 1.2M+400k  "
        "cost $1.23 of $5.00, $0.80 under way, about $3.10 in all"
    )
    early = msgspec.structs.replace(BATCHING, batches=(), parts=(0, 0), cost=None)
    assert progress_line(early) == ("rows 12,345/60,000 (20.6%) failed 3  batches 0 of 0 parts done  tokens 1.2M+400k")
    last = msgspec.structs.replace(BATCHING, batches=BATCHES[3:], parts=(6, 7), eta_s=38.2)
    assert "failed 3  ETA 0:38  batches 6 of 7 parts done; collecting 1  requests 50,000/50,000" in progress_line(last)


def test_log_lines_come_at_the_start_and_every_ten_seconds_of_the_snapshots_own_time() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    for quarter in range(4 * 60):
        progress.show(msgspec.structs.replace(BUSY, elapsed_s=quarter / 4))
    assert len(stream.lines()) == 6


@pytest.mark.parametrize(
    ("change", "text"), [({"deaths": 1}, "worker deaths 1"), ({"draining": True}, "draining")], ids=["death", "drain"]
)
def test_a_change_that_matters_is_written_at_once_and_once(change: dict[str, Any], text: str) -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    progress.show(BUSY)
    changed = msgspec.structs.replace(BUSY, elapsed_s=10.25, **change)
    progress.show(changed)
    progress.show(msgspec.structs.replace(changed, elapsed_s=10.5))
    assert len(stream.lines()) == 2
    assert text in stream.lines()[1]


def test_a_pipe_gets_plain_text_without_control_codes() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    progress.show(BUSY)
    progress.log("worker 1 died: \x1b[2Jsignal 9\r\nnext line")
    progress.close()
    progress.close()
    assert stream.lines()[1] == "worker 1 died:  [2Jsignal 9  next line"
    assert all(line.isprintable() for line in stream.lines())


def test_a_reader_that_went_away_silences_the_lines_and_not_the_run() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", buffering=1)
    progress = LogLines(stream)
    progress.show(BUSY)
    os.close(reading)
    progress.log("nobody reads this")
    progress.show(msgspec.structs.replace(BUSY, elapsed_s=100.0))
    progress.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_closed_stream_silences_the_lines() -> None:
    stream = io.StringIO()
    progress = LogLines(stream)
    stream.close()
    progress.show(BUSY)


def at(snapshot: Snapshot, elapsed_s: float) -> Snapshot:
    return msgspec.structs.replace(snapshot, elapsed_s=elapsed_s)


def test_a_provider_that_changes_its_state_is_told_and_told_once() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    progress.show(at(SINGLE, 10.0))
    for quarter in range(4 * 4):
        held = msgspec.structs.replace(HOLDING, held_s=598.0 - quarter / 4)
        progress.show(msgspec.structs.replace(at(SINGLE, 11.0 + quarter / 4), providers=(held,)))
    progress.show(at(SINGLE, 16.0))
    assert len(stream.lines()) == 3
    assert "provider main: holding, next in 9m58s" in stream.lines()[1]
    assert "provider" not in stream.lines()[2]


def test_a_notice_that_comes_or_goes_is_told_and_their_order_is_no_change() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    for elapsed_s, notices in [(0, ()), (2, ("a", "b")), (4, ("b", "a")), (6, ("b",)), (8, ())]:
        progress.show(msgspec.structs.replace(at(BUSY, elapsed_s), notices=notices))
    assert len(stream.lines()) == 4


def test_flapping_costs_one_line_a_second_at_most() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    for place in range(400):  # ten a second, and each is another state than the one before
        state = ("open", "holding", "recovering")[place % 3]
        provider = msgspec.structs.replace(MAIN, state=state)
        progress.show(msgspec.structs.replace(at(BUSY, place / 10), providers=(provider,), notices=(str(place),)))
    assert 30 <= len(stream.lines()) <= 40


def test_a_change_that_the_second_held_back_is_told_after_it() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    progress.show(at(SINGLE, 10.0))
    for elapsed_s in (10.25, 10.5, 10.75, 11.0, 11.25):
        progress.show(at(HINDERED, elapsed_s))
    assert len(stream.lines()) == 2
    assert "holding" in stream.lines()[1]


def test_by_batches_there_is_a_line_a_minute_and_one_at_each_change_of_a_status() -> None:
    stream = OutcomeWriter()
    progress = LogLines(stream)
    for quarter in range(4 * 60 * 5):
        done = msgspec.structs.replace(BATCHES[1], completed=quarter)  # a count that grows is no change
        progress.show(msgspec.structs.replace(at(BATCHING, quarter / 4), batches=(done,)))
    assert len(stream.lines()) == 5
    progress.show(at(BATCHING, 310.0))
    progress.show(msgspec.structs.replace(at(BATCHING, 320.0), parts=(4, 7)))
    progress.show(msgspec.structs.replace(at(BATCHING, 330.0), parts=(4, 7)))
    assert len(stream.lines()) == 7
