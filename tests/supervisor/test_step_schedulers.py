"""Where shards are in each of several steps: a step's follow those of the one before, and few of them wait."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.counts import Totals
from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed
from rowmill.supervisor.step_schedulers import StepSchedulers


def shard(number: int) -> Shard:
    return Shard(number, number * 10, 10, number * 100, number * 100 + 100, 0)


def planned(count: int, steps: int, *, workers: int = 1, sealed: int = 0) -> StepSchedulers:
    schedulers = StepSchedulers(steps, workers=workers)
    for number in range(count):
        schedulers.add(shard(number), sealed=sealed)
        for step in range(sealed):
            seal(schedulers, step, shard(number))
    schedulers.all_planned()
    return schedulers


def seal(schedulers: StepSchedulers, step: int, of: Shard) -> list[int]:
    sealed = Sealed(2, of, 0, 0, Totals(rows=10), "step")
    return [ready.shard.number for _, ready in schedulers.seal(step, Path("x"), sealed)]


def test_a_step_has_a_shard_once_the_one_before_has_sealed_it() -> None:
    schedulers = planned(2, 3)
    assert [schedulers.assign(step) for step in (1, 2)] == [None, None]
    assert schedulers.assign(0) == shard(0)
    assert schedulers.assign(0) == shard(1)
    assert seal(schedulers, 0, shard(1)) == []
    assert schedulers.assign(1) == shard(1)
    assert schedulers.assign(1) is None
    assert seal(schedulers, 1, shard(1)) == []
    assert schedulers.assign(2) == shard(1)
    assert seal(schedulers, 2, shard(1)) == [], "it is merged in its order"
    seal(schedulers, 0, shard(0))
    assert schedulers.assign(1) == shard(0)
    seal(schedulers, 1, shard(0))
    assert schedulers.assign(2) == shard(0)
    assert not schedulers.complete
    assert seal(schedulers, 2, shard(0)) == [0, 1]
    assert schedulers.complete


def test_what_earlier_sessions_have_sealed_is_not_done_again() -> None:
    schedulers = planned(2, 3, sealed=2)
    assert [schedulers.assign(step) for step in (0, 1, 2)] == [None, None, shard(0)]
    schedulers = planned(2, 3, sealed=3)
    assert schedulers.complete


def test_a_step_is_handed_no_more_while_many_wait_for_the_next_one() -> None:
    schedulers = planned(100, 2, workers=2)
    ahead = 0
    while (taken := schedulers.assign(0)) is not None:
        seal(schedulers, 0, taken)
        ahead += 1
    assert 0 < ahead < 50
    assert schedulers.assign(1) == shard(0)
    assert schedulers.assign(0) == shard(ahead)


def test_a_shard_of_a_dead_worker_is_first_in_line_in_its_step() -> None:
    schedulers = planned(3, 2)
    for _ in range(3):
        taken = schedulers.assign(0)
        assert taken is not None
        seal(schedulers, 0, taken)
    first = schedulers.assign(1)
    assert first == shard(0)
    schedulers.give_back(1, [first])
    assert schedulers.assign(1) == shard(0)


def test_a_retry_has_ended_once_what_is_left_waits_for_what_was_left() -> None:
    schedulers = planned(1, 2)
    taken = schedulers.assign(0)
    assert taken is not None
    assert not schedulers.all_left
    schedulers.leave(0, taken)
    assert schedulers.all_left


def test_one_step_is_told_as_it_always_was() -> None:
    assert repr(planned(2, 1)) == "<2 planned>"
    assert repr(planned(2, 2)) == "[<2 planned>, <2 held>]"


@given(st.integers(1, 8), st.integers(1, 3), st.data())
def test_whatever_dies_every_shard_goes_through_every_step_once(count: int, steps: int, data: st.DataObject) -> None:
    schedulers = planned(count, steps)
    at_work: list[tuple[int, Shard]] = []
    done: list[tuple[int, int]] = []
    merged: list[int] = []
    deaths = 0
    while not schedulers.complete:
        given_out = [(step, schedulers.assign(step)) for step in range(steps)]
        at_work += [(step, taken) for step, taken in given_out if taken is not None]
        assert at_work, "nobody waits for nothing"
        step, taken = at_work.pop(data.draw(st.integers(0, len(at_work) - 1)))
        if deaths < 5 and data.draw(st.booleans()):
            deaths += 1
            schedulers.give_back(step, [taken])
        else:
            done.append((step, taken.number))
            merged += seal(schedulers, step, taken)
    assert sorted(done) == [(step, number) for step in range(steps) for number in range(count)]
    assert merged == list(range(count))
