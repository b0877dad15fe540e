"""Sums: every figure of the parts is in the whole, and the whole shares nothing with them that may change."""

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, ProviderReport, ProviderSums, Totals
from rowmill.core.sums import Sums

KINDS: list[type[Sums]] = [Spent, Totals, Counters, ProviderSums]


def filled(kind: type[Sums], number: int) -> Any:
    """Return figures of which no two are the same."""
    made = kind()
    for place, name in enumerate(kind.__struct_fields__, 1):
        empty = getattr(made, name)
        if isinstance(empty, Spent):
            value: Any = Spent(number, number + place, place, 7)
        elif isinstance(empty, dict):
            value = {
                "a": Spent(number) if name == "models" else number,
                str(number): Spent() if name == "models" else 1,
            }
        else:
            value = number * 100 + place
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_in_the_sum(kind: type[Sums]) -> None:
    whole = kind.total(filled(kind, number) for number in (1, 2, 4))
    for place, name in enumerate(kind.__struct_fields__, 1):
        expected: Any = 700 + 3 * place
        if isinstance(getattr(kind(), name), Spent):
            expected = Spent(7, 7 + 3 * place, 3 * place, 21)
        elif isinstance(getattr(kind(), name), dict):
            one: Any = Spent() if name == "models" else 1
            expected = {"a": Spent(7) if name == "models" else 7, "1": one, "2": one, "4": one}
        assert getattr(whole, name) == expected, name
    assert kind.total([]) == kind()


@pytest.mark.parametrize("kind", KINDS)
def test_adding_is_the_sum_of_two(kind: type[Sums]) -> None:
    one, other = filled(kind, 1), filled(kind, 2)
    whole = kind.total([one, other])
    one.add(other)
    assert one == whole


@given(changes=st.lists(st.sampled_from(["wasted", "doubtful", "models"]), max_size=6))
def test_what_changes_in_a_sum_changes_in_no_part(changes: list[str]) -> None:
    parts = [filled(ProviderSums, number) for number in (1, 2)]
    before = deepcopy(parts)
    whole = ProviderSums.total(parts)
    for name in changes:
        figures = getattr(whole, name)
        (figures["2"] if name == "models" else figures).requests += 1
    assert parts == before


def test_of_a_report_only_the_sums_add_up_and_not_how_it_stands() -> None:
    report = ProviderReport(requests=3, in_flight=9, models={"m": Spent(3)})
    assert ProviderSums.total([report, report]) == ProviderSums(requests=6, models={"m": Spent(6)})
    assert msgspec.json.decode(msgspec.json.encode(report), type=ProviderReport) == report
