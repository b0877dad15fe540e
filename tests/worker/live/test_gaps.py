"""Stopped, or asleep with the machine: what was on its way then speaks against nobody."""

import time

from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.worker.live.gaps import Gaps
from tests.worker.live.conftest import Result, Start, Wire, failure, reply, run


class Clocks:
    def __init__(self) -> None:
        self.now = 100.0
        self.always = 5_000.0

    def gaps(self) -> Gaps:
        return Gaps(lambda: self.now, lambda: self.always)

    def run(self, seconds: float) -> None:
        self.now += seconds
        self.always += seconds


def test_a_process_that_runs_has_no_gaps() -> None:
    clocks = Clocks()
    gaps = clocks.gaps()
    for _ in range(100):
        clocks.run(0.25)
        gaps.tick()
    assert not gaps.since(100.0)
    assert gaps.age_s(100.0, clocks.now) == 25.0


def test_a_stop_is_a_gap_for_what_began_before_it_and_makes_nothing_older() -> None:
    clocks = Clocks()
    gaps = clocks.gaps()
    clocks.run(60.0)
    assert gaps.since(99.0)
    assert repr(gaps) == "<1 gaps>"
    clocks.run(2.0)
    gaps.tick()
    assert gaps.since(159.0)
    assert not gaps.since(160.5)
    assert gaps.age_s(99.0, clocks.now) == 3.0
    assert gaps.age_s(161.0, clocks.now) == 1.0


def test_the_machines_sleep_is_one_although_the_clock_stood_still() -> None:
    clocks = Clocks()
    gaps = clocks.gaps()
    clocks.always += 7_200.0
    gaps.tick()
    clocks.run(1.0)
    assert gaps.since(99.5)
    assert gaps.age_s(99.5, clocks.now) == 1.5


def test_of_a_thousand_gaps_the_last_ones_are_kept() -> None:
    clocks = Clocks()
    gaps = clocks.gaps()
    for _ in range(1000):
        clocks.run(10.0)
        gaps.tick()
    assert gaps.since(99.0)
    assert repr(gaps) == "<16 gaps>"


def test_what_was_on_its_way_when_the_machine_slept_is_asked_again_and_stops_nothing(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return failure(faults.CONNECTION if row % 2 else faults.TIMEOUT) if nth == 1 else reply()

        wire = Wire()
        async with work(40, wire, attempts=1, concurrency=40) as at:
            at.feed()
            await at.until(lambda: wire.in_flight == 40)
            at.dispatcher.gaps._always = lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 3600.0
            wire.rule = lambda *_: reply()
            for row, request in list(wire.open.items()):
                answer = rule(row, 1)
                assert isinstance(answer, Failure)
                request.set_result(answer)
            await at.done()
            records = await at.outcomes()
            assert not any(record["failed"] for record in records.values())
            assert at.dispatcher.count().faults == {"asleep": 40}
            assert not at.told.tripped

    run(story())
