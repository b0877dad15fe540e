"""The file operations that everything else relies on."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.errors import MachineError
from rowmill.store import durable

HOLD = """
import sys
from pathlib import Path
from rowmill.store.durable import lock_file
lock_file(Path(sys.argv[1]), exclusive=sys.argv[2] == "exclusive")
print("held", flush=True)
sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[str]"]


def held_by(child: Start, path: Path, how: str) -> "subprocess.Popen[str]":
    process = child(HOLD, path, how)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.replace_durably(path, b"old")
    durable.replace_durably(path, b"new content")
    assert path.read_bytes() == b"new content"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """Give what is brought to the disk: its name, and the names beside it (of a directory: in it) at that time."""
    found: list[tuple[str, list[str]]] = []

    def note(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        found.append((path.name, sorted(each.name for each in (path if path.is_dir() else path.parent).iterdir())))

    monkeypatch.setattr(os, "fsync", note)
    return found


def test_a_new_name_is_brought_to_the_disk_after_the_bytes_and_before_anybody_trusts_it(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    here = tmp_path.name
    durable.replace_durably(tmp_path / "a", b"1")
    (temporary, before), after = synced
    assert (before, after) == ([temporary], (here, ["a"]))
    synced.clear()
    (tmp_path / "new").write_bytes(b"2")
    durable.publish(tmp_path / "new", tmp_path / "a")
    assert synced == [(here, ["a"])]
    synced.clear()
    (tmp_path / "new").write_bytes(b"3")
    durable.publish_written(tmp_path / "new", tmp_path / "a")
    assert synced == [("new", ["a", "new"]), (here, ["a"])]
    synced.clear()
    (tmp_path / "new").write_bytes(b"4")
    durable.set_aside(tmp_path / "a", tmp_path / "aside", tmp_path / "new")
    assert synced == [(here, ["a", "aside", "new"]), (here, ["a", "aside"])]
    synced.clear()
    for name in ("folder", "new"):
        (tmp_path / name).mkdir()
    durable.publish_directory(tmp_path / "new", tmp_path / "folder", tmp_path / "old")
    assert synced == [(here, ["a", "aside", "folder", "old"])]


def test_a_replacement_that_does_not_fit_leaves_the_old_file_and_no_other(small_disk: Path) -> None:
    path = small_disk / "file"
    durable.replace_durably(path, b"old")
    with pytest.raises(OSError, match="No space"):
        durable.replace_durably(path, b"x" * 1_000_000)
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["in the kernel", "where the kernel refuses"])
def test_a_range_is_copied_to_the_end_of_the_target(tmp_path: Path, flags: int) -> None:
    # For a target in append mode both copy_file_range and sendfile fail, so that the copy by reading is left.
    data = os.urandom(3 << 20)
    (tmp_path / "source").write_bytes(data)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT | flags)
    with (tmp_path / "source").open("rb") as source:
        assert durable.copy_range(source.fileno(), target, 1000, 2_500_000) == 2_500_000
        assert durable.copy_range(source.fileno(), target, 0, 10) == 10
    os.close(target)
    assert (tmp_path / "target").read_bytes() == data[1000:2_501_000] + data[:10]


def test_a_range_is_copied_between_file_systems(tmp_path: Path, small_disk: Path) -> None:
    data = os.urandom(100_000)
    (small_disk / "source").write_bytes(data)
    with (small_disk / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        assert durable.copy_range(source.fileno(), target.fileno(), 0, len(data)) == len(data)
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["in the kernel", "where the kernel refuses"])
def test_a_source_that_ends_early_is_told_by_the_count(tmp_path: Path, flags: int) -> None:
    (tmp_path / "source").write_bytes(b"0123456789")
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT | flags)
    with (tmp_path / "source").open("rb") as source:
        assert durable.copy_range(source.fileno(), target, 4, 100) == 6
    os.close(target)
    assert (tmp_path / "target").read_bytes() == b"456789"


