"""Numbers as people read them."""

import pytest

from engine.ui import figures


@pytest.mark.parametrize(
    ("seconds", "long", "as_clock"),
    [
        (0.0, "0.0s", "0:00"), (0.44, "0.4s", "0:00"), (38.2, "38s", "0:38"), (59.9, "1m00s", "1:00"),
        (598.0, "9m58s", "9:58"), (7500.0, "2h05m", "2:05:00"), (3723.0, "1h02m", "1:02:03"),
        (273_600.0, "3d04h", "3d04h"), (-1.0, "0.0s", "0:00"),
    ],
)  # fmt: skip
def test_spans_of_time_are_short_and_right(seconds: float, long: str, as_clock: str) -> None:
    assert figures.duration(seconds) == long
    assert figures.clock(seconds) == as_clock


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (950, "950"), (999, "999"), (1000, "1.0k"), (1234, "1.2k"), (9_960, "10k"), (45_400, "45k"),
        (999_499, "999k"), (999_999, "1.0M"), (1_200_000, "1.2M"), (3_400_000_000, "3.4G"), (10**13, "10.0T"),
    ],
)  # fmt: skip
def test_large_counts_are_short_and_right(number: int, text: str) -> None:
    assert figures.compact(number) == text


@pytest.mark.parametrize(
    ("limit", "text"),
    [(1000.0, "1,000/s"), (16.66, "17/s"), (8.333, "8.3/s"), (5.0, "5/s"), (0.5, "0.5/s"), (0.0023, "0.0023/s")],
)
def test_limits_are_short_and_right(limit: float, text: str) -> None:
    assert figures.per_second(limit) == text
