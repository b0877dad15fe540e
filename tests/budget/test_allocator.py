"""The supervisor's end of a budget, message by message. Whole runs are in `test_lives`."""

from math import inf

import pytest

from rowmill.budget.allocator import BudgetAllocator
from rowmill.core.amounts import Amount

NOTHING = Amount()
FREE = Amount(inf, inf, inf)
NEED = Amount(1.0, 100.0, 0.01)


def tokens(most: float, spent: float = 0.0, *, workers: int = 2) -> BudgetAllocator:
    """Return an allocator that limits tokens only, with so many workers joined at time 0."""
    allocator = BudgetAllocator(Amount(inf, most, inf), Amount(0.0, spent, 0.0), workers=workers)
    for holder in range(workers):
        allocator.join(holder, 0.0)
    return allocator


def ask(allocator: BudgetAllocator, holder: int, now: float, need: Amount = NEED) -> float:
    """Let a worker that has nothing left ask for a request; return the tokens that it gets."""
    allocator.short(holder, NOTHING, need)
    assert allocator.pressing
    return sum(amount.tokens for to, amount in allocator.grants(now) if to == holder and amount is not None)


def spend(allocator: BudgetAllocator, holder: int, spent: float, in_flight: float = 0.0) -> None:
    allocator.report(holder, Amount(spent / 100, spent, spent * 1e-4), Amount(in_flight / 100, in_flight, 0.0))


def test_nothing_is_handed_out_unasked() -> None:
    allocator = tokens(1000.0)
    assert allocator.grants(0.0) == []
    assert allocator.exhausted is None


def test_what_is_not_limited_is_allowed_without_end_and_counts_nowhere_as_handed_out() -> None:
    allocator = tokens(1_000_000.0)
    allocator.short(0, NOTHING, NEED)
    [(holder, amount)] = allocator.grants(0.0)
    assert holder == 0
    assert amount is not None
    assert (amount.requests, amount.usd) == (inf, inf)
    assert allocator.outstanding == Amount(0.0, amount.tokens, 0.0)
    spend(allocator, 0, 300.0)
    assert allocator.spent == Amount(3.0, 300.0, 300.0 * 1e-4)


def test_a_first_grant_is_for_some_requests_and_the_next_ones_grow() -> None:
    allocator = tokens(10_000_000.0)
    first = ask(allocator, 0, 0.0)
    assert 5 <= first / 100 <= 50
    assert ask(allocator, 0, 0.02) >= 1.5 * first, "it was used up at once"
    assert ask(allocator, 0, 60.0) == pytest.approx(first), "it lasted for a minute"


def test_a_small_cap_is_not_handed_out_to_one_worker() -> None:
    allocator = tokens(1000.0, workers=4)
    assert ask(allocator, 0, 0.0) == 125.0
    assert ask(allocator, 1, 0.0) >= 100.0


def test_a_worker_is_kept_in_credit_for_two_seconds_of_its_use() -> None:
    allocator = tokens(1e9)
    granted = spent = ask(allocator, 0, 0.0)
    for tick in range(1, 41):
        spent = min(granted, spent + 2500.0)  # ten thousand a second
        spend(allocator, 0, spent)
        if granted == spent:
            granted += ask(allocator, 0, tick * 0.25)
        else:
            granted += sum(amount.tokens for _, amount in allocator.grants(tick * 0.25) if amount is not None)
        if tick > 10:
            assert 7_500 <= granted - spent <= 20_000 * 1.01


def test_a_denied_request_waits_and_others_go_on() -> None:
    """0 has nothing, 1 has enough for itself: it is not asked for it while it uses it."""
    allocator = tokens(1000.0)
    granted = ask(allocator, 1, 0.0)
    spend(allocator, 1, 100.0)
    assert ask(allocator, 0, 0.5, Amount(1.0, 900.0, 0.0)) == 0.0
    short = "<<0 requests, 0 tokens, $0> left, waits for <1 requests, 900 tokens, $0>>"
    assert repr(allocator) == (
        "<<inf requests, 750 tokens, $inf> left, <0 requests, 0 tokens, $0> lost; "
        f"{{0: {short}, 1: <<-1 requests, 150 tokens, $-0.01> left>}}; exhausted: None>"
    )
    assert not [to for to, _ in allocator.grants(0.6)]
    assert allocator.exhausted is None
    assert granted >= 200.0


def test_an_idle_worker_is_asked_once_for_what_others_need() -> None:
    allocator = tokens(1000.0)
    granted = ask(allocator, 1, 0.0)
    spend(allocator, 1, 0.0)
    assert ask(allocator, 0, 0.5, Amount(1.0, 900.0, 0.0)) == 0.0
    sent = [each for tick in range(20) for each in allocator.grants(0.75 + tick * 0.25)]
    assert sent == [(1, None)]
    assert allocator.exhausted is None
    allocator.short(1, Amount(0.0, granted, 0.0), NOTHING)
    [(holder, amount)] = allocator.grants(6.0)
    assert holder == 0
    assert amount is not None
    assert amount.tokens == 900.0


