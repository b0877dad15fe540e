"""A file of records (see `framing`) that only grows: a shard's checkpoint is one, and so is the journal of batches.

- Its first record, the header, is on the disk before the file has its name.
- What is appended counts once `append` has returned: it is written and synced then.
- After a failure nothing is written any more: what the disk has is found out by opening the file anew. What a failed
  write has left may be good, and stays; what a failed sync has left is taken away at once.
- What a crash leaves behind the last byte that counts, a **torn tail**, is cut off on opening. Up to where a file
  counts, and what is damage, its reader says: `recovery` and `batch_records`.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, Self, TypeVar

from rowmill.core import private_files
from rowmill.core.errors import MachineError
from rowmill.store import durable


class Reading(Protocol):
    """What a log was found to hold."""

    end: int  # bytes that count


# Takes what was written from one offset to another to where it counts; returns once it does. Raises OSError.
Carry = Callable[[int, int], Awaitable[None]]

R = TypeVar("R", bound=Reading)


class AppendLog:
    """The end of a log that is written to. One object is the only writer of its file.

    end: bytes of the file, all of them on the disk.
    """

    def __init__(self, what: str, path: Path, fd: int, end: int) -> None:
        self.end = end
        self.carry: Carry | None = None  # counts instead of this machine's disk
        self._what = f"{what} {path}"
        self._fd = fd
        self._broken: str | None = None  # why nothing can be written any more

    @classmethod
    def open(cls, what: str, path: Path, header: bytes, read: Callable[[], R]) -> tuple[Self, R]:
        """Open the log at `path`, or make one there of a header only; return it with what `read` found in the file.

        what: which log, for messages: "batch journal". Blocks, and raises the machine's errors as they come.
        """
        fresh = not path.exists()
        if fresh:
            durable.replace_durably(path, header)
        reading = read()
        fd = private_files.opened(path, os.O_WRONLY | os.O_APPEND)
        try:
            if reading.end < os.fstat(fd).st_size:
                os.ftruncate(fd, reading.end)
            if not fresh:
                durable.sync_file(fd)  # a killed process may have written what it did not live to sync
        except BaseException:
            os.close(fd)
            raise
        return cls(what, path, fd, reading.end), reading

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def append(self, data: bytes) -> None:
        """Bring records to the disk. Raise MachineError where that fails, or has failed before. Blocks."""
        with self._writing(len(data)):
            durable.write_all(self._fd, data)
            self._sync()
            self._check_name()

    async def append_in_thread(self, data: bytes) -> None:
        """Do as `append` does, while the event loop goes on. One call at a time; cancelled, it is the last one."""
        import asyncio  # only workers have a loop

        with self._writing(len(data)):
            await asyncio.to_thread(durable.write_all, self._fd, data)
            if self.carry is not None:
                await self.carry(self.end, self.end + len(data))
            else:
                await asyncio.to_thread(self._sync)  # a step of its own: the thread of the first may hold the data
            self._check_name()

    def check(self) -> None:
        """Raise MachineError where nothing can be written any more."""
        if self._broken is not None:
            raise MachineError(self._broken)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if not self.closed:
            os.close(self._fd)
            self._fd = -1
            self._broken = f"the {self._what} is closed"

    @contextmanager
    def _writing(self, size: int) -> Iterator[None]:
        """Whatever ends the body early, nothing is written afterwards."""
        self.check()
        doing = f"write the {self._what}"
        self._broken = f"cannot {doing}: an earlier write was broken off; run the same command again"
        try:
            yield
        except OSError as error:
            failure = durable.machine_error(doing, error)
            self._broken = str(failure)
            raise failure from error
        self.end += size
        self._broken = None

    def _check_name(self) -> None:
        if not os.fstat(self._fd).st_nlink:  # written and synced, into a file that nobody can find any more
            raise OSError(errno.ENOENT, "it was removed")

    def _sync(self) -> None:
        try:
            durable.sync_data(self._fd)
        except OSError:
            # The kernel still shows the bytes that the disk may not have: nobody must read and trust them.
            with suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise
