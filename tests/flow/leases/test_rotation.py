"""Who holds a share where there is not enough for all: each in its time, out of step with the others."""

from random import Random

import pytest

from rowmill.flow.leases.holder import LeaseHolder
from rowmill.flow.leases.rotation import Room, rotate

UNLIMITED = (float("inf"), float("inf"))


def holders(count: int) -> list[LeaseHolder]:
    """Return some that want everything."""
    return [LeaseHolder(number, 0.0, 1.0) for number in range(count)]


@pytest.mark.parametrize(("rate", "stay_s"), [(10.0, 1.0), (0.1, 10.0)])
def test_a_share_stays_for_a_second_or_for_a_requests_time_and_a_little_more_at_random(
    rate: float, stay_s: float
) -> None:
    rng, stays = Random(1), set()
    for _ in range(40):
        (one,) = holders(1)
        assert rotate([one], Room(1, (rate, 1.0), UNLIMITED), rng, 100.0) == [one]
        assert one.rotates_at is not None
        stays.add(one.rotates_at - 100.0)
    assert len(stays) == 40, "in step, a slow limit would always earn for the same one"
    assert stay_s <= min(stays) < 1.05 * stay_s
    assert 1.2 * stay_s < max(stays) <= 1.25 * stay_s


def test_who_waits_longest_is_next_and_who_has_a_share_keeps_it_until_its_time() -> None:
    everyone, rng = holders(3), Random(1)
    seen = []
    for now in (0.0, 0.5, 2.0, 2.5, 4.0, 6.0, 8.0):
        (chosen,) = rotate(everyone, Room(1, (10.0, 1.0), UNLIMITED), rng, now)
        seen.append(chosen.number)
        for one in everyone:
            one.slots = int(one is chosen)
    assert seen == [0, 0, 1, 1, 2, 0, 1]