def test_who_waits_gets_what_others_return_in_the_order_of_asking() -> None:
    allocator = tokens(300.0, workers=3)
    assert [ask(allocator, holder, 0.0) for holder in range(3)] == [100.0] * 3
    for holder in range(3):
        spend(allocator, holder, 100.0, in_flight=100.0)
    assert ask(allocator, 2, 0.1) == ask(allocator, 1, 0.1) == 0.0
    spend(allocator, 0, 0.0)  # its request was not billed
    allocator.short(0, Amount(0.0, 100.0, 0.0), NOTHING)
    assert allocator.grants(0.2) == [(2, Amount(inf, 100.0, inf))]


def test_what_a_dead_worker_had_counts_as_spent() -> None:
    allocator = tokens(1_000_000.0)
    granted = ask(allocator, 0, 0.0)
    spend(allocator, 0, 500.0, in_flight=200.0)
    allocator.leave(0)
    assert allocator.lost.tokens == pytest.approx(granted - 300.0)
    assert allocator.spent.tokens == pytest.approx(granted)
    assert allocator.outstanding == NOTHING
    assert allocator.reserved == NOTHING


def test_a_worker_that_ends_tidily_loses_nothing() -> None:
    allocator = tokens(1_000_000.0)
    granted = ask(allocator, 0, 0.0)
    spend(allocator, 0, 500.0)
    allocator.short(0, Amount(0.0, granted - 500.0, 0.0), NOTHING)
    allocator.leave(0)
    assert allocator.lost == NOTHING
    assert allocator.spent.tokens == 500.0


def test_a_worker_that_has_far_more_than_it_uses_is_asked_for_it() -> None:
    """Its first requests settled at a fortieth of what they were reserved at. If it died, all of it would be lost."""
    allocator = tokens(1e9)
    granted = ask(allocator, 0, 0.0, Amount(1.0, 4000.0, 0.0))
    spend(allocator, 0, granted, in_flight=granted)
    granted += ask(allocator, 0, 0.1, Amount(1.0, 100.0, 0.0))
    spend(allocator, 0, granted / 40)
    sent = [each for tick in range(1, 40) for each in allocator.grants(tick * 0.25)]
    assert sent == [(0, None)]


def test_what_settled_above_its_estimate_is_taken_out_of_the_pool_and_paid_by_the_next_grant() -> None:
    allocator = tokens(1000.0, workers=1)
    assert ask(allocator, 0, 0.0) == 500.0
    spend(allocator, 0, 800.0)
    assert ask(allocator, 0, 0.1, Amount(1.0, 400.0, 0.0)) == 400.0  # 300 of debt, and a request
    spend(allocator, 0, 900.0)
    assert ask(allocator, 0, 0.2, Amount(1.0, 101.0, 0.0)) == 0.0
    assert allocator.spent.tokens == 900.0


def test_a_debt_above_the_cap_is_not_forgiven() -> None:
    """Otherwise replies that then cost less would be credit again, beyond the cap."""
    allocator = tokens(1000.0, workers=1)
    assert ask(allocator, 0, 0.0) == 500.0
    spend(allocator, 0, 1200.0, in_flight=600.0)
    granted = 500.0 + sum(amount.tokens for _, amount in allocator.grants(0.25) if amount is not None)
    assert granted <= 1000.0


def test_when_nobody_can_go_on_the_budget_is_exhausted_by_the_next_report() -> None:
    allocator = tokens(1000.0, workers=1)
    assert ask(allocator, 0, 0.0) == 500.0
    assert ask(allocator, 0, 5.0) == 500.0 - 250.0
    for now in (5.1, 5.2):
        ask(allocator, 0, now)
    while ask(allocator, 0, 6.0):
        pass
    assert allocator.exhausted is None, "what settlements have freed is not known yet"
    spend(allocator, 0, 1000.0, in_flight=600.0)
    assert allocator.grants(6.25) == []
    assert allocator.exhausted is not None
    assert allocator.exhausted.startswith("budget.max_tokens: 1,000 of 1,000 is spent")
    allocator.short(0, Amount(0.0, 900.0, 0.0), NEED)
    assert allocator.grants(7.0) == [], "nothing is granted any more"


def test_replies_are_waited_for_where_what_is_in_flight_is_reserved_far_too_high() -> None:
    allocator = tokens(1000.0, workers=1)
    while ask(allocator, 0, 0.0):
        pass
    spend(allocator, 0, 1000.0, in_flight=1000.0)
    for tick in range(1, 200):
        allocator.grants(tick * 0.25)
    assert allocator.exhausted is None, "nothing is settled yet"
    spend(allocator, 0, 525.0, in_flight=500.0)  # half of it, at a twentieth
    assert allocator.grants(50.25) == [(0, None)]
    allocator.short(0, Amount(0.0, 475.0, 0.0), NOTHING)
    [(_, amount)] = allocator.grants(50.5)
    assert amount is not None
    assert amount.tokens >= 100.0


