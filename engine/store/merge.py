"""The ordered merge: sealed shards are appended to the output while the run goes on, by copying bytes in the kernel.

What is merged so far lies in temporary files beside the targets, `.<name>.rowmill-part`. They are not synced before the
end and never read again: after a crash the merge starts anew from the sealed shards, which are durable. The targets
appear in `finish`, whole and synced, the errors file first. Killed at any moment, the output is the old one, or
absent, or the new one, and an output that is there has its errors file.
"""

import os
from pathlib import Path

from engine.errors import InputError, RunDirectoryError
from engine.store import durable
from engine.store.seal import Sealed


class Merger:
    """Builds the output and the errors file out of sealed shards, given in shard order. All methods block."""

    def __init__(self, output: Path, errors: Path) -> None:
        """Start both temporary files, empty. Raise InputError where another run is writing the same output."""
        self._output = _Part(output)
        try:
            self._errors = _Part(errors)
        except BaseException:
            self._output.abandon()
            raise
        self.shards = 0  # merged so far, hence the number of the next one

    def append(self, path: Path, sealed: Sealed) -> None:
        """Append one sealed shard, whose footer is given. Raise RunDirectoryError where the file is shorter than it."""
        if sealed.shard.number != self.shards:
            raise ValueError(f"shard {sealed.shard.number} given where {self.shards} is next")
        with durable.machine_errors(f"read the sealed shard {path}"):
            source = os.open(path, os.O_RDONLY)
        try:
            self._output.take(source, 0, sealed.output_bytes, path)
            self._errors.take(source, sealed.output_bytes, sealed.error_bytes, path)
        finally:
            os.close(source)
        self.shards += 1

    def finish(self) -> tuple[int, int]:
        """Bring both files to the disk and to their names. Return their sizes in bytes.

        Where no row failed, no errors file is made. One that exists is then replaced by an empty one: it would list
        failures that the new output does not have, and deleting it is not for us.
        """
        keep_errors = self._errors.size > 0 or self._errors.target.exists()
        self._output.sync()
        if keep_errors:
            self._errors.sync()
            self._errors.publish()
        else:
            self._errors.abandon()
        self._output.publish()
        return self._output.size, self._errors.size

    def abandon(self) -> None:
        """Remove the temporary files; the targets stay as they are. After `finish` it does nothing."""
        self._output.abandon()
        self._errors.abandon()


class _Part:
    """A temporary file that becomes its target when it is whole."""

    def __init__(self, target: Path) -> None:
        self.target = target.resolve()  # a link is to stay a link
        self.size = 0
        self._path = self.target.with_name(f".{self.target.name}.rowmill-part")
        with durable.machine_errors(f"write beside the output {target}"):
            self._fd: int | None = self._open()

    def _open(self) -> int:
        """Open, lock and empty the file; two runs that share an output would mix their bytes in it."""
        while True:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                locked = durable.lock_descriptor(fd, exclusive=True)
                ours = locked and self._path.exists() and os.path.samestat(os.fstat(fd), self._path.stat())
                if ours:
                    os.ftruncate(fd, 0)
            except BaseException:
                os.close(fd)
                raise
            if ours:
                return fd
            os.close(fd)
            if not locked:
                raise InputError(f"another run is writing {self.target}: wait for it, or set another output path")
            # Between our open and our lock it became somebody's finished output, which is not ours to empty.

    def take(self, source: int, offset: int, count: int, path: Path) -> None:
        assert self._fd is not None
        with durable.machine_errors(f"write {self._path}"):
            copied = durable.copy_range(source, self._fd, offset, count)
        self.size += copied
        if copied < count:
            msg = (
                f"the sealed shard {path} is {count - copied} bytes shorter than its footer said. "
                "Move it out of the run directory and run the same command again: it is made anew from its checkpoint"
            )
            raise RunDirectoryError(msg)

    def sync(self) -> None:
        assert self._fd is not None
        with durable.machine_errors(f"write {self._path}"):
            durable.sync_file(self._fd)

    def publish(self) -> None:
        with durable.machine_errors(f"write {self.target}"):
            durable.publish(self._path, self.target)
        self._close()

    def abandon(self) -> None:
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
