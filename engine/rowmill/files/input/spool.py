"""Lines made of the user's files, written once into the run directory, where workers read them by byte ranges.

Writing is a tee: every block is handed to the kernel before it is passed on to be cut into shards, so that a shard can
be read by another process as soon as it is known. Nothing is synced here. The same input gives the same bytes.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rowmill.core import private_files
from rowmill.core.errors import MachineError

_FIRST = 1 << 20  # bytes of a first row that are looked at
_BLOCK = 1 << 20
_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def spooled(blocks: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Write each block to the file, which is made anew, then yield it. Raises `MachineError` where it cannot."""
    try:
        file = private_files.make_file(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        for block in blocks:
            _write(file, block, path)
            yield block
    finally:
        os.close(file)


def behind(path: Path) -> Path:
    """Return the file for what came behind the bytes of a spool's file, which stays as it is until that is planned."""
    return path.with_name(f"{path.name}.more")


def take_behind(path: Path, start: int) -> None:
    """Bring what came behind a file's bytes into it, from this one on. Raises `MachineError` where it cannot."""
    more = behind(path)
    try:
        file = private_files.opened(path, os.O_WRONLY)
        try:
            os.ftruncate(file, start)
            os.lseek(file, start, os.SEEK_SET)
            with more.open("rb", buffering=0) as new:
                while block := new.read(_BLOCK):
                    _write(file, block, path)
        finally:
            os.close(file)
        os.truncate(more, 0)
    except OSError as error:
        raise cannot_write(path, error) from error


def ready(spool: Path) -> Path:
    """Return the spool's directory, which is made where it is missing. Raises `MachineError`."""
    try:
        private_files.make_directory(spool)
    except OSError as error:
        raise cannot_write(spool, error) from error
    return spool


def first_row(path: Path) -> dict[str, Any] | None:
    """Return the first row of a spool's file; None where there is none, or none that is whole and can be read."""
    try:
        with path.open("rb") as file:
            row = json.loads(file.readline(_FIRST))
    except (OSError, ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def cannot_write(path: Path, error: OSError) -> MachineError:
    """Return what to tell where the machine refuses to write a spool file."""
    advice = "free disk space" if error.errno in _ROOM else "check the disk"
    return MachineError(
        f"cannot write the input's rows to {path}: {error.strerror or error}; {advice} and run the same command again"
    )


def _write(file: int, block: bytes, path: Path) -> None:
    rest = memoryview(block)
    while rest:  # one call may not take all
        try:
            rest = rest[os.write(file, rest) :]
        except OSError as error:
            raise cannot_write(path, error) from error
