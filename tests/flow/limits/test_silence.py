"""Refusals while nothing is let through say nothing of a rate: at the start, after a pause, with and without hints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.config import ProviderConfig
from rowmill.flow.limits.provider_limits import ProviderLimits
from rowmill.flow.limits.silence import Silence, Unheard, wait_s
from rowmill.simulator.limits import Gcra
from tests.flow.limits.provider_model import Model, between


def limits() -> ProviderLimits:
    return ProviderLimits(ProviderConfig(), 0.0)


@pytest.mark.parametrize("outage_s", [3, 20, 60])
def test_a_provider_that_refuses_everything_at_first_is_at_full_speed_within_seconds(outage_s: int) -> None:
    model = Model(limits(), Gcra(60_000), unpaced=200, reply_s=0.1, outage=lambda now: now < outage_s)
    model.run(outage_s + 30)
    soon = outage_s + max(2.0, outage_s / 5)
    assert model.rate_taken(soon + 1.5, outage_s + 30) > 195
    assert not model.news
    assert between(model.sent, 2, outage_s) < 30, "and it was not hammered"


def test_a_real_limit_is_still_learned_after_a_silence() -> None:
    model = Model(limits(), Gcra(50 * 60), unpaced=200, reply_s=0.1, outage=lambda now: now < 20)
    model.run(90)
    assert model.rate_taken(40, 90) > 45
    assert model.share_refused(40, 90) < 0.05


def test_a_real_limit_is_learned_although_no_answer_comes_for_half_a_minute() -> None:
    known = limits()
    known.spent(40, 0, 0.25, refused=30, answered=0)
    for tick in range(2, 80):
        share = known.requests(tick / 4)
        rate = 40.0 if share is None else share.rate
        sent = int(rate * (tick + 1) / 4) - int(rate * tick / 4)
        refused = max(0, sent - 3)  # 12 a second are let through
        known.spent(sent, 0, tick / 4, refused=refused, answered=0)
        if refused:
            known.refused(tick / 4, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)
    share = known.requests(20.0)
    assert share is not None
    assert 8 < share.rate < 16


def test_after_a_pause_nothing_is_learned_until_something_was_let_through() -> None:
    known = limits()
    for tick in range(1, 21):
        known.spent(25, 0, tick / 4)
    known.held()
    assert known.silent
    for tick in range(101, 141):
        known.spent(1, 0, tick / 4, refused=1)
        known.refused(tick / 4, slow_down=tick % 2 == 0, requests_per_s=0.0, tokens_per_s=0.0)
        assert known.requests(tick / 4) is not None, "it is asked now and then"
    known.spent(2, 0, 35.5, refused=1, answered=1)
    known.refused(35.6, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)  # late: of those from before
    known.spent(30, 0, 36.25, refused=3, answered=27)
    assert not known.silent
    assert known.requests(36.5) is None
    assert known.learned() == []


def test_a_first_burst_that_is_refused_in_part_counts() -> None:
    known = limits()
    known.spent(32, 0, 0.25, refused=22, answered=10)
    known.refused(0.25, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)
    known.spent(4, 0, 0.75, refused=3, answered=1)
    assert known.requests(0.75) is not None
    assert len(known.learned()) == 1


def test_refusals_from_before_the_first_answer_are_no_evidence_although_one_report_tells_both() -> None:
    known = limits()
    known.refused(0.0, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)
    known.spent(7, 0, 0.25, refused=3, early=3)
    known.spent(12, 0, 0.75)
    assert known.requests(0.75) is None
    assert known.learned() == []


def test_what_is_sent_after_the_first_that_is_let_through_and_refused_all_the_same_is_evidence() -> None:
    unheard = Unheard()
    for started in (1.0, 1.02, 1.5, 1.6):
        unheard.refused(started)
    assert unheard.early == 4, "as long as nothing is known"
    unheard.answered(1.01)
    assert unheard.early == 2
    unheard.refused(1.04)  # late
    unheard.refused(2.0)
    assert unheard.early == 3
    known = limits()
    known.spent(32, 0, 0.25, refused=22, answered=0, early=22)
    known.spent(0, 0, 0.5, answered=10, early=-20)  # the answers take long: that these came after them is seen now
    known.refused(0.5, slow_down=False, requests_per_s=0.0, tokens_per_s=0.0)
    known.spent(4, 0, 0.9, refused=3)
    assert len(known.learned()) == 1


def test_leases_tell_a_worker_what_the_others_have_heard() -> None:
    slow, proven = Unheard(), Unheard()
    for one in (slow, proven):
        one.told(silent=True, proven=False)
        one.refused(1.0)
        one.refused(2.0)
    slow.told(silent=False, proven=False)  # not refused within seconds: some was let through, and these were not
    proven.told(silent=False, proven=True)
    assert (slow.early, proven.early) == (0, 2)
    for one in (slow, proven):
        one.refused(3.0)
        assert one.early in (0, 2), "others are let through: it speaks of the rate"
        one.told(silent=True, proven=True)
        one.refused(4.0)
        assert one.early in (1, 3)


def test_how_long_to_wait() -> None:
    assert wait_s(20.0, 0.0, silent=True) == 20.0
    assert wait_s(20.0, 0.0, silent=False) == 20.0
    assert wait_s(600.0, 0.0, silent=False) == 600.0
    assert wait_s(None, 100.0, silent=False) is None
    assert wait_s(0.0, 100.0, silent=False) == 0.0
    assert wait_s(None, 0.0, silent=True) == wait_s(0.0, 0.0, silent=True) == 0.5
    assert wait_s(None, 60.0, silent=True) == 10.0
    assert wait_s(86_400.0, 0.0, silent=False) == 5.0
    assert wait_s(86_400.0, 1e6, silent=True) == 600.0


@given(st.none() | st.floats(0, 86_400), st.floats(0, 1e6), st.booleans())
def test_a_wait_is_never_longer_than_asked_but_where_nothing_was(
    asked_s: float | None, refused_s: float, silent: bool
) -> None:
    wait = wait_s(asked_s, refused_s, silent=silent)
    assert wait is None or 0 <= wait <= max(asked_s or 0.0, 60.0)
    if asked_s is not None and 0.2 <= asked_s <= 600:
        assert wait == asked_s


def test_it_is_over_with_the_first_answer_or_where_refusals_stay_out() -> None:
    quick, slow = Silence(), Silence()
    assert quick.lasts
    assert quick.rate(0.0) is None, "nothing was refused yet"
    quick.spent(16, 16, 0, 0.25)
    assert quick.rate(0.25) == 2.0
    quick.spent(1, 0, 1, 0.5)
    assert not quick.lasts
    slow.spent(16, 12, 0, 0.25)
    slow.spent(0, 0, 0, 3.0)
    assert slow.lasts
    slow.spent(0, 0, 0, 3.25)
    assert not slow.lasts
