"""Refusals that stand alone hold their row; those of a limit hold everybody, soon."""

from random import Random

from rowmill.flow.limits.strays import Strays


def test_a_server_that_refuses_a_few_in_a_hundred_holds_nearly_nobody() -> None:
    for share, most in ((0.02, 0.01), (0.05, 0.02)):
        strays, rng, replies, refused, held = Strays(), Random(7), 20, 0, 0
        for _ in range(20_000):
            if rng.random() < share:
                refused += 1
                held += not strays.refused(1.0, replies)
            else:
                replies += 1
        assert held / refused < most


def test_a_limit_that_is_reached_holds_everybody_from_the_third_refusal_on() -> None:
    strays = Strays()
    assert [strays.refused(5.0, 1000) for _ in range(5)] == [True, True, False, False, False]
    assert strays.refused(5.0, 1100), "and what comes long after it stands alone again"


def test_refusals_between_late_replies_are_seen_by_their_share() -> None:
    strays = Strays()
    alone = [strays.refused(5.0, 1000 + each) for each in range(20)]
    assert alone == [True] * 12 + [False] * 8


def test_before_anything_is_known_and_where_the_wait_is_long_everybody_waits() -> None:
    assert not Strays().refused(1.0, 5)
    assert not Strays().refused(600.0, 1000)
    assert not Strays().refused(None, 1000)
