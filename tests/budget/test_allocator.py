"""The supervisor's end of a budget, message by message. Whole runs are in `test_lives`."""

from math import inf

import pytest

from rowmill.budget.allocator import BudgetAllocator
from rowmill.core.amounts import Amount

NOTHING = Amount()
FREE = Amount(inf, inf, inf)
NEED = Amount(1.0, 100.0, 0.01)


def tokens(most: float, spent: float = 0.0, *, workers: int = 2) -> BudgetAllocator:
    """Return allowances that limit tokens only, with so many workers joined at time 0."""
    allowances = BudgetAllocator(Amount(inf, most, inf), Amount(0.0, spent, 0.0), workers=workers)
    for holder in range(workers):
        allowances.join(holder, 0.0)
    return allowances


def ask(allowances: BudgetAllocator, holder: int, now: float, need: Amount = NEED) -> float:
    """Let a worker that has nothing left ask for a request; return the tokens that it gets."""
    allowances.short(holder, NOTHING, need)
    assert allowances.pressing
    return sum(amount.tokens for to, amount in allowances.grants(now) if to == holder and amount is not None)


def spend(allowances: BudgetAllocator, holder: int, spent: float, in_flight: float = 0.0) -> None:
    allowances.report(holder, Amount(spent / 100, spent, spent * 1e-4), Amount(in_flight / 100, in_flight, 0.0))


def test_nothing_is_handed_out_unasked() -> None:
    allowances = tokens(1000.0)
    assert allowances.grants(0.0) == []
    assert allowances.exhausted is None


def test_what_is_not_limited_is_allowed_without_end_and_counts_nowhere_as_handed_out() -> None:
    allowances = tokens(1_000_000.0)
    allowances.short(0, NOTHING, NEED)
    [(holder, amount)] = allowances.grants(0.0)
    assert holder == 0
    assert amount is not None
    assert (amount.requests, amount.usd) == (inf, inf)
    assert allowances.outstanding == Amount(0.0, amount.tokens, 0.0)
    spend(allowances, 0, 300.0)
    assert allowances.spent == Amount(3.0, 300.0, 300.0 * 1e-4)


def test_a_first_grant_is_for_some_requests_and_the_next_ones_grow() -> None:
    allowances = tokens(10_000_000.0)
    first = ask(allowances, 0, 0.0)
    assert 5 <= first / 100 <= 50
    assert ask(allowances, 0, 0.02) >= 1.5 * first, "it was used up at once"
    assert ask(allowances, 0, 60.0) == pytest.approx(first), "it lasted for a minute"


def test_a_small_cap_is_not_handed_out_to_one_worker() -> None:
    allowances = tokens(1000.0, workers=4)
    assert ask(allowances, 0, 0.0) == 125.0
    assert ask(allowances, 1, 0.0) >= 100.0


def test_a_worker_is_kept_in_credit_for_two_seconds_of_its_use() -> None:
    allowances = tokens(1e9)
    granted = spent = ask(allowances, 0, 0.0)
    for tick in range(1, 41):
        spent = min(granted, spent + 2500.0)  # ten thousand a second
        spend(allowances, 0, spent)
        if granted == spent:
            granted += ask(allowances, 0, tick * 0.25)
        else:
            granted += sum(amount.tokens for _, amount in allowances.grants(tick * 0.25) if amount is not None)
        if tick > 10:
            assert 7_500 <= granted - spent <= 20_000 * 1.01


def test_a_denied_request_waits_and_others_go_on() -> None:
    """0 has nothing, 1 has enough for itself: it is not asked for it while it uses it."""
    allowances = tokens(1000.0)
    granted = ask(allowances, 1, 0.0)
    spend(allowances, 1, 100.0)
    assert ask(allowances, 0, 0.5, Amount(1.0, 900.0, 0.0)) == 0.0
    assert not [to for to, _ in allowances.grants(0.6)]
    assert allowances.exhausted is None
    assert granted >= 200.0


