"""What a merge writes: a file, or a directory of files, that gets its name only when it is whole.

Until then it lies beside its target as `.<name>.rowmill-part`; a directory as `.<name>.rowmill-parts`, with the former
as its lock. A directory that is replaced is first set aside as `.<name>.rowmill-old` and then removed, so for a moment
nothing has its name. Only files that are named as these are ever deleted in one: whatever else lies there is refused
before anything is touched.
"""

import errno
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rowmill.core.errors import InputError
from rowmill.core.output_codec import Join
from rowmill.store import durable
from rowmill.store.seal import damaged

FILE_BYTES = 256 << 20  # a file of a directory that has reached this size is followed by another one

_FILE_NAME = re.compile(r"part-\d{5,}\.\w+")


class SealedSection:
    """A range of bytes of a sealed shard. The file stays open only while it is being taken."""

    def __init__(self, fd: int, start: int, size: int, path: Path) -> None:
        self.fd = fd
        self.start = start
        self.size = size
        self.path = path  # for messages

    def read(self, offset: int, count: int) -> bytes:
        """Read from an offset of the section, never beyond its end."""
        return os.pread(self.fd, min(count, self.size - offset), self.start + offset)


class _OpenFile:
    """An open file that sections are joined into. `size`: bytes so far, final once it is complete."""

    def __init__(self, fd: int, path: Path, join: Join) -> None:
        self.size = 0
        self._fd = fd
        self._open = True
        self._path = path
        self._join = join
        self._write(join.begin())

    def take(self, section: SealedSection) -> None:
        """Append a section. Raise RunDirectoryError where its file is shorter than it, or damaged."""
        offset = count = 0
        if section.size:
            try:
                offset, count = self._join.add(section)
            except ValueError as error:
                raise damaged(section.path, f"is damaged: {error}") from error
        with durable.machine_errors(f"write {self._path}"):
            copied = durable.copy_range(section.fd, self._fd, section.start + offset, count)
        self.size += copied
        if copied < count:
            raise damaged(section.path, f"is {count - copied} bytes shorter than its footer said")

    def complete(self) -> None:
        """Bring it to its end and to the disk."""
        self._write(self._join.end())
        with durable.machine_errors(f"write {self._path}"):
            durable.sync_file(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        self._open = False

    def _write(self, data: bytes) -> None:
        with durable.machine_errors(f"write {self._path}"):
            durable.write_all(self._fd, data)
        self.size += len(data)


class OutputFile(_OpenFile):
    """A file in the making. All methods block."""

    def __init__(self, target: Path, join: Join) -> None:
        """Start it. Raise InputError where another run is writing the same target."""
        self.target = target.resolve()  # a link is to stay a link
        path = _beside(self.target, "rowmill-part")
        with durable.machine_errors(f"write beside the output {target}"):
            fd = _claim(path, self.target)
        try:
            super().__init__(fd, path, join)
        except BaseException:
            self.abandon()
            raise

    def publish(self) -> None:
        """Give it its name."""
        with durable.machine_errors(f"write {self.target}"):
            if not os.path.samestat(os.fstat(self._fd), self._path.stat()):
                raise OSError(errno.ENOENT, f"{self._path} was replaced")
            durable.publish(self._path, self.target)
        self.close()

    def abandon(self) -> None:
        """Remove it. Once it has its name nothing happens."""
        if self._open:
            self._path.unlink(missing_ok=True)
            self.close()


class OutputDirectory:
    """A directory of `part-00000<suffix>`, `part-00001<suffix>` ... in the making, used as an `OutputFile` is."""

    def __init__(self, target: Path, suffix: str, join: Callable[[], Join]) -> None:
        """Start it empty. Raise InputError where another run is writing it, or where other files lie in the target."""
        self.target = target.resolve()
        self.size = 0
        self._suffix = suffix
        self._join = join
        self._files = 0
        self._current: _OpenFile | None = None
        self._path = _beside(self.target, "rowmill-parts")
        self._aside = _beside(self.target, "rowmill-old")
        self._lock_path = _beside(self.target, "rowmill-part")
        with durable.machine_errors(f"write beside the output {target}"):
            self._lock: int | None = _claim(self._lock_path, self.target)
            try:
                _files_in(self.target)
                _remove_files(self._path)
                self._path.mkdir()
            except BaseException:
                self._release()
                raise

    def take(self, section: SealedSection) -> None:
        """Append a section to the last file, or to a new one where that is large enough."""
        if self._current is not None and self._current.size >= FILE_BYTES:
            self._complete_file()
        self._open_file().take(section)

    def complete(self) -> None:
        """Bring it to its end and to the disk. Without any section it has one file."""
        self._open_file()
        self._complete_file()
        with durable.machine_errors(f"write {self._path}"):
            durable.sync_directory(self._path)

    def publish(self) -> None:
        """Give it its name, and remove the files of the one that had it."""
        with durable.machine_errors(f"write {self.target}"):
            _files_in(self.target)
            _remove_files(self._aside)
            durable.publish_directory(self._path, self.target, self._aside)
            _remove_files(self._aside)
        self._release()

    def abandon(self) -> None:
        """Remove it. Once it has its name nothing happens."""
        if self._lock is not None:
            with suppress(InputError):  # a foreign file is not ours to remove, and the next merge says so
                _remove_files(self._path)
            self._release()

    def _open_file(self) -> _OpenFile:
        if self._current is None:
            path = self._path / f"part-{self._files:05d}{self._suffix}"
            with durable.machine_errors(f"write {path}"):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            self._files += 1
            try:
                self._current = _OpenFile(fd, path, self._join())
            except BaseException:
                os.close(fd)
                raise
        return self._current

    def _complete_file(self) -> None:
        assert self._current is not None
        self._current.complete()
        self.size += self._current.size
        self._current.close()
        self._current = None

    def _release(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{suffix}")


def _claim(path: Path, target: Path) -> int:
    """Open, lock and empty the file; two runs that share an output would mix their bytes in it."""
    while True:
        fd = _open_beside(path, target)
        try:
            locked = durable.lock_descriptor(fd, exclusive=True)
            ours = locked and os.path.lexists(path) and os.path.samestat(os.fstat(fd), path.lstat())
            if ours:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        if ours:
            return fd
        os.close(fd)
        if not locked:
            raise InputError(f"another run is writing {target}: wait for it, or set another output path")
        # Between our open and our lock it became somebody's finished output, which is not ours to empty.


def _open_beside(path: Path, target: Path) -> int:
    """Open the file that grows, made where it is absent, with the rights of the output that it replaces."""
    refused = InputError(f"{path} is no plain file: remove it, for the output {target} grows there")
    mode = _mode_of(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for its reader
    try:
        fd = os.open(path, flags, 0o666 if mode is None else mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise refused from None
        raise
    try:
        status = os.fstat(fd)
        usable = stat.S_ISREG(status.st_mode) and status.st_nlink == 1  # not a second name of a file, to be emptied
        if usable and mode is not None and stat.S_IMODE(status.st_mode) != mode:
            with suppress(PermissionError):
                os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    if not usable:
        os.close(fd)
        raise refused
    return fd


def _mode_of(target: Path) -> int | None:
    """Return what may be done with the output that is there, None where there is none."""
    try:
        return stat.S_IMODE(target.stat().st_mode) & 0o777 | 0o200
    except FileNotFoundError:
        return None


def _files_in(directory: Path) -> list[Path]:
    """Return a directory's output files, none where it is absent. Raise InputError where anything else lies there."""
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    for entry in entries:
        if not _FILE_NAME.fullmatch(entry.name) or not entry.is_file():
            raise InputError(f"{directory} holds {entry.name!r}, which is no part of an output: move it away")
    return entries


def _remove_files(directory: Path) -> None:
    if directory.is_symlink():
        raise InputError(f"{directory} is a link: remove it, for the files that it leads to are none of ours")
    for file in _files_in(directory):
        file.unlink()
    with suppress(FileNotFoundError):
        directory.rmdir()
