"""The one module that syncs, renames, locks and copies files.

What is guaranteed:

- **A killed process (SIGKILL) loses nothing that `write` has returned for.** The bytes are in the kernel's cache and
  outlive the process. No call of this module is needed for that.
- **A power loss or a kernel crash loses nothing that was synced** before: `sync_data` and `sync_file` for the bytes of
  a file, `sync_directory` for the name of a new or renamed one. `replace_durably` and `publish` do all of it, and a
  reader sees the whole old file or the whole new one at every moment.
- **A lock is given back when its holder dies**, however it dies: `flock` belongs to the open file, and the kernel
  closes it.

What is not:

- A drive that reports a flush as done while its cache can still lose it, and network file systems with weaker rules.
- **A failed sync.** The kernel reports it once and drops the pages, so a second sync would succeed and mean nothing.
  Nothing here retries one: whoever gets the error must treat everything since the last good sync as lost.
- Locks exclude only those who ask for them.
"""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rowmill.core import private_files
from rowmill.core.errors import MachineError

_COPY_BYTES = 256 << 20  # asked of the kernel in one call: it cannot be interrupted in the middle
_READ_BYTES = 1 << 20  # per read where the kernel cannot copy by itself
_LOCK_POLL_S = 0.05  # flock has no timeout; a lock's end is seen this much late at most

_ROOM = "free disk space and run the same command again"
_FILES = "raise the limit on open files (ulimit -n) and run the same command again"
_DISK = "check the disk, then run the same command again"
_ACCESS = "make the place writable and run the same command again"
_PLACE = "a file or a directory lies where the other should be: put that right and run the same command again"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run the same command again",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: "free memory and run the same command again",
    errno.EIO: _DISK,
    errno.ENXIO: _DISK,
    errno.ENODEV: _DISK,
    errno.ESTALE: _DISK,
    errno.EROFS: _ACCESS,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.ENOENT: "put back what was moved or removed, and run the same command again",
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: _PLACE,
    errno.ELOOP: "remove the symbolic link that lies there and run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name for output.path or checkpoint.dir",
    errno.ENOLCK: "put the run directory on a file system that has file locks",
}
_CANNOT_COPY = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a lock exclusively, as written in the lock's file by the holder itself."""

    pid: int
    host: str
    since: str  # ISO 8601, UTC


class Locked(Exception):
    """Somebody else holds the lock. `holder` is None for shared holders, who leave no name."""

    def __init__(self, path: Path, holder: LockHolder | None) -> None:
        super().__init__(f"{path} is locked")
        self.holder = holder


