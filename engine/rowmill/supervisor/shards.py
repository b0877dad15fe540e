"""From the plan to the output: shards are planned, handed out, come back sealed, and are merged in their order.

held -> planned         the step before has sealed it
planned -> assigned     to one worker at a time
assigned -> planned     that worker has died: first in line again
assigned -> sealed      by its worker
planned -> sealed       by an earlier session
sealed -> merging       handed to the merge, once all before it are; of a step that is not the last, to the next one
"""

from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed

State = Literal["held", "planned", "assigned", "sealed", "merging", "left"]

# state -> states that may follow
_MOVES: dict[State, frozenset[State]] = {
    "held": frozenset({"planned"}),
    "planned": frozenset({"assigned", "sealed"}),
    "assigned": frozenset({"planned", "sealed", "left"}),
    "sealed": frozenset({"merging"}),
    "merging": frozenset(),
    "left": frozenset(),  # to a later session
}


class ShardScheduler:
    """Where every shard of a run, or of one of its steps, is, as far as the plan is known.

    planned: whether all of them are known.
    """

    def __init__(self) -> None:
        self.shards: list[Shard] = []
        self.planned = False
        self._states: list[State] = []
        self._backlog: deque[Shard] = deque()
        self._sealed: dict[int, tuple[Path, Sealed]] = {}  # waiting for those before them
        self._next_merge = 0

    def __repr__(self) -> str:
        counts = Counter(self._states)
        shown = ", ".join(f"{counts[state]} {state}" for state in _MOVES if counts[state])
        return f"<{shown or 'no shards'}{'' if self.planned else ', more to come'}>"

    def add(self, shard: Shard, *, sealed: bool, held: bool = False) -> None:
        """Take in the next shard of the plan; one that an earlier session has sealed is not to be assigned.

        held: nor is it before it is released.
        """
        assert shard.number == len(self.shards), f"shard {shard.number} is not the next one of the plan"
        self.shards.append(shard)
        self._states.append("held" if held else "planned")
        if not sealed and not held:
            self._backlog.append(shard)

    def release(self, shard: Shard) -> None:
        """Note that a shard may be assigned, if it was held."""
        if self._states[shard.number] == "held":
            self._become(shard, "planned")
            self._backlog.append(shard)

    @property
    def waiting(self) -> int:
        """Shards that might be assigned."""
        return len(self._backlog)

    def assign(self) -> Shard | None:
        """Take the next shard that nobody works on."""
        if not self._backlog:
            return None
        shard = self._backlog.popleft()
        self._become(shard, "assigned")
        return shard

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        for shard in sorted(shards, reverse=True, key=lambda shard: shard.number):
            self._become(shard, "planned")
            self._backlog.appendleft(shard)

    def seal(self, path: Path, sealed: Sealed) -> list[tuple[Path, Sealed]]:
        """Note that a shard is sealed, and return those that can now be merged, in order."""
        self._become(sealed.shard, "sealed")
        self._sealed[sealed.shard.number] = (path, sealed)
        ready = []
        while (following := self._sealed.pop(self._next_merge, None)) is not None:
            self._become(following[1].shard, "merging")
            ready.append(following)
            self._next_merge += 1
        return ready

    def hand_on(self, shard: Shard) -> None:
        """Note that a shard is sealed, and is the next step's."""
        self._become(shard, "sealed")
        self._become(shard, "merging")

    def leave(self, shard: Shard) -> None:
        """Note that nothing more of a shard is to be done in this session."""
        self._become(shard, "left")

    @property
    def any_left(self) -> bool:
        """Whether any shard is left to a later session."""
        return "left" in self._states

    @property
    def any_to_do(self) -> bool:
        """Whether any shard is with a worker, or might be."""
        return not {"planned", "assigned"}.isdisjoint(self._states)

    def _become(self, shard: Shard, state: State) -> None:
        before = self._states[shard.number]
        if state not in _MOVES[before]:
            raise ValueError(f"shard {shard.number} cannot go from {before} to {state}")
        self._states[shard.number] = state

    @property
    def rows(self) -> int | None:
        """The rows of the input; None until they are counted."""
        return sum(shard.rows for shard in self.shards) if self.planned else None

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self.planned and self._next_merge == len(self.shards)
