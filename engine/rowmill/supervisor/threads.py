"""The supervisor's two threads: one plans the input into shards, one merges sealed shards into the output.

Both only do blocking work and hand over what came of it; every decision stays in the supervisor's loop, which a
byte in the `Mailbox` wakes.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rowmill.core.output_codec import OutputCodec
from rowmill.core.rows import Shard
from rowmill.files.input.inputs import Input
from rowmill.store import durable
from rowmill.store.merge import Merger
from rowmill.store.seal import Sealed
from rowmill.supervisor.mailbox import Crashed, Mailbox, Merged, Planned

_PLAN_AHEAD = 8  # shards handed over at once: the first ones must reach the workers at once, the rest need not


class Planner:
    """Plans an input in a thread. It reads every byte once, for the rows' numbers and for the checksums.

    read_bytes: of the input's files, so far.
    """

    def __init__(self, found: Input, spool: Path, shard_bytes: int, shard_rows: int, mailbox: Mailbox) -> None:
        self.read_bytes = 0
        self._stopped = False
        plan = found.plan(spool, shard_bytes=shard_bytes, shard_rows=shard_rows, progress=self._on_read)
        self._thread = _start(lambda: self._plan(plan, found.spooled(spool), mailbox), "planner", mailbox)

    def _plan(self, plan: Iterator[Shard], spooled: list[Path], mailbox: Mailbox) -> None:
        ready: list[Shard] = []
        for shard in plan:
            if self._stopped:
                return
            ready.append(shard)
            if shard.number == 0 or len(ready) >= _PLAN_AHEAD:
                mailbox.put(Planned(ready, last=False))
                ready = []
        for path in spooled:  # once there is a plan, what was spooled is trusted
            durable.sync_path(path)
        mailbox.put(Planned(ready, last=True))

    def _on_read(self, count: int) -> None:
        self.read_bytes = count

    def stop(self) -> None:
        """Give up, and wait for the thread."""
        self._stopped = True
        self._thread.join()


class MergeThread:
    """Merges sealed shards as they come; they must come in order."""

    def __init__(self, output: Path, errors: Path, mailbox: Mailbox, codec: OutputCodec) -> None:
        self._merger = Merger(output, errors, codec)
        self._orders: queue.SimpleQueue[Callable[[], tuple[int, int] | None] | None] = queue.SimpleQueue()
        self._mailbox = mailbox
        self._stopped = False
        self._thread = _start(self._merge, "merger", mailbox)

    def append(self, path: Path, sealed: Sealed) -> None:
        """Order the next shard to be merged."""
        self._orders.put(partial(self._merger.append, path, sealed))

    def finish(self, note: Callable[[int, int], None] | None = None) -> None:
        """Order the output to be finished after the shards ordered so far; `Merged` with sizes tells when it is.

        `note` is called in the thread, with the bytes of output and errors file, before either has its name.
        """
        self._orders.put(partial(self._merger.finish, note))

    def stop(self) -> None:
        """End the thread. What is not finished is removed; the sealed shards have it all."""
        self._stopped = True  # what still waits would be copied for nothing
        self._orders.put(None)
        self._thread.join()

    def _merge(self) -> None:
        try:
            while (order := self._orders.get()) is not None:
                if not self._stopped:
                    sizes = order()
                    self._mailbox.put(Merged(self._merger.shards, sizes, dict(self._merger.failures)))
        finally:
            self._merger.abandon()


def _start(work: Callable[[], None], name: str, mailbox: Mailbox) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it is raised again in the supervisor's loop
            mailbox.put(Crashed(error))

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread
