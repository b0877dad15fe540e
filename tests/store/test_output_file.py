"""A file or a directory in the making: joined from sections, whole under its name or not there."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowmill.core.errors import InputError, MachineError, RunDirectoryError
from rowmill.core.output_codec import Join, Section
from rowmill.store import durable, output_file
from rowmill.store.output_file import OutputDirectory, OutputFile, SealedSection

Start = Callable[..., "subprocess.Popen[str]"]
Cut = Callable[[bytes], SealedSection]


class Framed(Join):
    """Puts a file's sections, but their first bytes, between < and >, and counts them."""

    def __init__(self) -> None:
        super().__init__(b"<")
        self._count = 0

    def add(self, section: Section, /) -> tuple[int, int]:
        if section.read(0, 1) == b"!":
            raise ValueError("it begins with !")
        self._count += 1
        return 1, section.size - 1

    def end(self) -> bytes:
        return b">%d" % self._count


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Cut]:
    """Give a section with these bytes, somewhere in a file."""
    opened: list[int] = []

    def make(data: bytes) -> SealedSection:
        path = tmp_path / "sections" / f"{len(opened)}.sealed"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"before" + data + b"behind")
        opened.append(os.open(path, os.O_RDONLY))
        return SealedSection(opened[-1], 6, len(data), path)

    yield make
    for fd in opened:
        os.close(fd)


def made(target: Path, *sections: SealedSection) -> OutputDirectory:
    directory = OutputDirectory(target, ".x", Framed)
    for section in sections:
        directory.take(section)
    directory.complete()
    return directory


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_a_file_is_what_its_join_makes_of_the_sections(tmp_path: Path, cut: Cut) -> None:
    file = OutputFile(tmp_path / "out", Framed())
    for data in (b"-abc", b"", b"-d"):
        file.take(cut(data))
    file.complete()
    assert file.size == 7
    file.publish()
    assert (tmp_path / "out").read_bytes() == b"<abcd>2"


def test_a_section_that_does_not_fit_is_refused_by_name(tmp_path: Path, cut: Cut) -> None:
    file = OutputFile(tmp_path / "out", Framed())
    with pytest.raises(RunDirectoryError, match=r"/0\.sealed is damaged: it begins with !\. Move it out"):
        file.take(cut(b"!abc"))
    file.abandon()


def test_nobody_reads_beyond_a_section(cut: Cut) -> None:
    assert cut(b"abc").read(1, 100) == b"bc"


def test_a_directory_has_its_name_only_when_it_is_whole(tmp_path: Path, cut: Cut) -> None:
    directory = made(tmp_path / "out", cut(b"-abc"), cut(b"-d"))
    assert not (tmp_path / "out").exists()
    directory.publish()
    directory.abandon()
    assert content(tmp_path / "out") == {"part-00000.x": b"<abcd>2"}
    assert directory.size == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sections"]


def test_a_file_that_is_large_enough_is_followed_by_another_one(
    tmp_path: Path, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file, "FILE_BYTES", 5)
    made(tmp_path / "out", *(cut(b"-" + data) for data in (b"ab", b"cdef", b"g", b"hijklm", b"n"))).publish()
    assert content(tmp_path / "out") == {
        "part-00000.x": b"<abcdef>2",
        "part-00001.x": b"<ghijklm>2",
        "part-00002.x": b"<n>1",
    }


def test_a_directory_without_sections_has_one_file(tmp_path: Path) -> None:
    made(tmp_path / "out").publish()
    assert content(tmp_path / "out") == {"part-00000.x": b"<>0"}


def test_an_earlier_directory_stays_until_the_new_one_is_there_and_goes_then(
    tmp_path: Path, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file, "FILE_BYTES", 1)
    made(tmp_path / "out", cut(b"-a"), cut(b"-b"), cut(b"-c")).publish()
    directory = made(tmp_path / "out", cut(b"-new"))
    assert len(content(tmp_path / "out")) == 3
    directory.publish()
    assert content(tmp_path / "out") == {"part-00000.x": b"<new>1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sections"]


