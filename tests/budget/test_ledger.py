"""The file of what a run has spent."""

from math import inf
from pathlib import Path

import pytest

from rowmill.budget import ledger as spending
from rowmill.budget.ledger import Spending, SpendingLine
from rowmill.core.amounts import Amount, Spent
from rowmill.core.errors import ExitCode, MachineError, RunDirectoryError


def made() -> Spending:
    line = SpendingLine(
        provider="main",
        model="m-1",
        mode="live",
        spent=Spent(10, 1000, 200, 300),
        wasted=Spent(1, 100, 0, 30),
        lost=Spent(2, 200, 0, 60),
    )
    return Spending(
        lines=[line],
        outstanding=Amount(5.0, 500.0, 0.125),
        lost=Amount(1.0, 50.0, 0.25),
        spared=Spent(3, 30, 0, 9),
        packed_tokens=77,
    )


def test_without_a_file_nothing_was_spent(tmp_path: Path) -> None:
    assert spending.load(tmp_path / "spending.json") == Spending()


@pytest.mark.parametrize("sync", [False, True])
def test_what_was_spent_reads_back(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "spending.json"
    spending.save(path, Spending(), sync=sync)
    spending.save(path, made(), sync=sync)
    assert spending.load(path) == made()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_session_had_handed_out_counts_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "spending.json"
    spending.save(path, made(), sync=False)
    begun = spending.resumed(spending.load(path))
    assert begun.outstanding == Amount()
    assert begun.lost == Amount(6.0, 550.0, 0.375)
    assert begun.lines == made().lines
    assert spending.resumed(begun) == begun


def test_what_is_not_limited_is_not_written_as_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "spending.json"
    spending.save(path, Spending(outstanding=Amount(inf, 5.0, inf)), sync=False)
    assert spending.load(path).outstanding == Amount(0.0, 5.0, 0.0)


def test_a_line_is_found_or_made() -> None:
    there = made()
    assert there.line("main", "m-1", "live") is there.lines[0]
    new = there.line("main", "m-1", "batch")
    assert new.spent == Spent()
    assert there.line("main", "m-1", "batch") is new
    assert Spending().lines == []


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b'{"lines": [', b'{"lines": 5}', b"\xff\xfe", b"[]", b"[" * 100_000]
)
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spending.json"
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"spending\.json.*is damaged.*backup, or move it away") as caught:
        spending.load(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.RUN_DIRECTORY


def test_a_file_of_a_later_version_with_more_in_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spending.json"
    path.write_bytes(b'{"lines": [], "packed_tokens": 3, "something": {"new": 1}}')
    assert spending.load(path) == Spending(packed_tokens=3)


@pytest.mark.parametrize("sync", [False, True])
def test_on_a_full_disk_the_old_file_stays(small_disk: Path, sync: bool) -> None:
    path = small_disk / "spending.json"
    spending.save(path, made(), sync=sync)
    many = Spending(lines=[SpendingLine(provider="p" * 100, model=str(each), mode="live") for each in range(2000)])
    with pytest.raises(MachineError, match="free disk space"):
        spending.save(path, many, sync=sync)
    assert spending.load(path) == made()
    assert list(small_disk.iterdir()) == [path]


def test_a_session_that_cannot_be_read_is_no_reason_to_forget_what_was_spent(tmp_path: Path) -> None:
    path = tmp_path / "spending.json"
    spending.save(path, made(), sync=False)
    path.write_bytes(path.read_bytes().replace(b'"session": null', b'"session": {"started": 7}'))
    assert spending.load(path) == made()
    path.write_bytes(path.read_bytes().replace(b'"packed_tokens": 77', b'"packed_tokens": "many"'))
    with pytest.raises(RunDirectoryError, match="damaged"):
        spending.load(path)
