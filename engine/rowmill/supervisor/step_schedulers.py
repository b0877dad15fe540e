"""Where the shards of a run stand in each of its steps. A run of one step has one scheduler, and no more to decide.

Every step has the same shards. One is held until the step before has sealed it; the last step's are merged.
"""

from collections.abc import Iterable
from pathlib import Path

from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed
from rowmill.supervisor.shards import ShardScheduler

# Shards for each worker of a step that may wait for it until the step before it is handed no more. Enough that a worker
# never waits while there is work; few, for what is asked ahead is paid, and lies on the disk twice.
_AHEAD = 8


class StepSchedulers:
    """The schedulers of all steps, in their order.

    workers: of each step.
    """

    def __init__(self, steps: int, *, workers: int) -> None:
        self.of = [ShardScheduler() for _ in range(steps)]
        self._ahead = _AHEAD * workers

    def __repr__(self) -> str:
        return repr(self.of[0]) if len(self.of) == 1 else repr(self.of)

    def add(self, shard: Shard, sealed: int) -> None:
        """Take in the next shard of the plan, which earlier sessions have sealed in so many of the steps."""
        for step, scheduler in enumerate(self.of):
            scheduler.add(shard, sealed=step < sealed, held=step > sealed)

    def assign(self, step: int) -> Shard | None:
        """Take the next shard that nobody works on in this step. None, too, while too many wait for the next one."""
        if step + 1 < len(self.of) and self.of[step + 1].waiting >= self._ahead:
            return None
        return self.of[step].assign()

    def give_back(self, step: int, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        self.of[step].give_back(shards)

    def seal(self, step: int, path: Path, sealed: Sealed) -> list[tuple[Path, Sealed]]:
        """Note that a shard is sealed in a step, and return those that can now be merged, in order."""
        if step + 1 == len(self.of):
            return self.of[step].seal(path, sealed)
        self.of[step].hand_on(sealed.shard)
        self.of[step + 1].release(sealed.shard)
        return []

    def leave(self, step: int, shard: Shard) -> None:
        """Note that nothing more of a shard is to be done in this session."""
        self.of[step].leave(shard)

    @property
    def planned(self) -> bool:
        """Whether all shards are known."""
        return self.of[0].planned

    def all_planned(self) -> None:
        """Note that all shards are known."""
        for scheduler in self.of:
            scheduler.planned = True

    @property
    def shards(self) -> list[Shard]:
        """All shards, as far as the plan is known."""
        return self.of[0].shards

    @property
    def rows(self) -> int | None:
        """The rows of the input; None until they are counted."""
        return self.of[0].rows

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self.of[-1].complete

    @property
    def all_left(self) -> bool:
        """Whether nothing is to be done in this session any more, though not every shard is sealed."""
        return self.planned and any(each.any_left for each in self.of) and not any(each.any_to_do for each in self.of)