def test_an_empty_directory_is_taken(tmp_path: Path, cut: Cut) -> None:
    (tmp_path / "out").mkdir()
    made(tmp_path / "out", cut(b"-a")).publish()
    assert content(tmp_path / "out") == {"part-00000.x": b"<a>1"}


@pytest.mark.parametrize("foreign", ["notes.txt", "part-00000.x.bak", "part-1.x", "part-00007.x/"])
def test_a_directory_with_anything_else_in_it_is_left_alone(tmp_path: Path, cut: Cut, foreign: str) -> None:
    made(tmp_path / "out", cut(b"-a")).publish()
    directory = made(tmp_path / "out", cut(b"-b"))
    (tmp_path / "out" / foreign).mkdir() if foreign.endswith("/") else (tmp_path / "out" / foreign).touch()
    with pytest.raises(InputError, match=rf"out holds '{foreign.rstrip('/')}', which is no part of an output"):
        directory.publish()
    directory.abandon()
    with pytest.raises(InputError, match="which is no part of an output"):
        OutputDirectory(tmp_path / "out", ".x", Framed)
    assert (tmp_path / "out" / "part-00000.x").read_bytes() == b"<a>1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sections"]


def test_what_a_killed_merge_left_is_not_in_the_output(tmp_path: Path, cut: Cut) -> None:
    for name in (".out.rowmill-parts", ".out.rowmill-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-00003.x").write_bytes(b"left")
    (tmp_path / ".out.rowmill-part").touch()
    made(tmp_path / "out", cut(b"-a")).publish()
    assert content(tmp_path / "out") == {"part-00000.x": b"<a>1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sections"]


@pytest.mark.parametrize("name", [".out.rowmill-parts", ".out.rowmill-old"])
def test_what_a_link_leads_to_is_not_removed(tmp_path: Path, cut: Cut, name: str) -> None:
    made(tmp_path / "elsewhere", cut(b"-a")).publish()
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(InputError, match=rf"{name} is a link: remove it"):
        made(tmp_path / "out", cut(b"-b")).publish()
    assert content(tmp_path / "elsewhere") == {"part-00000.x": b"<a>1"}


