"""What an autoscaler is to bring: so many nodes more, until they are there. All calls block."""

import math
from collections.abc import Collection

from rowmill.cluster.engine import Engine

_SETTLE_S = 5.0  # by then what was asked for is over, on a node that has come


class Demand:
    """The nodes that a run would use and that are not there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[str] = set()
        self._joined = -math.inf
        self._asked = False

    def settled(self, there: Collection[str], now: float) -> bool:
        """Tell whether the room on nodes is what it seems: what they were asked for by takes some for a moment."""
        if self._asked and not self._known.issuperset(there):
            self._joined = now
        self._known.update(there)
        if now - self._joined > _SETTLE_S:
            return True
        if self._engine.settled:
            self._joined = -math.inf
            self._asked = False
            return True
        return False

    def ask_for(self, nodes: int, workers: int) -> None:
        """Ask for so many nodes more, each with room for so many workers."""
        if nodes or self._asked:
            self._engine.ask_for(nodes, workers)
        self._asked = nodes > 0