@contextmanager
def machine_errors(doing: str, *, absent: bool = False) -> Iterator[None]:
    """Turn what the machine refuses (disk full, no descriptors, no access, I/O) into a one-line `MachineError`.

    `doing` names the act and the path, in the form that follows "cannot": "write the checkpoint runs/a/000001.ckpt".
    absent: that a file is not there means something to the caller, and passes. Other errors pass: they are defects.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE or (absent and error.errno == errno.ENOENT):
            raise
        raise machine_error(doing, error) from error


def machine_error(doing: str, error: OSError) -> MachineError:
    """Return the one line for any error of the machine, also for the ones that `machine_errors` lets pass."""
    return MachineError(f"cannot {doing}: {error.strerror or error}; {_ADVICE.get(error.errno or 0, _DISK)}")


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte. One call of `write` may not take all, a signal or a full disk being the reason."""
    done = os.write(fd, data)
    if done < len(data):
        rest = memoryview(data)[done:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def sync_data(fd: int) -> None:
    """Bring a file's bytes and its length to the disk. Never call it again after it raised."""
    os.fdatasync(fd)


def sync_file(fd: int) -> None:
    """Bring a file's bytes and all its metadata to the disk. Never call it again after it raised."""
    os.fsync(fd)


def sync_path(path: Path) -> None:
    """Bring a file that others have written and closed to the disk."""
    with machine_errors(f"write {path}"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(temporary: Path, final: Path) -> None:
    """Give a file that is already synced its final name, replacing what had it. Both must be in one directory."""
    os.replace(temporary, final)  # noqa: PTH105 - the same call, named in full here because the module is about it
    sync_directory(final.parent)


def publish_written(temporary: Path, final: Path) -> None:
    """Bring a file to the disk that was written, and give it its final name. Raises `MachineError` as it may."""
    with machine_errors(f"write {final}"):
        sync_path(temporary)
        publish(temporary, final)


def publish_directory(temporary: Path, final: Path, aside: Path) -> None:
    """Give a directory its final name; the one that had it gets the name `aside`, which must be free.

    What is in the new one must be synced already, its names included. All three must be in one directory. Unlike a file
    it takes two renames: a crash between them leaves nothing under the name, and the old directory aside.
    """
    with suppress(FileNotFoundError):
        final.rename(aside)
    temporary.rename(final)
    sync_directory(final.parent)


def move(path: Path, target: Path) -> None:
    """Give a file or a directory another name, which must be free, durably."""
    path.rename(target)
    sync_directory(target.parent)
    if target.parent != path.parent:
        sync_directory(path.parent)


def replace_durably(path: Path, data: bytes) -> None:
    """Make `data` the whole content of `path`. At every moment a reader finds the old content or the new one."""
    _replace(path, data, sync=True)


def replace_unsynced(path: Path, data: bytes) -> None:
    """Do as `replace_durably` does, but without waiting for the disk.

    A killed process loses nothing. A power loss soon after may leave the old content, the new one, or an empty file.
    """
    _replace(path, data, sync=False)


def _replace(path: Path, data: bytes, *, sync: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = private_files.make_file(temporary)
    try:
        try:
            write_all(fd, data)
            if sync:
                sync_file(fd)
        finally:
            os.close(fd)
        if sync:
            publish(temporary, path)
        else:
            os.replace(temporary, path)  # noqa: PTH105 - as in `publish`
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_at(path: Path, start: int, data: bytes, *, sync: bool = True) -> None:
    """Bring bytes to the disk that a file is to have from this offset on, up to its new end.

    sync: False: not yet, for there is more to come. Raises OSError; then the file ends at the offset, or has what was
    written and not synced taken away again.
    """
    fd = private_files.opened(path, os.O_WRONLY)
    try:
        size = os.fstat(fd).st_size
        if size < start:
            raise OSError(errno.EIO, f"it has {size} bytes and had {start}")
        if size > start:
            os.ftruncate(fd, start)
        os.lseek(fd, start, os.SEEK_SET)
        try:
            write_all(fd, data)
            if sync:
                sync_data(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, start)
            raise
    finally:
        os.close(fd)


def set_aside(path: Path, aside: Path, replacement: Path) -> None:
    """Give the file at `path` the name `aside` and put `replacement` (already synced) in its place.

    `path` names one of the two files at every moment. `aside` must be free.
    """
    try:
        os.link(path, aside)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        _copy_file(path, aside)  # a file system without hard links
    sync_directory(path.parent)
    publish(replacement, path)


def copy_range(source: int, target: int, offset: int, count: int) -> int:
    """Copy `count` bytes from `offset` of one file to the current position of another; inside the kernel if it can.

    Return the bytes copied: fewer than `count` only where the source ends. Neither file may be opened for appending.
    """
    left = count
    for copy in (_copy_by_range, _copy_by_sendfile, _copy_by_reading):
        while left:
            try:
                done = copy(source, target, offset + count - left, left)
            except OSError as error:
                if copy is _copy_by_reading or error.errno not in _CANNOT_COPY:
                    raise
                break
            if not done:
                break  # the end of the source, or a file system that answers 0 instead of an error: ask the next one
            left -= done
    return count - left


def _copy_by_range(source: int, target: int, offset: int, count: int) -> int:
    return os.copy_file_range(source, target, min(count, _COPY_BYTES), offset_src=offset)


def _copy_by_sendfile(source: int, target: int, offset: int, count: int) -> int:
    return os.sendfile(target, source, offset, min(count, _COPY_BYTES))


def _copy_by_reading(source: int, target: int, offset: int, count: int) -> int:
    data = os.pread(source, min(count, _READ_BYTES), offset)
    write_all(target, data)
    return len(data)


def _copy_file(path: Path, copy: Path) -> None:
    with (
        path.open("rb") as source,
        os.fdopen(private_files.opened(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target,
    ):
        copy_range(source.fileno(), target.fileno(), 0, os.fstat(source.fileno()).st_size)
        sync_file(target.fileno())


def lock_descriptor(fd: int, *, exclusive: bool) -> bool:
    """Lock an open file without waiting. Return whether it worked; closing the file gives the lock back."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_file(path: Path, *, exclusive: bool, announce: bool = True) -> int:
    """Lock the file at `path`, made where it is absent, and return its descriptor; closing it gives the lock back.

    An exclusive holder writes who it is into the file, unless `announce` is False.
    Raise `Locked` with the holder where somebody else has it.
    """
    fd = private_files.opened(path, os.O_RDWR | os.O_CREAT)
    try:
        locked = lock_descriptor(fd, exclusive=exclusive)
        holder = None if locked else read_holder(fd)
        if locked and exclusive:
            os.ftruncate(fd, 0)
            if announce:
                us = LockHolder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
                os.pwrite(fd, msgspec.json.encode(us) + b"\n", 0)
    except BaseException:
        os.close(fd)
        raise
    if not locked:
        os.close(fd)
        raise Locked(path, holder)
    return fd


def wait_for_lock(
    path: Path,
    *,
    exclusive: bool,
    timeout_s: float,
    announce: bool = True,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Do as `lock_file` does, but wait for up to `timeout_s` seconds before raising `Locked`. Blocks the thread."""
    give_up = clock() + timeout_s
    while True:
        try:
            return lock_file(path, exclusive=exclusive, announce=announce)
        except Locked:
            if clock() >= give_up:
                raise
        sleep(_LOCK_POLL_S)


def read_holder(fd: int) -> LockHolder | None:
    """Return who wrote itself into an open lock file; None where nobody did."""
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=LockHolder)
    except msgspec.DecodeError:
        return None
