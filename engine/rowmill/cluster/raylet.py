"""The raylet of a node, as an actor there sees it: its parent process."""

import asyncio
import os
from contextlib import suppress


class Raylet:
    """Tells the end of the raylet in the moment when it comes. Of the running event loop.

    Ray itself takes a second or two to tell the driver of it, in which nobody could use what the node's leases allow.

    gone: it has ended.
    """

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._number = os.getppid()
        self._fd: int | None = None
        with suppress(OSError, AttributeError):  # where the kernel does not offer it, `look` tells
            self._fd = os.pidfd_open(self._number)
            asyncio.get_running_loop().add_reader(self._fd, self._on_end)

    def __repr__(self) -> str:
        return f"<raylet {self._number}{', gone' if self.gone.is_set() else ''}>"

    def _on_end(self) -> None:
        self.gone.set()
        self.close()

    def look(self) -> None:
        """See whether it is still there."""
        if os.getppid() != self._number:
            self.gone.set()

    def close(self) -> None:
        """Look no more."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None
