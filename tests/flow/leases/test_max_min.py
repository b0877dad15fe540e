"""Max-min fairness, for what can be divided at will and for whole slots."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.flow.leases.max_min import fill_slots, water_fill


@pytest.mark.parametrize(
    ("capacity", "wants", "shares"),
    [
        (10.0, [], []),
        (10.0, [2.0, math.inf, math.inf], [2.0, 4.0, 4.0]),
        (10.0, [math.inf, 5.0, 1.0], [4.5, 4.5, 1.0]),
        (10.0, [1.0, 3.0], [4.0, 6.0]),  # the rest is lent
        (0.0, [math.inf, 1.0], [0.0, 0.0]),
    ],
)
def test_water_fills_the_smallest_wants_first(capacity: float, wants: list[float], shares: list[float]) -> None:
    assert water_fill(capacity, wants, [False] * len(wants)) == pytest.approx(shares)


def test_the_rest_goes_to_the_hungry() -> None:
    assert water_fill(10.0, [1.0, 1.0, 2.0], [False, True, True]) == pytest.approx([1.0, 4.0, 5.0])


@settings(deadline=None, max_examples=100)
@given(
    capacity=st.floats(0, 1e6),
    wants=st.lists(st.tuples(st.floats(0, 1e6) | st.just(math.inf), st.booleans()), min_size=1, max_size=30),
)
def test_all_is_divided_and_nobody_has_more_who_could_give_to_one_that_wants(
    capacity: float, wants: list[tuple[float, bool]]
) -> None:
    shares = water_fill(capacity, [want for want, _ in wants], [first for _, first in wants])
    assert math.fsum(shares) == pytest.approx(capacity)
    for share, (want, _) in zip(shares, wants, strict=True):
        if share < want * (1 - 1e-9):
            assert max(shares) <= share * (1 + 1e-9) + 1e-9


@settings(deadline=None, max_examples=100)
@given(capacity=st.integers(0, 500), wants=st.lists(st.integers(0, 300), max_size=30), ceiling=st.integers(0, 100))
def test_slots_are_whole_and_fair(capacity: int, wants: list[int], ceiling: int) -> None:
    shares = fill_slots(capacity, wants, ceiling)
    assert sum(shares) == min(capacity, ceiling * len(wants))
    assert all(0 <= share <= ceiling for share in shares)
    if capacity >= len(wants) and ceiling:
        assert all(share >= 1 for share, want in zip(shares, wants, strict=True) if want)
    for share, want in zip(shares, wants, strict=True):
        if share < min(want, ceiling):
            assert max(shares) <= share + 1