@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "pipe", "directory"])
@pytest.mark.parametrize("directory", [False, True])
def test_nothing_is_written_through_what_lies_where_the_output_grows(
    tmp_path: Path, kind: str, *, directory: bool
) -> None:
    victim, path = tmp_path / "victim", tmp_path / ".out.rowmill-part"
    victim.write_bytes(b"precious")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "hard":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if kind == "symbolic" else tmp_path / "none")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"\.out\.rowmill-part is no plain file: remove it"):
        OutputDirectory(tmp_path / "out", ".x", Framed) if directory else OutputFile(tmp_path / "out", Framed())
    assert victim.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_an_output_keeps_the_rights_of_the_one_that_it_replaces(
    tmp_path: Path, cut: Cut, mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        target = tmp_path / "out"
        for expected in (0o666 & ~umask, mode):
            file = OutputFile(target, Join())
            assert (tmp_path / ".out.rowmill-part").stat().st_mode & 0o777 == expected
            file.take(cut(b"a"))
            file.complete()
            file.publish()
            assert target.stat().st_mode & 0o777 == expected
            target.chmod(mode)
    finally:
        os.umask(before)


def test_abandoning_leaves_the_earlier_directory_and_nothing_else(tmp_path: Path, cut: Cut) -> None:
    made(tmp_path / "out", cut(b"-a")).publish()
    directory = OutputDirectory(tmp_path / "out", ".x", Framed)
    directory.take(cut(b"-b"))
    directory.abandon()
    directory.abandon()
    assert content(tmp_path / "out") == {"part-00000.x": b"<a>1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sections"]


def test_two_runs_with_one_directory_do_not_mix(tmp_path: Path) -> None:
    first = OutputDirectory(tmp_path / "out", ".x", Framed)
    with pytest.raises(InputError, match=r"another run is writing .*/out"):
        OutputDirectory(tmp_path / "out", ".x", Framed)
    first.complete()
    first.publish()
    OutputDirectory(tmp_path / "out", ".x", Framed).abandon()


def test_a_linked_directory_stays_a_link(tmp_path: Path, cut: Cut) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere/real")
    made(tmp_path / "out", cut(b"-a")).publish()
    assert (tmp_path / "out").is_symlink()
    assert content(tmp_path / "elsewhere" / "real") == {"part-00000.x": b"<a>1"}


def test_a_full_disk_ends_it_and_leaves_the_earlier_directory(tmp_path: Path, small_disk: Path, cut: Cut) -> None:
    made(small_disk / "out", cut(b"-a")).publish()
    directory = OutputDirectory(small_disk / "out", ".x", Framed)
    with pytest.raises(MachineError, match="No space left on device; free disk space"):
        directory.take(cut(b"-" + bytes(400_000)))
    directory.abandon()
    assert content(small_disk / "out") == {"part-00000.x": b"<a>1"}
    assert [path.name for path in small_disk.iterdir()] == ["out"]


def test_everything_is_on_the_disk_before_the_name(tmp_path: Path, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync_file, sync_directory = durable.sync_file, durable.sync_directory

    def note_file(fd: int) -> None:
        done.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        sync_file(fd)

    def note_directory(path: Path) -> None:
        done.append(f"{path.name}/ {(tmp_path / 'out').exists()}")
        sync_directory(path)

    monkeypatch.setattr(output_file, "FILE_BYTES", 1)
    monkeypatch.setattr(durable, "sync_file", note_file)
    monkeypatch.setattr(durable, "sync_directory", note_directory)
    made(tmp_path / "out", cut(b"-a"), cut(b"-b")).publish()
    assert done == ["part-00000.x", "part-00001.x", ".out.rowmill-parts/ False", f"{tmp_path.name}/ True"]


PUBLISH = """
import os, sys
from pathlib import Path
from rowmill.core.output_codec import Join
from rowmill.store import output_file
output_file.FILE_BYTES = 1
place = Path(sys.argv[1])
fd = os.open(place / "sealed", os.O_RDONLY)
directory = output_file.OutputDirectory(place / "out", ".x", Join)
for number in range(4):
    directory.take(output_file.SealedSection(fd, number * 50_000, 50_000, place / "sealed"))
    print(number, flush=True)
directory.complete()
print("complete", flush=True)
directory.publish()
print("published", flush=True)
sys.stdin.read()  # until the kill
"""


def test_killed_at_any_moment_a_directory_is_the_old_one_or_absent_or_the_whole_new_one(
    tmp_path: Path, child: Start
) -> None:
    data = os.urandom(200_000)
    (tmp_path / "sealed").write_bytes(data)
    old = {"part-00000.x": b"old", "part-00001.x": b"old"}
    new = {f"part-{number:05d}.x": data[number * 50_000 : (number + 1) * 50_000] for number in range(4)}
    seen = []
    for last_words in ["0", *["complete"] * 3, "published"]:
        (tmp_path / "out").mkdir(exist_ok=True)
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        for name, text in old.items():
            (tmp_path / "out" / name).write_bytes(text)
        process = child(PUBLISH, tmp_path)
        assert process.stdout is not None
        while process.stdout.readline().strip() != last_words:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = content(tmp_path / "out") if (tmp_path / "out").exists() else None
        assert found in (old, None, new)
        seen.append(found)
        again = child(PUBLISH, tmp_path)  # the same command again
        assert again.stdout is not None
        while again.stdout.readline().strip() != "published":
            pass
        again.kill()
        assert content(tmp_path / "out") == new
        assert not list(tmp_path.glob(".out.*"))
    assert old in seen
    assert new in seen
