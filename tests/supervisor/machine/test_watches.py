"""Memory, disk and loop lag over simulated seconds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.supervisor.machine.cgroup import Memory
from rowmill.supervisor.machine.disks import FileSystem
from rowmill.supervisor.machine.readings import Disk
from rowmill.supervisor.machine.watches import DiskWatch, LagWatch, MemoryWatch

MB = 1_000_000


def used(share: float) -> Memory:
    return Memory(10_000 * MB, round(10_000 * MB * (1 - share)))


def factors(watch: MemoryWatch, *shares: float) -> list[float]:
    seen = []
    for share in shares:
        watch.look(used(share), 1.0)
        seen.append(watch.factor)
    return seen


# Memory


def test_below_the_share_everything_is_allowed() -> None:
    assert factors(MemoryWatch(0.9), 0.1, 0.5, 0.899) == [1, 1, 1]


def test_pressure_halves_every_second_down_to_a_quarter_while_half_of_the_reserve_is_left() -> None:
    assert factors(MemoryWatch(0.9), 0.91, 0.92, 0.94, 0.93) == [0.5, 0.25, 0.25, 0.25]


def test_below_half_of_the_reserve_it_goes_down_to_a_trickle_and_never_to_nothing() -> None:
    assert factors(MemoryWatch(0.9), *[0.96] * 8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 64, 1 / 64]


def test_between_the_two_shares_it_holds_and_well_below_it_recovers_gradually() -> None:
    watch = MemoryWatch(0.9)
    factors(watch, 0.92, 0.92)
    assert factors(watch, 0.89, 0.87, 0.86) == [0.25, 0.25, 0.25]
    rising = factors(watch, *[0.8] * 8)
    assert rising[:3] == pytest.approx([0.25 * 1.25, 0.25 * 1.25**2, 0.25 * 1.25**3])
    assert rising[-2:] == [1.0, 1.0]


def test_a_trickle_comes_back_to_a_quarter_when_only_the_worst_is_over() -> None:
    watch = MemoryWatch(0.9)
    factors(watch, *[0.99] * 10)
    assert factors(watch, *[0.92] * 20)[-1] == 0.25


def test_looks_that_come_late_or_early_shed_by_the_time_between_them() -> None:
    watch = MemoryWatch(0.9)
    watch.look(used(0.99), 2.0)
    assert watch.factor == 0.25
    for _ in range(4):
        watch.look(used(0.99), 0.25)
    assert watch.factor == pytest.approx(0.125)


@given(st.floats(0.05, 1.0), st.lists(st.floats(0, 1), max_size=60))
def test_whatever_happens_something_is_allowed_and_a_minute_of_room_brings_all_of_it_back(
    begin: float, shares: list[float]
) -> None:
    watch = MemoryWatch(begin)
    before = 1.0
    for share in shares:
        watch.look(used(share), 1.0)
        assert 0 < watch.factor <= 1
        assert watch.factor >= before / 2
        assert watch.factor <= before * 1.25
        if used(share).used >= begin and before > 0.25:
            assert watch.factor < before
        assert (watch.notice is None) == (watch.factor == 1.0)
        before = watch.factor
    factors(watch, *[0.0] * 60)
    assert watch.factor == 1.0


def test_what_is_told_of_memory() -> None:
    watch = MemoryWatch(0.9)
    assert watch.look(used(0.5), 1.0) is None
    assert watch.notice is watch.summary is None
    assert watch.look(used(0.93), 1.0) == "memory 93% used, 700 MB free: fewer requests in flight"
    assert watch.look(used(0.93), 1.0) is None
    assert watch.notice == "memory 93% used: concurrency at 25%"
    events = [watch.look(used(0.5), 1.0) for _ in range(10)]
    assert [event for event in events if event] == ["memory 50% used, 5.0 GB free: full concurrency again"]
    assert watch.notice is None
    assert watch.summary == "memory short for 8 s, at most 93% used: concurrency down to 25%"


def test_a_trickle_is_never_told_as_nothing() -> None:
    watch = MemoryWatch(0.9)
    factors(watch, *[1.0] * 10)
    assert watch.notice == "memory 100% used: concurrency at 2%"


# Disk


def disk_watch(floor: int = 256 * MB) -> DiskWatch:
    return DiskWatch(FileSystem((Path("out.jsonl.run"),), Disk(1, 10**11, 10**10)), floor)


def free(megabytes: float) -> Disk:
    return Disk(1, 10**11, round(megabytes * MB))


def test_a_nearly_full_disk_pauses_until_there_is_half_as_much_again() -> None:
    watch = disk_watch()
    paused = []
    for megabytes in (1000, 257, 256, 255, 260, 383, 384, 300, 256, 255):
        watch.look(free(megabytes), 1.0)
        paused.append(watch.paused)
    assert paused == [False, False, False, True, True, True, False, False, False, True]


def test_a_disk_that_may_be_filled_never_pauses() -> None:
    watch = disk_watch(floor=0)
    assert watch.look(free(0), 1.0) is None
    assert not watch.paused


def test_ten_minutes_without_room_are_enough() -> None:
    watch = disk_watch()
    for _ in range(600):
        watch.look(free(120), 1.0)
        assert watch.give_up is None
    watch.look(free(120), 1.0)
    assert watch.give_up == (
        "disk of out.jsonl.run nearly full for 10 minutes (120 MB free, 384 MB wanted); "
        "free disk space and run the same command again"
    )


def test_the_ten_minutes_begin_anew_with_every_pause() -> None:
    watch = disk_watch()
    for _ in range(3):
        for _ in range(500):
            watch.look(free(120), 1.0)
        assert watch.give_up is None
        watch.look(free(500), 1.0)
    assert watch.summary == "disk of out.jsonl.run nearly full, 120 MB free at least: paused 1500 s"


def test_what_is_told_of_a_disk() -> None:
    watch = disk_watch()
    assert watch.look(free(500), 1.0) is None
    assert watch.notice is watch.summary is None
    assert watch.look(free(120), 1.0) == (
        "disk of out.jsonl.run: only 120 MB free: nothing more is sent until there are 384 MB"
    )
    assert watch.look(free(119), 1.0) is None
    assert watch.notice == "disk of out.jsonl.run nearly full (119 MB free): paused"
    assert watch.look(free(9000), 1.0) == "disk of out.jsonl.run: 9.0 GB free: going on"
    assert watch.notice is None
    assert watch.summary == "disk of out.jsonl.run nearly full, 119 MB free at least: paused 2 s"


# Loop lag


def test_a_loop_that_is_late_for_seconds_is_saturated_until_it_is_on_time_for_seconds() -> None:
    watch = LagWatch()
    seen = []
    for ms in (5, 150, 150, 150, 180, 60, 99, 10, 10, 60, 10, 10, 10):
        watch.look({0: ms}, 1.0)
        seen.append(watch.saturated)
    assert seen == [False, False, False, True, True, True, True, True, True, True, True, True, False]


def test_single_late_moments_are_nothing() -> None:
    watch = LagWatch()
    for ms in [900, 20, 150, 150, 40] * 20:  # a stopped machine, a garbage collection
        watch.look({0: ms}, 1.0)
        assert not watch.saturated
        assert watch.notice is None
    assert watch.summary is None


def test_half_of_the_workers_have_to_be_late() -> None:
    watch = LagWatch()
    for _ in range(5):
        watch.look({0: 5, 1: 5, 2: 180, 3: 5}, 1.0)
    assert list(watch.lagging) == [2]
    assert not watch.saturated
    assert watch.notice == "worker 2's core is saturated (loop lag 180 ms)"
    for _ in range(5):
        watch.look({0: 240, 1: 5, 2: 180, 3: 5}, 1.0)
    assert list(watch.lagging) == [0, 2]
    assert watch.saturated
    assert watch.notice == "the cores of 2 of 4 workers are saturated (loop lag 240 ms)"
    assert watch.summary == "workers' cores saturated for 3 s (loop lag up to 240 ms)"


def test_a_worker_that_has_gone_is_forgotten() -> None:
    watch = LagWatch()
    for _ in range(5):
        watch.look({0: 300}, 1.0)
    assert watch.saturated
    watch.look({}, 1.0)
    assert not watch.saturated
    watch.look({0: 300}, 1.0)  # its successor
    assert not watch.saturated
