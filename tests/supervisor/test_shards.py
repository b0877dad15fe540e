"""Where shards are: handed out once, back when a worker dies, merged in order; an impossible move is an error."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.counts import Totals
from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed
from rowmill.supervisor.shards import ShardScheduler


def shard(number: int) -> Shard:
    return Shard(number, number * 10, 10, number * 100, number * 100 + 100, 0)


def seal(scheduler: ShardScheduler, number: int) -> list[int]:
    sealed = Sealed(1, shard(number), 0, 0, Totals(rows=10), "jsonl")
    return [ready.shard.number for _, ready in scheduler.seal(Path(f"{number}"), sealed)]


def planned(count: int) -> ShardScheduler:
    scheduler = ShardScheduler()
    for number in range(count):
        scheduler.add(shard(number), sealed=False)
    scheduler.planned = True
    return scheduler


def test_the_way_of_shards_is_told_by_the_scheduler() -> None:
    scheduler = ShardScheduler()
    assert repr(scheduler) == "<no shards, more to come>"
    scheduler = planned(3)
    assert repr(scheduler) == "<3 planned>"
    assert scheduler.assign() == shard(0)
    assert scheduler.assign() == shard(1)
    assert repr(scheduler) == "<1 planned, 2 assigned>"
    assert seal(scheduler, 1) == []
    assert repr(scheduler) == "<1 planned, 1 assigned, 1 sealed>"
    assert seal(scheduler, 0) == [0, 1]
    assert repr(scheduler) == "<1 planned, 2 merging>"
    assert not scheduler.complete


def test_shards_of_a_dead_worker_are_first_in_line_again() -> None:
    scheduler = planned(4)
    given_out = [scheduler.assign() for _ in range(3)]
    scheduler.give_back([each for each in reversed(given_out) if each is not None])
    assert [scheduler.assign() for _ in range(5)] == [shard(0), shard(1), shard(2), shard(3), None]


def test_a_shard_that_an_earlier_session_has_sealed_is_not_assigned() -> None:
    scheduler = ShardScheduler()
    scheduler.add(shard(0), sealed=True)
    assert seal(scheduler, 0) == [0]
    assert scheduler.assign() is None


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (("assign", "seal 0", "seal 0"), "shard 0 cannot go from merging to sealed"),
        (("assign", "seal 0", "back 0"), "shard 0 cannot go from merging to planned"),
        (("assign", "back 0", "back 0"), "shard 0 cannot go from planned to planned"),
        (("assign", "assign", "seal 1", "back 1"), "shard 1 cannot go from sealed to planned"),
    ],
)
def test_an_impossible_move_is_an_error(steps: tuple[str, ...], said: str) -> None:
    scheduler = planned(2)

    def take(step: str) -> None:
        what, _, number = step.partition(" ")
        if what == "assign":
            scheduler.assign()
        elif what == "seal":
            seal(scheduler, int(number))
        else:
            scheduler.give_back([shard(int(number))])

    for step in steps[:-1]:
        take(step)
    with pytest.raises(ValueError, match=f"^{said}$"):
        take(steps[-1])


@given(st.integers(1, 12), st.data())
def test_whatever_dies_every_shard_is_merged_once_and_in_order(count: int, data: st.DataObject) -> None:
    scheduler = planned(count)
    at_work: list[Shard] = []
    merged: list[int] = []
    for _ in range(200):
        choices = ["assign"] + ["seal", "die"] * bool(at_work)
        what = data.draw(st.sampled_from(choices)) if len(merged) < count else "stop"
        if what == "stop":
            break
        if what == "assign":
            if (taken := scheduler.assign()) is not None:
                at_work.append(taken)
        elif what == "seal":
            merged += seal(scheduler, at_work.pop(data.draw(st.integers(0, len(at_work) - 1))).number)
        else:
            lost = [at_work.pop(data.draw(st.integers(0, len(at_work) - 1)))]
            scheduler.give_back(lost)
    while not scheduler.complete:
        if (taken := scheduler.assign()) is not None:
            at_work.append(taken)
        merged += seal(scheduler, at_work.pop().number)
    assert merged == list(range(count))
    assert repr(scheduler) == f"<{count} merging>"
