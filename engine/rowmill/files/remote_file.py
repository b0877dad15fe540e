"""A file of another machine, read once, from its start to its end, in large blocks: as a stream, or to make a copy."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rowmill.core.errors import MachineError
from rowmill.files.remote import BLOCK, local, opened, shown, translated


def download(url: str, target: Path, on_read: Callable[[int], None] | None = None) -> None:
    """Copy a remote file to this machine. What it raises leaves what has come behind.

    on_read: told the bytes of each block after it; what it raises ends the copy. Raises as `RemoteFile` does.
    """
    with RemoteFile(url) as source, local(target, "wb") as file:
        while block := source.read(BLOCK):
            file.write(block)
            if on_read is not None:
                on_read(len(block))


class RemoteFile(io.RawIOBase):
    """Reads one file. Holds a block. Raises what `translated` does, and `MachineError` where it came incomplete."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._source: Any = None  # where it could not be opened
        with translated(url):
            system, path = opened(url)
            self._size: int | None = system.info(path).get("size")
            self._source = system.open(path, "rb", block_size=BLOCK, cache_type="none")
        self._block = memoryview(b"")
        self._start = 0  # of the block in the file
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes; 0 at the end."""
        if self._position == self._start + len(self._block):
            with translated(self._url):
                block = self._source.read(BLOCK)
            self._start, self._block = self._position, memoryview(block)
            if not block and self._size is not None and self._position != self._size:
                raise MachineError(
                    f"{shown(self._url)}: ended after {self._position} of {self._size} bytes; "
                    "run the same command again"
                )
        offset = self._position - self._start
        piece = self._block[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go back within the block that is held."""
        if whence != io.SEEK_SET or not self._start <= offset <= self._start + len(self._block):
            raise io.UnsupportedOperation("seek")
        self._position = offset
        return offset

    def close(self) -> None:
        """Close the connection."""
        if not self.closed and self._source is not None:
            self._source.close()
        super().close()
