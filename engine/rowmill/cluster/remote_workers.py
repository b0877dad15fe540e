"""Worker processes of a node, as the supervisor has them: what `processes.Process` says, by what the node tells."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from rowmill.cluster.wire import Taken
from rowmill.ipc import processes
from rowmill.ipc.channel import Channel


class RemoteProcess:
    """A worker process of a node, in the words of `processes.Process`."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.pid: int | None = None
        self.exitcode: int | None = None
        self.end = ""
        self.over = threading.Event()
        self.taken: Taken | None = None
        self._kill = kill

    def usage(self) -> processes.Usage | None:
        """Return what it takes of its machine; None before it is known, and once it has ended."""
        taken = self.taken
        return None if taken is None or self.over.is_set() else processes.Usage(taken.rss, taken.cpu_s)

    def is_stopped(self) -> bool:
        """Tell whether somebody has stopped it, as far as its node has told."""
        return self.taken is not None and self.taken.stopped

    def wake(self) -> None:
        """Nobody can stop it from here."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self.over.wait(timeout)

    def kill(self) -> None:
        """Have its node end it at once."""
        self._kill()

    def is_alive(self) -> bool:
        """Tell whether its end is not known yet."""
        return not self.over.is_set()

    def ended(self, exitcode: int | None, end: str) -> None:
        """Take note of its end. `end`: as `processes.how_ended` says it."""
        self.exitcode = exitcode
        self.end = end
        self.over.set()


class RemoteWorker(NamedTuple):
    """A worker of a node."""

    process: RemoteProcess
    channel: Channel  # to the supervisor, which may be busy: others are not to wait until it reads
