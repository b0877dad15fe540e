"""Refusals that stand alone hold their row; those of a limit hold everybody, soon."""

from random import Random

from rowmill.flow.limits.strays import Strays


def proven() -> Strays:
    strays = Strays()
    for at in (1.0, 2.0):
        assert not strays.refused(1.0, at, 1000, at + 0.1), "until it is known, everybody waits"
        strays.answered(at + 0.05)
    return strays


def test_a_server_that_refuses_a_few_in_a_hundred_holds_nearly_nobody() -> None:
    for share, most in ((0.02, 0.02), (0.05, 0.05)):
        strays, rng, replies, refused, held = Strays(), Random(7), 20, 0, 0
        for number in range(20_000):
            at = number / 100
            if rng.random() < share:
                refused += 1
                held += not strays.refused(1.0, at, replies, at + 0.1)
            else:
                replies += 1
                strays.answered(at)
        assert held / refused < most


def test_a_limit_that_is_reached_holds_everybody_at_once_and_again() -> None:
    strays = Strays()
    for window in range(5):
        began = 10.0 * window
        for place in range(16):
            assert not strays.refused(5.0, began + place / 1000, 1000 * (window + 1), began + 0.1)
        strays.answered(began + 6.0)  # sent after the wait: it proves nothing


def test_once_they_stand_alone_the_third_in_a_row_holds_everybody() -> None:
    strays = proven()
    assert [strays.refused(5.0, 3.0 + place, 2000, 3.1 + place) for place in range(4)] == [True, True, False, False]
    assert not strays.refused(5.0, 9.0, 2100, 9.1), "and what comes later has to be proven again"


def test_refusals_between_late_replies_are_seen_by_their_share() -> None:
    strays = proven()
    alone = [strays.refused(5.0, 3.0, 2000 + each, 3.1) for each in range(20)]
    assert alone == [True] * 12 + [False] * 8


def test_where_the_wait_is_long_or_not_told_it_is_no_matter_of_strays() -> None:
    assert not proven().refused(600.0, 3.0, 2000, 3.1)
    assert not proven().refused(None, 3.0, 2000, 3.1)


def test_refusals_that_are_heard_of_at_once_are_told_by_what_the_waits_between_them_let_through() -> None:
    strays, rng, now, sent, held = Strays(), Random(7), 0.0, 0, []
    for _ in range(20):
        while rng.random() > 0.03:
            now += 0.02
            sent += 1
        alone = strays.refused(1.0, now, sent, now + 0.001, sent=sent)
        held.append(not alone)
        now += 0.01 if alone else 1.1
    assert not any(held[10:]), "twice far fewer were sent than were let through before"
    assert held[0]


def test_a_limit_that_lets_through_the_same_after_each_wait_goes_on_holding_everybody() -> None:
    strays, rng, now, sent = Strays(), Random(7), 0.0, 0
    for _ in range(200):
        count = round(20 * rng.uniform(0.75, 1.25))  # of 20 a second, others ask too
        sent += count
        now += 1.05
        assert not strays.refused(1.0, now, sent, now + 0.001, sent=sent)
