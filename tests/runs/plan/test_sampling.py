"""What a sample says of the whole, held against wholes that are known."""

from random import Random

import pytest

from rowmill.core.plan import Range
from rowmill.runs.plan.sampling import fitted, proportional, regressed, spread_of_clusters, widened


def test_a_line_is_found_where_there_is_one() -> None:
    known = [float(each) for each in range(20)]
    found = regressed(known, [7 + 2 * each for each in known], mean=100.0, count=1000)
    assert found.likely == pytest.approx(1000 * 207)
    assert found.high - found.low < 1e-3


def test_without_a_line_the_mean_counts_and_what_is_known_does_not() -> None:
    random = Random(1)
    known = [random.random() for _ in range(200)]
    measured = [random.random() for _ in known]
    far, near = (regressed(known, measured, mean=mean, count=10_000).likely for mean in (0.5, 50.0))
    assert far == near == pytest.approx(10_000 * sum(measured) / 200)


@pytest.mark.parametrize("sigma", [0.2, 0.8])
def test_the_range_holds_in_nineteen_cases_of_twenty(sigma: float) -> None:
    random = Random(2)
    known = [random.uniform(20, 200) for _ in range(5000)]
    measured = [0.3 * each + random.lognormvariate(3, sigma) for each in known]
    whole, mean = sum(measured), sum(known) / len(known)
    held = 0
    for _ in range(200):
        chosen = random.sample(range(len(known)), 100)
        found = regressed([known[i] for i in chosen], [measured[i] for i in chosen], mean, len(known))
        held += found.low <= whole <= found.high
    assert 180 <= held <= 199


def test_a_sample_of_everything_is_certain() -> None:
    found = regressed([1.0] * 12, [float(each) for each in range(12)], mean=1.0, count=12)
    assert (found.low, found.likely, found.high) == pytest.approx((66, 66, 66))


def test_very_few_points_are_scaled_in_proportion() -> None:
    assert proportional([10.0, 30.0], [20.0, 60.0], mean=50.0, count=10) == Range(1000.0, 1000.0, 1000.0)
    assert fitted([10.0, 30.0], [20.0, 60.0], mean=50.0, count=10).likely == 1000.0
    one = fitted([10.0], [20.0], mean=50.0, count=10)
    assert (one.low, one.likely, one.high) == (0.0, 1000.0, 2000.0)
    assert fitted([0.0], [20.0], mean=0.0, count=10).likely == 200.0


def test_equal_clusters_leave_no_doubt_and_different_ones_do() -> None:
    assert spread_of_clusters([10.0, 20.0], [1, 2], share=0.1) == 0.0
    assert spread_of_clusters([10.0, 30.0], [1, 1], share=1.0) == 0.0
    assert spread_of_clusters([10.0], [1], share=0.1) == 0.0
    few = spread_of_clusters([10.0, 30.0] * 2, [1] * 4, share=0.01)
    many = spread_of_clusters([10.0, 30.0] * 20, [1] * 40, share=0.01)
    assert 0 < many < few


def test_doubts_of_two_kinds_add_up_as_squares() -> None:
    assert widened(Range(70.0, 100.0, 130.0), 0.4) == Range(50.0, 100.0, 150.0)
    assert widened(Range(70.0, 100.0, 130.0), 0.0) == Range(70.0, 100.0, 130.0)