def test_replies_are_not_waited_for_where_estimates_are_about_right() -> None:
    """Fifty settled at 100 each; ten more are reserved at 105: by the mean they would free 50, but that is noise."""
    allocator = tokens(6050.0, workers=1)
    while ask(allocator, 0, 0.0, Amount(1.0, 50.0, 0.0)):
        pass
    allocator.report(0, Amount(60.0, 6050.0, 0.0), Amount(10.0, 1050.0, 0.0))
    allocator.grants(0.25)
    assert allocator.exhausted is not None


def test_what_settlements_free_at_a_worker_that_waits_is_passed_on_at_once() -> None:
    allocator = tokens(1000.0, workers=1)
    while ask(allocator, 0, 0.0):
        pass
    spend(allocator, 0, 1000.0, in_flight=1000.0)
    assert allocator.grants(0.25) == []
    spend(allocator, 0, 800.0, in_flight=500.0)
    assert allocator.grants(0.5) == [(0, None)]


def test_an_idle_worker_is_asked_for_what_covers_another_ones_request_and_debt() -> None:
    allocator = tokens(1000.0)
    assert ask(allocator, 0, 0.0) == 250.0
    assert ask(allocator, 1, 0.0) == 187.5
    spend(allocator, 0, 912.5)  # a debt of 662.5, and the next request needs 80
    spend(allocator, 1, 0.0)
    need = Amount(1.0, 742.5, 0.0)
    assert ask(allocator, 0, 1.5, need) == 0.0
    spend(allocator, 0, 912.5)
    allocator.grants(1.75)
    assert allocator.exhausted is None
    allocator.short(1, Amount(0.0, 187.5, 0.0), NOTHING)
    assert allocator.grants(2.0) == [(0, Amount(inf, 742.5, inf))]


def test_a_request_that_hangs_is_not_waited_for_for_ever() -> None:
    allocator = tokens(100.0, workers=1)
    assert ask(allocator, 0, 0.0) == 100.0
    ask(allocator, 0, 0.1, Amount(1.0, 20.0, 0.0))
    spend(allocator, 0, 100.0, in_flight=100.0)
    assert allocator.grants(1.0) == []
    assert allocator.exhausted is None
    allocator.grants(2000.0)
    assert allocator.exhausted is not None


def test_credit_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    """A worker that answers every recall with nothing, whatever it reports: messages end, and so does the run."""
    allocator = tokens(500.0, workers=1)
    assert ask(allocator, 0, 0.0) == 250.0
    allocator.short(0, NOTHING, Amount(1.0, 400.0, 0.0))
    spend(allocator, 0, 0.0)
    sent = 0
    for tick in range(1, 400):
        for holder, amount in allocator.grants(tick * 0.25):
            assert amount is None
            sent += 1
            allocator.short(holder, NOTHING, NOTHING)
        spend(allocator, 0, 0.0)
    assert allocator.exhausted is not None
    assert sent <= 130


@pytest.mark.parametrize(
    ("cap", "key", "figures"),
    [
        (Amount(inf, inf, 0.003), "budget.max_usd", ("0.003000", "0.010000")),
        (Amount(inf, 50.0, inf), "budget.max_tokens", ("50", "100")),
    ],
)
def test_a_cap_below_one_request_says_so_at_once(cap: Amount, key: str, figures: tuple[str, str]) -> None:
    allocator = BudgetAllocator(cap, NOTHING, workers=1)
    allocator.join(0, 0.0)
    allocator.short(0, NOTHING, NEED)
    assert allocator.grants(0.01) == []
    assert allocator.exhausted is None or key in allocator.exhausted
    allocator.report(0, NOTHING)
    assert allocator.grants(0.25) == []
    assert allocator.exhausted == (
        f"{key}: {figures[0]} does not cover one request, which needs about {figures[1]}; "
        "raise it and run the same command again"
    )


def test_the_row_that_is_too_dear_does_not_stop_workers_that_have_not_asked_yet() -> None:
    allocator = tokens(1000.0)
    ask(allocator, 0, 0.0, Amount(1.0, 2000.0, 0.0))
    spend(allocator, 0, 0.0)
    allocator.grants(0.25)
    assert allocator.exhausted is None
    assert ask(allocator, 1, 0.3) >= 100.0


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
    allocator = tokens(1000.0, workers=1)
    lost = ask(allocator, 0, 0.0)
    allocator.leave(0)
    allocator.join(1, 1.0)
    while ask(allocator, 1, 2.0):
        pass
    spend(allocator, 1, 1000.0 - lost)
    allocator.grants(2.25)
    assert f"({lost:.0f} of it was in the hands of workers that died)" in (allocator.exhausted or "")


def test_workers_that_are_gone_are_not_listened_to() -> None:
    allocator = tokens(1000.0)
    allocator.leave(0)
    allocator.leave(0)
    allocator.short(0, NOTHING, NEED)
    allocator.report(0, NEED)
    assert allocator.grants(0.0) == []
    assert allocator.spent == NOTHING
