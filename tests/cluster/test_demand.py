"""What an autoscaler is asked for."""

from typing import Any, cast

from rowmill.cluster.demand import Demand


class Engine:
    """What was asked for, and whether that is over."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.over = True

    def ask_for(self, nodes: int, workers: int) -> None:
        self.asked.append((nodes, workers))

    @property
    def settled(self) -> bool:
        self.asked.append((0, 0))
        return self.over


def test_room_is_looked_at_when_what_was_asked_for_is_over() -> None:
    """It runs on the node that has come, for a moment: with a part of its room a worker too few would be started."""
    engine = Engine()
    demand = Demand(cast("Any", engine))
    assert demand.settled(["a"], 0.0)
    demand.ask_for(0, 1)
    assert engine.asked == []  # nothing is missing
    demand.ask_for(2, 4)
    assert demand.settled(["a"], 1.0)
    assert engine.asked == [(2, 4)]
    engine.over = False
    assert not demand.settled(["a", "b"], 2.0)
    assert not demand.settled(["a", "b"], 3.0)
    engine.over = True
    assert demand.settled(["a", "b"], 4.0)
    assert engine.asked == [(2, 4), (0, 0), (0, 0), (0, 0)]
    demand.ask_for(1, 4)
    assert engine.asked[-1] == (1, 4)
    demand.ask_for(0, 4)
    demand.ask_for(0, 4)
    assert engine.asked[-2:] == [(1, 4), (0, 4)]


def test_a_node_is_not_left_unused_for_what_does_not_end() -> None:
    engine = Engine()
    engine.over = False
    demand = Demand(cast("Any", engine))
    demand.ask_for(1, 1)
    assert not demand.settled(["a"], 0.0)
    assert not demand.settled(["a"], 5.0)
    assert demand.settled(["a"], 5.1)