def test_every_byte_is_written_where_one_write_does_not_take_all(child: Start) -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    reader = subprocess.Popen(["wc", "-c"], stdin=read_end, stdout=subprocess.PIPE, text=True)
    os.close(read_end)
    signal.signal(signal.SIGALRM, lambda *_: None)  # its arrival ends a blocked write early
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        durable.write_all(write_end, bytes(5_000_000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.close(write_end)
    assert reader.communicate()[0].strip() == "5000000"


def test_a_file_is_set_aside_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "fresh").write_bytes(b"new")
    durable.set_aside(tmp_path / "file", tmp_path / "aside", tmp_path / "fresh")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "aside").read_bytes() == b"old"
    assert not (tmp_path / "fresh").exists()


def test_a_file_is_never_set_aside_over_another(tmp_path: Path) -> None:
    for name in ("file", "fresh", "aside"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        durable.set_aside(tmp_path / "file", tmp_path / "aside", tmp_path / "fresh")
    assert {name: (tmp_path / name).read_text() for name in ("file", "aside")} == {"file": "file", "aside": "aside"}


def test_an_exclusive_lock_of_another_process_is_refused_with_its_name(tmp_path: Path, child: Start) -> None:
    process = held_by(child, tmp_path / "lock", "exclusive")
    for exclusive in (True, False):
        with pytest.raises(durable.Locked) as caught:
            durable.lock_file(tmp_path / "lock", exclusive=exclusive)
        assert caught.value.holder is not None
        assert caught.value.holder.pid == process.pid
        assert caught.value.holder.host == os.uname().nodename


def test_a_lock_ends_with_its_holder_killed(tmp_path: Path, child: Start) -> None:
    process = held_by(child, tmp_path / "lock", "exclusive")
    process.kill()
    os.close(durable.wait_for_lock(tmp_path / "lock", exclusive=True, timeout_s=20))
    assert f'"pid":{os.getpid()}' in (tmp_path / "lock").read_text()


def test_shared_locks_go_together_and_keep_an_exclusive_one_out(tmp_path: Path, child: Start) -> None:
    processes = [held_by(child, tmp_path / "lock", "shared") for _ in range(2)]
    os.close(durable.lock_file(tmp_path / "lock", exclusive=False))
    with pytest.raises(durable.Locked) as caught:
        durable.lock_file(tmp_path / "lock", exclusive=True)
    assert caught.value.holder is None
    processes[0].kill()
    processes[0].wait()
    with pytest.raises(durable.Locked):
        durable.lock_file(tmp_path / "lock", exclusive=True)


def test_waiting_for_a_lock_ends_at_its_timeout(tmp_path: Path) -> None:
    fd = durable.lock_file(tmp_path / "lock", exclusive=True)
    now, waited = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        waited.append(seconds)

    with pytest.raises(durable.Locked):
        durable.wait_for_lock(tmp_path / "lock", exclusive=True, timeout_s=2.0, clock=lambda: now, sleep=sleep)
    assert 2.0 <= sum(waited) < 2.2
    os.close(fd)


def test_a_lock_is_not_inherited_by_a_program_that_is_started(tmp_path: Path) -> None:
    fd = durable.lock_file(tmp_path / "lock", exclusive=True)
    sleeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    os.close(fd)
    os.close(durable.lock_file(tmp_path / "lock", exclusive=True))
    sleeper.communicate()


def test_a_full_disk_becomes_one_line_that_says_what_to_do() -> None:
    with (
        pytest.raises(
            MachineError, match=r"^cannot write x: No space left on device; free disk space and run"
        ) as caught,
        durable.machine_errors("write x"),
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123 - a device, not a file of ours
    ):
        full.write(b"x")
    assert "\n" not in str(caught.value)


def test_running_out_of_descriptors_becomes_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with (
            pytest.raises(MachineError, match=r"^cannot lock it: Too many open files; raise the limit on open files"),
            durable.machine_errors("lock it"),
        ):
            durable.lock_file(tmp_path / "lock", exclusive=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES, errno.EFBIG],
)
def test_every_refusal_of_the_machine_has_advice(number: int) -> None:
    with pytest.raises(MachineError, match="run the same command again"), durable.machine_errors("do it"):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), durable.machine_errors("read it", absent=True):
        (tmp_path / "absent").read_bytes()
