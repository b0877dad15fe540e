"""Distributions: every value is in the bucket that its size says, and what is added up is what was taken together."""

from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.histograms import Distributions, bucket_of, counted, least_of, quantile

values = st.integers(0, 1 << 50)


@given(values)
def test_a_value_is_in_its_bucket_and_the_bucket_is_narrow(value: int) -> None:
    bucket = bucket_of(value)
    least, beyond = least_of(bucket), least_of(bucket + 1)
    assert least <= value < beyond
    assert beyond - least <= max(1, least / 16)


@given(values, values)
def test_buckets_are_ordered_as_values_are(one: int, other: int) -> None:
    assert (bucket_of(one) <= bucket_of(other)) or one > other


def test_what_is_below_nothing_counts_as_nothing() -> None:
    assert bucket_of(-3) == 0


def test_what_a_server_made_up_counts_as_the_largest() -> None:
    assert counted([2**64 - 1, 2**64, 10**400]) == {975: 3}


@given(st.lists(values, max_size=30), st.lists(values, max_size=30))
def test_what_is_added_is_what_was_counted_together(one: list[int], other: list[int]) -> None:
    whole = Distributions(latency_ms=counted(one))
    whole.add(Distributions(latency_ms=counted(other)))
    assert whole.latency_ms == counted([*one, *other])


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_right_to_a_sixteenth(given_values: list[int], part: float) -> None:
    exact = sorted(given_values)[max(0, -(-len(given_values) * part // 1).__int__() - 1)]
    found = quantile(counted(given_values), part)
    assert found is not None
    assert abs(found - exact) <= exact / 16


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