def test_an_idle_worker_is_asked_once_for_what_others_need() -> None:
    allowances = tokens(1000.0)
    granted = ask(allowances, 1, 0.0)
    spend(allowances, 1, 0.0)
    assert ask(allowances, 0, 0.5, Amount(1.0, 900.0, 0.0)) == 0.0
    sent = [each for tick in range(20) for each in allowances.grants(0.75 + tick * 0.25)]
    assert sent == [(1, None)]
    assert allowances.exhausted is None
    allowances.short(1, Amount(0.0, granted, 0.0), NOTHING)
    [(holder, amount)] = allowances.grants(6.0)
    assert holder == 0
    assert amount is not None
    assert amount.tokens == 900.0


def test_who_waits_gets_what_others_return_in_the_order_of_asking() -> None:
    allowances = tokens(300.0, workers=3)
    assert [ask(allowances, holder, 0.0) for holder in range(3)] == [100.0] * 3
    for holder in range(3):
        spend(allowances, holder, 100.0, in_flight=100.0)
    assert ask(allowances, 2, 0.1) == ask(allowances, 1, 0.1) == 0.0
    spend(allowances, 0, 0.0)  # its request was not billed
    allowances.short(0, Amount(0.0, 100.0, 0.0), NOTHING)
    assert allowances.grants(0.2) == [(2, Amount(inf, 100.0, inf))]


def test_what_a_dead_worker_had_counts_as_spent() -> None:
    allowances = tokens(1_000_000.0)
    granted = ask(allowances, 0, 0.0)
    spend(allowances, 0, 500.0, in_flight=200.0)
    allowances.leave(0)
    assert allowances.lost.tokens == pytest.approx(granted - 300.0)
    assert allowances.spent.tokens == pytest.approx(granted)
    assert allowances.outstanding == NOTHING
    assert allowances.reserved == NOTHING


def test_a_worker_that_ends_tidily_loses_nothing() -> None:
    allowances = tokens(1_000_000.0)
    granted = ask(allowances, 0, 0.0)
    spend(allowances, 0, 500.0)
    allowances.short(0, Amount(0.0, granted - 500.0, 0.0), NOTHING)
    allowances.leave(0)
    assert allowances.lost == NOTHING
    assert allowances.spent.tokens == 500.0


def test_a_worker_that_has_far_more_than_it_uses_is_asked_for_it() -> None:
    """Its first requests settled at a fortieth of what they were reserved at. If it died, all of it would be lost."""
    allowances = tokens(1e9)
    granted = ask(allowances, 0, 0.0, Amount(1.0, 4000.0, 0.0))
    spend(allowances, 0, granted, in_flight=granted)
    granted += ask(allowances, 0, 0.1, Amount(1.0, 100.0, 0.0))
    spend(allowances, 0, granted / 40)
    sent = [each for tick in range(1, 40) for each in allowances.grants(tick * 0.25)]
    assert sent == [(0, None)]


def test_what_settled_above_its_estimate_is_taken_out_of_the_pool_and_paid_by_the_next_grant() -> None:
    allowances = tokens(1000.0, workers=1)
    assert ask(allowances, 0, 0.0) == 500.0
    spend(allowances, 0, 800.0)
    assert ask(allowances, 0, 0.1, Amount(1.0, 400.0, 0.0)) == 400.0  # 300 of debt, and a request
    spend(allowances, 0, 900.0)
    assert ask(allowances, 0, 0.2, Amount(1.0, 101.0, 0.0)) == 0.0
    assert allowances.spent.tokens == 900.0


def test_a_debt_above_the_cap_is_not_forgiven() -> None:
    """Otherwise replies that then cost less would be credit again, beyond the cap."""
    allowances = tokens(1000.0, workers=1)
    assert ask(allowances, 0, 0.0) == 500.0
    spend(allowances, 0, 1200.0, in_flight=600.0)
    granted = 500.0 + sum(amount.tokens for _, amount in allowances.grants(0.25) if amount is not None)
    assert granted <= 1000.0


