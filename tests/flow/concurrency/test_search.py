"""The search for the right number in flight, on servers whose goodput is a formula: what is tried, and in what order.

`test_control` has the same on simulated servers, with chance, queues and delays.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest

from rowmill.flow.concurrency.goodput import Recent
from rowmill.flow.concurrency.search import Search

TICK_S = 0.25
REPLY_S = 0.1

Server = Callable[[int], float]  # requests in flight -> reply time


def slots(count: int) -> Server:
    return lambda in_flight: REPLY_S * max(1.0, in_flight / count)


def knee(count: int) -> Server:
    return lambda in_flight: REPLY_S * max(1.0, in_flight / count) ** 2


class Climb:
    """One search on one server; `tried` lists the limits in the order in which they were tried."""

    def __init__(self, server: Server, limit: int = 8, *, floor: int = 1, ceiling: int = 1000) -> None:
        self.server = server
        self.recent = Recent()
        self.search = Search(limit, floor=floor, ceiling=ceiling, recent=self.recent)
        self.now = 0.0
        self.tried = [limit]
        self.probes: list[float] = []  # when

    @property
    def found(self) -> int:
        """The limit that has proved itself: what a probe under way tries has not."""
        self.search.abandon()
        return self.search.limit

    def run(self, seconds: float, *, used: bool = True) -> "Climb":
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_S
            limit = self.search.limit
            reply_s = self.server(limit)
            answered = round(limit / reply_s * TICK_S)
            before = self.search.phase
            self.recent.add(TICK_S, answered, answered * reply_s, limit)
            self.search.measure(self.now, TICK_S, answered, answered * reply_s, limit, used=used)
            if self.search.limit != self.tried[-1]:
                self.tried.append(self.search.limit)
            if before == "steady" and self.search.phase == "probe":
                self.probes.append(self.now)
        return self


def test_slow_start_doubles_to_below_three_times_the_slots_and_then_goes_to_where_they_are() -> None:
    climb = Climb(slots(100))
    assert repr(climb.search) == "<slow start at 8, found 8, next probe 1.25>"
    climb.run(8.0)
    assert repr(climb.search) == "<probe at 138, found 138, next probe 1.25>"
    assert climb.tried[:7] == [8, 11, 22, 44, 88, 176, 110]


@pytest.mark.parametrize("count", range(4, 12))
def test_a_small_server_is_never_given_three_times_its_slots(count: int) -> None:
    climb = Climb(slots(count)).run(60.0)
    assert max(climb.tried) < 3 * count
    assert count - 1 <= climb.found <= 1.3 * count + 1


def test_a_server_smaller_than_the_first_number_is_found_by_halving() -> None:
    climb = Climb(knee(4)).run(20.0)
    assert climb.tried[:5] == [8, 11, 4, 2, 4]


@pytest.mark.parametrize("server", [slots, knee])
@pytest.mark.parametrize("count", [13, 17, 29, 40, 64, 100, 150, 300])
def test_wherever_the_steps_fall_the_number_found_is_a_good_one(server: Callable[[int], Server], count: int) -> None:
    climb = Climb(server(count)).run(120.0)
    found = climb.found
    assert found / climb.server(found) >= 0.89 * count / REPLY_S
    assert found <= 1.25 * count


def test_rejected_probes_come_at_longer_and_longer_intervals() -> None:
    climb = Climb(slots(100)).run(300.0)
    gaps = [later - earlier for earlier, later in pairwise(climb.probes)]
    assert gaps[0] < 4.0
    assert all(later > earlier - 1.0 for earlier, later in pairwise(gaps))
    assert 14.0 < gaps[-1] < 20.0


def test_a_goodput_that_shifts_brings_the_next_probe_at_once() -> None:
    climb = Climb(slots(100)).run(200.0)
    while climb.search.phase == "probe" or climb.now - climb.probes[-1] < 4.0:
        climb.run(TICK_S)
    at, before = climb.now, len(climb.probes)
    climb.server = slots(50)
    climb.run(5.0)
    assert len(climb.probes) > before
    assert climb.probes[before] - at < 4.0
    climb.run(40.0)
    assert climb.found <= 65


def test_a_server_that_grows_is_followed_by_slow_start_again() -> None:
    climb = Climb(slots(20)).run(60.0)
    climb.server = slots(400)
    climb.run(60.0)
    assert 380 <= climb.found <= 500


def test_a_coarse_step_that_has_lost_goodput_is_not_taken_again_while_the_server_is_what_it_was() -> None:
    climb = Climb(knee(100)).run(300.0)
    assert climb.tried.count(124) == 1, "a quarter above 99"
    assert climb.tried.count(111) > 5, "the fine step up goes on"
    climb.server = slots(400)
    climb.run(40.0)
    assert max(climb.tried) > 800, "once a fine step has found room, coarse ones and slow start are back"


def test_a_coarse_step_that_only_brought_nothing_is_tried_again() -> None:
    climb = Climb(slots(100)).run(300.0)
    found = climb.found
    assert climb.tried.count(round(found * 1.25)) > 3


def test_nothing_above_the_ceiling_or_below_the_floor_is_tried() -> None:
    assert max(Climb(slots(100), ceiling=30).run(60.0).tried) == 30
    assert min(Climb(slots(1), floor=6).run(60.0).tried) == 6


def test_a_start_at_the_ceiling_only_looks_below() -> None:
    climb = Climb(slots(100), ceiling=8).run(60.0)
    assert max(climb.tried) == 8
    assert climb.tried[:3] == [8, 6, 8]


def test_a_higher_ceiling_is_tried_soon() -> None:
    climb = Climb(slots(100), ceiling=30).run(120.0)
    climb.search.set_ceiling(1000, climb.now)
    climb.run(15.0)
    assert climb.found > 80


def test_a_ceiling_that_rises_during_a_probe_down_does_not_turn_it_into_a_step_up() -> None:
    climb = Climb(slots(100), ceiling=30).run(8.0)
    while climb.search.phase != "probe":
        climb.run(TICK_S)
    assert climb.search.limit < 30
    climb.search.set_ceiling(34, climb.now)
    assert climb.search.limit == 30
    climb.run(4.0)
    assert climb.search.limit == 34


def test_what_is_not_in_use_is_not_judged() -> None:
    climb = Climb(slots(100)).run(60.0, used=False)
    assert climb.tried == [8]


def test_a_probe_is_left_when_the_slots_are_no_longer_in_use() -> None:
    climb = Climb(slots(100)).run(8.0)
    while not climb.search.probes_up:
        climb.run(TICK_S)
    proved = climb.tried[-2]
    climb.run(5.0, used=False)
    assert climb.search.phase == "steady"
    assert climb.search.limit == proved


def test_a_step_that_was_not_judged_is_first_checked_from_below() -> None:
    climb = Climb(slots(30))
    while climb.search.limit < 44:
        climb.run(TICK_S)
    climb.run(5.0, used=False)
    assert climb.search.limit == 44
    climb.run(10.0)
    assert max(climb.tried) == 44
    assert climb.found < 40


def test_a_probe_whose_replies_do_not_come_back_has_failed() -> None:
    climb = Climb(lambda in_flight: REPLY_S if in_flight <= 88 else 1000.0).run(60.0)
    assert 70 <= climb.found <= 88


def test_headroom_stays_near_what_was_found() -> None:
    search = Search(100, floor=1, ceiling=1000, recent=Recent())
    for _ in range(10):
        search.widen(1.15, at_most=1.5)
    assert search.limit == 150
