"""Where every shard of a run is: planned, to be assigned, sealed, merged.

A shard is assigned to one worker at a time, comes back if that worker dies, and is merged once all before it are.
"""

from collections import deque
from collections.abc import Iterable
from pathlib import Path

from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed


class ShardBook:
    """The shards of one run, as far as they are known.

    planned: whether all of them are.
    """

    def __init__(self) -> None:
        self.shards: list[Shard] = []
        self.planned = False
        self._backlog: deque[Shard] = deque()
        self._unmerged: dict[int, tuple[Path, Sealed]] = {}  # sealed, waiting for those before them
        self._next_merge = 0

    def add(self, shard: Shard, *, sealed: bool) -> None:
        """Take in the next shard of the plan; one that an earlier session has sealed is not to be assigned."""
        self.shards.append(shard)
        if not sealed:
            self._backlog.append(shard)

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        self._backlog.extendleft(sorted(shards, reverse=True, key=lambda shard: shard.number))

    def next_to_assign(self) -> Shard | None:
        """Take the next shard that nobody works on."""
        return self._backlog.popleft() if self._backlog else None

    def sealed(self, path: Path, sealed: Sealed) -> list[tuple[Path, Sealed]]:
        """Note that a shard is sealed, and return those that can now be merged, in order."""
        self._unmerged[sealed.shard.number] = (path, sealed)
        ready = []
        while (following := self._unmerged.pop(self._next_merge, None)) is not None:
            ready.append(following)
            self._next_merge += 1
        return ready

    @property
    def rows(self) -> int | None:
        """The rows of the input; None until they are counted."""
        return sum(shard.rows for shard in self.shards) if self.planned else None

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self.planned and self._next_merge == len(self.shards)
