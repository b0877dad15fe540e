"""What the checkpoint and the journal of batches have in common; more of it is in their own tests."""

import asyncio
import errno
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from rowmill.core.errors import MachineError
from rowmill.store import durable
from rowmill.store.append_log import AppendLog


@dataclass
class Counted:
    """Up to where a file counts."""

    end: int


def opened(path: Path, end: int | None = None) -> AppendLog:
    """Open a log of which all counts, or only so many bytes."""
    return AppendLog.open("log", path, b"header\n", lambda: Counted(path.stat().st_size if end is None else end))[0]


def fail(fd: int) -> None:  # no disk here fails on request
    raise OSError(errno.EIO, "Input/output error")


def test_a_new_log_holds_its_header_and_what_is_appended_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(durable, "sync_data", lambda fd: synced.append((tmp_path / "a").read_bytes()))
    log = opened(tmp_path / "a")
    assert (log.end, (tmp_path / "a").read_bytes()) == (7, b"header\n")
    log.append(b"one\n")
    asyncio.run(log.append_in_thread(b"two\n"))
    assert synced == [b"header\none\n", b"header\none\ntwo\n"]
    assert log.end == 15
    log.close()
    assert opened(tmp_path / "a").end == 15


def test_a_torn_tail_is_cut_and_what_is_left_is_synced_before_anything_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"header\none\ntorn")
    synced: list[bytes] = []
    monkeypatch.setattr(durable, "sync_file", lambda fd: synced.append((tmp_path / "a").read_bytes()))
    log = opened(tmp_path / "a", 11)
    assert synced == [b"header\none\n"]
    log.append(b"two\n")
    assert (tmp_path / "a").read_bytes() == b"header\none\ntwo\n"


def test_what_a_failed_sync_has_left_is_taken_away_and_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_data", fail)
        with pytest.raises(MachineError, match=r"^cannot write the log .*/a: Input/output error; check the disk"):
            log.append(b"one\n")
    with pytest.raises(MachineError, match="Input/output error"):
        log.append(b"two\n")
    assert (log.end, (tmp_path / "a").read_bytes()) == (7, b"header\n")
    log.close()
    log.close()
    with pytest.raises(MachineError, match=r"^the log .*/a is closed$"):
        log.check()


def test_a_write_that_is_cancelled_is_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread goes on, and nobody knows for how long."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        assert may_end.wait(20)

    async def run(log: AppendLog) -> None:
        writing = asyncio.ensure_future(log.append_in_thread(b"one\n"))
        assert await asyncio.to_thread(begun.wait, 20)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with pytest.raises(MachineError, match=r"^cannot write the log .*/a: an earlier write was broken off; run the"):
            log.check()
        may_end.set()

    monkeypatch.setattr(durable, "sync_data", slow)
    asyncio.run(run(opened(tmp_path / "a")))
    assert (tmp_path / "a").read_bytes() == b"header\none\n"
