"""What a run keeps is for its owner alone, whatever the umask, and nothing is written through a link."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rowmill.core.private_files import APPEND, PRIVATE, make_directory, make_file, opened, seen_by_others


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def written(fd: int, data: bytes = b"new") -> None:
    os.write(fd, data)
    os.close(fd)


@pytest.mark.parametrize("mode", [PRIVATE, 0o750, 0o2770, 0o755])
def test_files_are_as_the_directory_that_they_lie_in(tmp_path: Path, umask: int, mode: int) -> None:
    top = tmp_path / "top"
    make_directory(top, mode)
    make_directory(top / "below")
    written(make_file(top / "below" / "made"))
    written(opened(top / "below" / "appended", APPEND))
    assert mode_of(top) == mode_of(top / "below") == mode
    assert mode_of(top / "below" / "made") == mode_of(top / "below" / "appended") == mode & 0o666
    assert seen_by_others(top) == (mode != PRIVATE)


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("old")
    for name in ("old", "link"):
        make_directory(tmp_path / name, PRIVATE)
    assert mode_of(tmp_path / "old") == 0o755
    with pytest.raises(FileNotFoundError):
        make_directory(tmp_path / "none" / "below")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file", PRIVATE)


def _symbolic(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _hard(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


@pytest.mark.parametrize("link", [_symbolic, _hard])
def test_a_new_file_takes_the_place_of_a_link_and_leaves_what_it_points_to(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "path"
    victim.write_bytes(b"precious")
    link(path, victim)
    written(make_file(path))
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert victim.read_bytes() == b"precious"


def test_a_link_to_nothing_or_a_pipe_is_replaced_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        written(make_file(tmp_path / name))
        assert (tmp_path / name).read_bytes() == b"new"
    assert not (tmp_path / "none").exists()


def test_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    for flags in (APPEND, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        with pytest.raises(OSError, match="symbolic"):
            opened(tmp_path / "link", flags)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_file_that_has_content_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a line\n")
    path.chmod(0o640)
    written(opened(path, APPEND))
    assert mode_of(path) == 0o640
    assert path.read_bytes() == b"a line\nnew"
