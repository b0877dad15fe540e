"""The board of rows in flight, read after its writer's death."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.errors import MachineError
from rowmill.store.in_flight import BoardHead, InflightBoard, read_board

WRITER = """
import os, signal, sys
from pathlib import Path
from rowmill.store.in_flight import InflightBoard
board = InflightBoard.create(Path(sys.argv[1]), 5)
board.cells[0] = 0 + 1
board.cells[1] = 7 + 1
board.cells[3] = 2**40 + 1
board.cells[4] = 9 + 1
board.cells[1] = 0
board.cells[4] = 11 + 1
os.kill(os.getpid(), signal.SIGKILL)
"""

COUNTER = """
import os, signal, sys
from pathlib import Path
from rowmill.store.in_flight import BoardHead, InflightBoard
head = BoardHead("session-3", 2, ["main", "b\\n\u00e4"], ["0.requests", "1.requests", ".rows"])
board = InflightBoard.create(Path(sys.argv[1]), 2, head)
board.cells[1] = 7 + 1
board.note_unsynced(40)
board.counts[0] = 2**40
board.counts[2] = 9
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_rows_in_flight_are_read_after_the_writer_was_killed(
    tmp_path: Path, child: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = child(WRITER, tmp_path / "board")
    assert process.wait(timeout=30) == -9
    assert read_board(tmp_path / "board").in_flight == [0, 2**40, 11]


def test_a_closed_board_is_gone(tmp_path: Path) -> None:
    board = InflightBoard.create(tmp_path / "board", 3)
    board.cells[1] = 5 + 1
    board.close()
    board.close()
    assert list(tmp_path.iterdir()) == []
    assert read_board(tmp_path / "board").in_flight == []


def test_a_new_board_is_empty_whatever_lay_there(tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(b"\1" * 800)
    board = InflightBoard.create(tmp_path / "board", 3)
    assert (tmp_path / "board").stat().st_size == 32, "a cell a slot, and one for outcomes that are not yet on the disk"
    assert read_board(tmp_path / "board").in_flight == []
    board.close()


def test_a_slot_that_is_not_there_is_a_defect(tmp_path: Path) -> None:
    board = InflightBoard.create(tmp_path / "board", 3)
    with pytest.raises(IndexError):
        board.cells[4] = 1 + 1
    board.close()


def test_outcomes_not_yet_on_the_disk_count_as_maybe_billed_and_are_no_rows_in_flight(tmp_path: Path) -> None:
    board = InflightBoard.create(tmp_path / "board", 3)
    board.cells[1] = 7 + 1
    board.note_unsynced(40)
    reading = read_board(tmp_path / "board")
    assert (reading.in_flight, reading.unsynced, reading.maybe_billed) == ([7], 40, 41)
    board.note_unsynced(0)
    assert read_board(tmp_path / "board").maybe_billed == 1
    board.close()


def test_a_board_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    board = InflightBoard.create(tmp_path / "board", 3)
    board.cells[0] = 5 + 1
    board.cells[1] = 6 + 1
    (tmp_path / "copy").write_bytes((tmp_path / "board").read_bytes()[:12])
    assert read_board(tmp_path / "copy").in_flight == [5]
    board.close()


def test_counts_are_read_after_the_writer_was_killed(
    tmp_path: Path, child: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = child(COUNTER, tmp_path / "board")
    assert process.wait(timeout=30) == -9
    reading = read_board(tmp_path / "board")
    assert (reading.in_flight, reading.unsynced, reading.maybe_billed) == ([7], 40, 41)
    assert (reading.name, reading.providers) == ("session-3", ("main", "b\n\u00e4"))
    assert reading.counts == {"0.requests": 2**40, "1.requests": 0, ".rows": 9}
    data = (tmp_path / "board").read_bytes()
    for length in range(0, len(data), 7):  # cut short: what is left of it, and no count for a row
        (tmp_path / "copy").write_bytes(data[:length])
        if length > len(data) - 6 * 8:
            assert read_board(tmp_path / "copy").in_flight in ([7], [])


def test_a_board_with_a_head_is_removed_by_who_has_read_it(tmp_path: Path) -> None:
    board = InflightBoard.create(tmp_path / "board", 3, BoardHead("s-0", 3, [], ["a"]))
    board.cells[1] = 5 + 1
    with pytest.raises(IndexError):
        board.cells[4] = 1
    board.leave()
    board.leave()
    assert read_board(tmp_path / "board").in_flight == [5]
    board.close()
    assert (tmp_path / "board").exists(), "it is not this one's any more"


def test_a_full_disk_is_told_when_the_board_is_made_and_not_by_a_crash_later(small_disk: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot make the in-flight board .* free disk space"):
        InflightBoard.create(small_disk / "board", 100_000)
