"""Numbers as people read them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.interface.ui import figures


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


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0, "$0.00"), (1e-9, "<$0.000001"), (0.0000123, "$0.000012"), (0.000996, "$0.001"), (0.0042, "$0.0042"),
        (0.014, "$0.014"), (0.02, "$0.02"), (0.0994, "$0.099"), (0.0996, "$0.10"), (0.4, "$0.40"), (1.234, "$1.23"),
        (999.99, "$999.99"), (999.996, "$1,000"), (1234.4, "$1,234"), (1.2e6, "$1,200,000"), (-0.5, "-$0.50"),
    ],
)  # fmt: skip
def test_dollars_are_short_and_right_however_few(usd: float, text: str) -> None:
    assert figures.money(usd) == text


@given(st.floats(2e-6, 1e9))
def test_no_sum_of_money_is_told_as_another(usd: float) -> None:
    text = figures.money(usd)
    assert re.fullmatch(r"\$(0\.\d{2,7}|\d{1,3}\.\d{2}|\d{1,3}(,\d{3})+)", text)
    assert float(text[1:].replace(",", "")) == pytest.approx(usd, rel=0.06)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0.0, 5.0, "0.0%"), (4.985, 5.0, "99.7%"), (4.9999, 5.0, "99.9%"), (5.0, 5.0, "100.0%"), (5.02, 5.0, "100.4%"),
        (0.35, 5.0, "7.0%"), (1.0, 0.0, "all"),
    ],
)  # fmt: skip
def test_a_cap_reads_as_used_up_only_where_it_is(part: float, whole: float, text: str) -> None:
    assert figures.used(part, whole) == text


def test_a_clipped_text_has_no_control_characters_and_says_that_it_goes_on() -> None:
    assert figures.clipped("in\x1b[2J\nline", 16) == "in [2J line"
    assert figures.clipped("x" * 16, 16) == "x" * 16
    assert figures.clipped("x" * 17, 16) == "x" * 13 + "..."