def test_when_nobody_can_go_on_the_budget_is_exhausted_by_the_next_report() -> None:
    allowances = tokens(1000.0, workers=1)
    assert ask(allowances, 0, 0.0) == 500.0
    assert ask(allowances, 0, 5.0) == 500.0 - 250.0
    for now in (5.1, 5.2):
        ask(allowances, 0, now)
    while ask(allowances, 0, 6.0):
        pass
    assert allowances.exhausted is None, "what settlements have freed is not known yet"
    spend(allowances, 0, 1000.0, in_flight=600.0)
    assert allowances.grants(6.25) == []
    assert allowances.exhausted is not None
    assert allowances.exhausted.startswith("budget.max_tokens: 1,000 of 1,000 is spent")
    allowances.short(0, Amount(0.0, 900.0, 0.0), NEED)
    assert allowances.grants(7.0) == [], "nothing is granted any more"


def test_replies_are_waited_for_where_what_is_in_flight_is_reserved_far_too_high() -> None:
    allowances = tokens(1000.0, workers=1)
    while ask(allowances, 0, 0.0):
        pass
    spend(allowances, 0, 1000.0, in_flight=1000.0)
    for tick in range(1, 200):
        allowances.grants(tick * 0.25)
    assert allowances.exhausted is None, "nothing is settled yet"
    spend(allowances, 0, 525.0, in_flight=500.0)  # half of it, at a twentieth
    assert allowances.grants(50.25) == [(0, None)]
    allowances.short(0, Amount(0.0, 475.0, 0.0), NOTHING)
    [(_, amount)] = allowances.grants(50.5)
    assert amount is not None
    assert amount.tokens >= 100.0


def test_replies_are_not_waited_for_where_estimates_are_about_right() -> None:
    """Fifty settled at 100 each; ten more are reserved at 105: by the mean they would free 50, but that is noise."""
    allowances = tokens(6050.0, workers=1)
    while ask(allowances, 0, 0.0, Amount(1.0, 50.0, 0.0)):
        pass
    allowances.report(0, Amount(60.0, 6050.0, 0.0), Amount(10.0, 1050.0, 0.0))
    allowances.grants(0.25)
    assert allowances.exhausted is not None


def test_what_settlements_free_at_a_worker_that_waits_is_passed_on_at_once() -> None:
    allowances = tokens(1000.0, workers=1)
    while ask(allowances, 0, 0.0):
        pass
    spend(allowances, 0, 1000.0, in_flight=1000.0)
    assert allowances.grants(0.25) == []
    spend(allowances, 0, 800.0, in_flight=500.0)
    assert allowances.grants(0.5) == [(0, None)]


def test_an_idle_worker_is_asked_for_what_covers_another_ones_request_and_debt() -> None:
    allowances = tokens(1000.0)
    assert ask(allowances, 0, 0.0) == 250.0
    assert ask(allowances, 1, 0.0) == 187.5
    spend(allowances, 0, 912.5)  # a debt of 662.5, and the next request needs 80
    spend(allowances, 1, 0.0)
    need = Amount(1.0, 742.5, 0.0)
    assert ask(allowances, 0, 1.5, need) == 0.0
    spend(allowances, 0, 912.5)
    allowances.grants(1.75)
    assert allowances.exhausted is None
    allowances.short(1, Amount(0.0, 187.5, 0.0), NOTHING)
    assert allowances.grants(2.0) == [(0, Amount(inf, 742.5, inf))]


