"""What threads and signal handlers leave for the supervisor's loop."""

import os
import queue
from contextlib import suppress
from typing import Any

from rowmill.core.rows import Shard


class Mailbox:
    """What threads and signal handlers leave for the supervisor's loop. `fileno()` is readable while there is any."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read

    def put(self, item: Any) -> None:
        """Leave an item. Safe in a signal handler and in any thread."""
        self._items.put(item)
        with suppress(BlockingIOError):  # full of wake-ups already
            os.write(self._write, b"\0")

    def take(self) -> list[Any]:
        """Take everything that is there."""
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass
        items = []
        while True:
            try:
                items.append(self._items.get_nowait())
            except queue.Empty:
                return items

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._read)
        os.close(self._write)


class Planned:
    """The next shards of the plan; `last` when the input has been read to its end."""

    def __init__(self, shards: list[Shard], *, last: bool) -> None:
        self.shards = shards
        self.last = last


class Merged:
    """So many shards are merged; `sizes` once output and errors file are finished (bytes of each).

    failures: rows by class that the errors file lists so far.
    """

    def __init__(self, shards: int, sizes: tuple[int, int] | None, failures: dict[str, int]) -> None:
        self.shards = shards
        self.sizes = sizes
        self.failures = failures


class Crashed:
    """A thread ended with this exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error
