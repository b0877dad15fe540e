"""What replies say about goodput and reply time."""

import pytest

from rowmill.flow.concurrency.goodput import Epoch, Recent, noise

TICK_S = 0.25


def measured(limit: int, reply_s: float, *, ticks: int = 8) -> Epoch:
    """Return an epoch of a server on which a reply takes so long with so many in flight."""
    epoch = Epoch(limit, settle_s=None)
    for _ in range(ticks):
        replies = round(limit / reply_s * TICK_S)
        epoch.add(TICK_S, replies, replies * reply_s, limit)
    return epoch


def test_goodput_is_what_little_says() -> None:
    epoch = measured(20, 0.2)
    assert epoch.in_flight == pytest.approx(20)
    assert epoch.mean_reply_s == pytest.approx(0.2)
    assert epoch.goodput == pytest.approx(100)


def test_a_wave_of_replies_at_the_edge_is_not_taken_for_goodput() -> None:
    epoch = Epoch(100, settle_s=None)
    for replies in (100, 0, 0, 0, 100):  # one reply time of a second, two waves
        epoch.add(TICK_S, replies, float(replies), 100)
    assert epoch.goodput == pytest.approx(100)


def test_measuring_waits_for_the_limit_to_be_in_force_and_for_what_was_in_flight_before() -> None:
    epoch = Epoch(20, settle_s=0.0)
    epoch.add(TICK_S, 50, 50.0, 10)  # the lease has not arrived
    epoch.add(TICK_S, 10, 10.0, 20)
    epoch.add(TICK_S, 19, 19.0, 20)
    epoch.add(TICK_S, 1, 1.0, 20)
    assert epoch.replies == 0
    epoch.add(TICK_S, 5, 0.5, 20)
    assert epoch.replies == 5
    assert epoch.mean_reply_s == pytest.approx(0.1)


def test_measuring_waits_as_long_as_replies_took_before() -> None:
    epoch = Epoch(4, settle_s=1.0)
    for _ in range(5):
        epoch.add(TICK_S, 4, 0.4, 4)
    assert epoch.replies == 0
    epoch.add(TICK_S, 4, 0.4, 4)
    assert epoch.replies == 4


def test_an_epoch_is_complete_with_the_replies_the_time_and_the_reply_times_it_takes() -> None:
    epoch = measured(20, 0.2)  # 2 s, 10 reply times, 200 replies
    assert epoch.complete(200, 2.0, 10.0)
    assert not epoch.complete(201, 2.0, 10.0)
    assert not epoch.complete(200, 2.1, 10.0)
    assert not epoch.complete(200, 2.0, 10.1)


def test_a_slow_server_is_judged_by_fewer_replies_after_half_a_minute() -> None:
    assert not measured(4, 1.0, ticks=119).complete(200, 1.0, 2.0)
    assert measured(4, 1.0, ticks=120).complete(200, 1.0, 2.0)


def test_an_epoch_without_replies_is_never_complete() -> None:
    epoch = Epoch(4, settle_s=None)
    for _ in range(1000):
        epoch.add(TICK_S, 0, 0.0, 4)
    assert not epoch.complete(1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("limit", "reply_s", "elasticity"),
    [(40, 0.2, 1.0), (40, 0.4, 0.0), (10, 0.2, 1.0), (10, 0.1, 0.0), (40, 0.8, -1.0), (20, 0.3, 0.0)],
    ids=["room above", "full", "room below", "full below", "past a knee", "no step at all"],
)
def test_elasticity_is_percent_of_goodput_for_percent_in_flight(limit: int, reply_s: float, elasticity: float) -> None:
    base, epoch = measured(20, 0.2), measured(limit, reply_s, ticks=64)
    assert epoch.elasticity(base) == pytest.approx(elasticity, abs=0.1)
    assert epoch.counted_elasticity(base) == pytest.approx(elasticity, abs=0.1)


def test_more_replies_and_larger_steps_leave_less_to_chance() -> None:
    base = measured(20, 0.2)
    assert noise(base, measured(25, 0.2, ticks=32)) < noise(base, measured(25, 0.2))
    assert measured(40, 0.2).uncertainty(base) < measured(25, 0.2).uncertainty(base)


def test_the_mean_reply_time_is_that_of_the_latest_replies() -> None:
    recent = Recent()
    for _ in range(100):
        recent.add(TICK_S, 100, 10.0, 10)
    for _ in range(20):
        recent.add(TICK_S, 100, 30.0, 10)
    assert recent.mean_reply_s == pytest.approx(0.3, rel=0.05)
    recent.add(3600.0, 0, 0.0, 0)
    assert recent.mean_reply_s == pytest.approx(0.3, rel=0.05)
