"""A worker's credit: nothing is ever lost or made in it."""

from math import inf, isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.budget.credit import Credit
from rowmill.core.amounts import Amount


def test_before_the_first_grant_nothing_is_covered() -> None:
    assert not Credit().covers(0.0, 0.0)


@pytest.mark.parametrize(
    ("allowed", "covered"),
    [
        (Amount(1.0, 10.0, 0.5), True),
        (Amount(0.0, 10.0, 0.5), False),
        (Amount(1.0, 9.0, 0.5), False),
        (Amount(1.0, 10.0, 0.4), False),
        (Amount(inf, inf, 0.5), True),
        (Amount(inf, inf, 0.4), False),
        (Amount(inf, inf, inf), True),
    ],
)
def test_a_request_is_covered_by_all_three_or_not_at_all(allowed: Amount, covered: bool) -> None:
    credit = Credit()
    credit.allow(allowed)
    assert credit.covers(10.0, 0.5) is covered


def test_what_a_reply_used_takes_the_place_of_the_estimate() -> None:
    credit = Credit()
    credit.allow(Amount(2.0, 100.0, 1.0))
    credit.reserve(60.0, 0.5)
    assert credit.spent == Amount(1.0, 60.0, 0.5)
    assert credit.reserved == Amount(1.0, 60.0, 0.5)
    one = "<1 requests, 60 tokens, $0.5>"
    assert repr(credit) == f"<<1 requests, 40 tokens, $0.5> left, {one} spent, {one} in flight>"
    assert not credit.covers(60.0, 0.5)
    credit.settle(60.0, 0.5, 40.0, 0.25)
    assert credit.spent == Amount(1.0, 40.0, 0.25)
    assert credit.reserved == Amount()
    assert credit.covers(60.0, 0.75)


def test_what_was_not_billed_still_was_a_request() -> None:
    credit = Credit()
    credit.allow(Amount(1.0, 100.0, 1.0))
    credit.reserve(60.0, 0.5)
    credit.settle(60.0, 0.5, 0.0, 0.0)
    assert credit.spent == Amount(1.0, 0.0, 0.0)
    assert credit.give_back() == Amount(0.0, 100.0, 1.0)


def test_a_debt_is_not_given_back_but_taken_from_the_next_grant() -> None:
    credit = Credit()
    credit.allow(Amount(3.0, 100.0, 1.0))
    credit.reserve(100.0, 0.25)
    credit.settle(100.0, 0.25, 130.0, 0.5)
    assert credit.give_back() == Amount(2.0, 0.0, 0.5)
    need = credit.need(50.0, 0.25)
    assert (need.requests, need.usd) == (1.0, 0.25)
    assert need.tokens == pytest.approx(80.0)
    credit.allow(Amount(1.0, 50.0, 0.25))
    assert not credit.covers(50.0, 0.25)
    credit.allow(Amount(0.0, 30.0, 0.0))
    assert credit.covers(50.0, 0.25)
    assert not credit.covers(51.0, 0.25)


@given(debt=st.floats(1e-9, 1e9), estimate=st.floats(1e-9, 1e9))
def test_a_need_that_is_allowed_is_always_covered(debt: float, estimate: float) -> None:
    credit = Credit()
    credit.allow(Amount(1.0, estimate, debt))
    credit.reserve(estimate, debt)
    credit.settle(estimate, debt, estimate + debt, 2.0 * debt)
    credit.give_back()
    credit.allow(credit.need(estimate, estimate))
    assert credit.covers(estimate, estimate)


_figure = st.floats(0.0, 1e6)


@given(
    free=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("allow"), _figure, _figure),
            st.tuples(st.just("reserve"), _figure, _figure),
            st.tuples(st.just("settle"), _figure, _figure),
            st.tuples(st.just("give back"), _figure, _figure),
        ),
        max_size=60,
    ),
)
def test_what_was_allowed_is_given_back_spent_or_still_there(
    free: tuple[bool, bool, bool], steps: list[tuple[str, float, float]]
) -> None:
    """`free`: which of requests, tokens and dollars are not limited."""
    credit, given_out, returned = Credit(), Amount(), Amount()
    in_flight: list[tuple[float, float]] = []
    for what, tokens, usd in steps:
        if what == "allow":
            finite = (float(int(tokens)) % 5, tokens, usd)
            given_out += Amount(*(0.0 if any_ else value for any_, value in zip(free, finite, strict=True)))
            credit.allow(Amount(*(inf if any_ else value for any_, value in zip(free, finite, strict=True))))
        elif what == "reserve" and credit.covers(tokens, usd):
            credit.reserve(tokens, usd)
            in_flight.append((tokens, usd))
        elif what == "settle" and in_flight:
            credit.settle(*in_flight.pop(0), tokens, usd)
        elif what == "give back":
            left = credit.give_back()
            returned += left
            assert min(left.requests, left.tokens, left.usd) >= 0
            assert not credit.covers(1e-9, 1e-9) or all(free)
    assert credit.reserved.requests == len(in_flight)
    assert credit.reserved.tokens == pytest.approx(sum(tokens for tokens, _ in in_flight), abs=1e-6)
    kept = (credit._requests, credit._tokens, credit._usd)
    expected = given_out - returned - credit.spent
    for any_, there, figure in zip(free, kept, (expected.requests, expected.tokens, expected.usd), strict=True):
        assert there == pytest.approx(figure, abs=1e-6) if not any_ else there in {0.0, inf} or isfinite(there)