def test_a_request_that_hangs_is_not_waited_for_for_ever() -> None:
    allowances = tokens(100.0, workers=1)
    assert ask(allowances, 0, 0.0) == 100.0
    ask(allowances, 0, 0.1, Amount(1.0, 20.0, 0.0))
    spend(allowances, 0, 100.0, in_flight=100.0)
    assert allowances.grants(1.0) == []
    assert allowances.exhausted is None
    allowances.grants(2000.0)
    assert allowances.exhausted is not None


def test_credit_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    """A worker that answers every recall with nothing, whatever it reports: messages end, and so does the run."""
    allowances = tokens(500.0, workers=1)
    assert ask(allowances, 0, 0.0) == 250.0
    allowances.short(0, NOTHING, Amount(1.0, 400.0, 0.0))
    spend(allowances, 0, 0.0)
    sent = 0
    for tick in range(1, 400):
        for holder, amount in allowances.grants(tick * 0.25):
            assert amount is None
            sent += 1
            allowances.short(holder, NOTHING, NOTHING)
        spend(allowances, 0, 0.0)
    assert allowances.exhausted is not None
    assert sent <= 130


@pytest.mark.parametrize(
    ("cap", "key", "figures"),
    [
        (Amount(inf, inf, 0.003), "budget.max_usd", ("0.003000", "0.010000")),
        (Amount(inf, 50.0, inf), "budget.max_tokens", ("50", "100")),
    ],
)
def test_a_cap_below_one_request_says_so_at_once(cap: Amount, key: str, figures: tuple[str, str]) -> None:
    allowances = BudgetAllocator(cap, NOTHING, workers=1)
    allowances.join(0, 0.0)
    allowances.short(0, NOTHING, NEED)
    assert allowances.grants(0.01) == []
    assert allowances.exhausted is None or key in allowances.exhausted
    allowances.report(0, NOTHING)
    assert allowances.grants(0.25) == []
    assert allowances.exhausted == (
        f"{key}: {figures[0]} does not cover one request, which needs about {figures[1]}; "
        "raise it and run the same command again"
    )


def test_the_row_that_is_too_dear_does_not_stop_workers_that_have_not_asked_yet() -> None:
    allowances = tokens(1000.0)
    ask(allowances, 0, 0.0, Amount(1.0, 2000.0, 0.0))
    spend(allowances, 0, 0.0)
    allowances.grants(0.25)
    assert allowances.exhausted is None
    assert ask(allowances, 1, 0.3) >= 100.0


@pytest.mark.parametrize(
    ("cap", "spent", "key"),
    [
        (Amount(10.0, inf, inf), Amount(10.0, 5000.0, 1.0), "budget.max_requests: 10 of 10 is spent"),
        (Amount(100.0, 5000.0, inf), Amount(10.0, 5001.0, 1.0), "budget.max_tokens: 5,001 of 5,000 is spent"),
        (Amount(100.0, 6000.0, 1.0), Amount(10.0, 5001.0, 1.0), "budget.max_usd: 1.000000 of 1.000000 is spent"),
    ],
)
def test_what_earlier_sessions_spent_counts(cap: Amount, spent: Amount, key: str) -> None:
    exhausted = BudgetAllocator(cap, spent).exhausted
    assert exhausted is not None
    assert exhausted.startswith(key)


def test_a_message_says_what_was_lost_with_dead_workers() -> None:
    allowances = tokens(1000.0, workers=1)
    lost = ask(allowances, 0, 0.0)
    allowances.leave(0)
    allowances.join(1, 1.0)
    while ask(allowances, 1, 2.0):
        pass
    spend(allowances, 1, 1000.0 - lost)
    allowances.grants(2.25)
    assert f"({lost:.0f} of it was in the hands of workers that died)" in (allowances.exhausted or "")


def test_workers_that_are_gone_are_not_listened_to() -> None:
    allowances = tokens(1000.0)
    allowances.leave(0)
    allowances.leave(0)
    allowances.short(0, NOTHING, NEED)
    allowances.report(0, NEED)
    assert allowances.grants(0.0) == []
    assert allowances.spent == NOTHING
