"""Counts by name: what was counted and not told is found, and added once."""

from hypothesis import given
from hypothesis import strategies as st

from rowmill.core import tallies
from rowmill.core.amounts import Spent
from rowmill.core.counts import Counters, ProviderReport, ProviderSums

FAULTS = ["timeout", "server_error"]
NAMES = tallies.names(2, FAULTS)
FIGURES = st.lists(st.integers(0, 1000), min_size=len(NAMES), max_size=len(NAMES))


def test_every_number_has_its_name() -> None:
    counters = Counters(rows=1, replies=2, spared=Spent(3, 4, 5, 6), faults={"timeout": 7})
    reports = [ProviderReport(requests=8, wasted=Spent(9)), ProviderReport(completion_tokens=10)]
    figures = dict(zip(NAMES, tallies.values(counters, reports, FAULTS), strict=True))
    assert {name: value for name, value in figures.items() if value} == {
        ".rows": 1,
        ".replies": 2,
        ".spared.requests": 3,
        ".spared.prompt_tokens": 4,
        ".spared.cached_tokens": 5,
        ".spared.completion_tokens": 6,
        ".fault.timeout": 7,
        "0.requests": 8,
        "0.wasted.requests": 9,
        "1.completion_tokens": 10,
    }
    assert NAMES[tallies.REQUESTS] == "0.requests"
    assert NAMES[tallies.PROMPT_TOKENS] == "0.prompt_tokens"
    assert NAMES[tallies.COMPLETION_TOKENS] == "0.completion_tokens"
    assert NAMES[tallies.CACHED_TOKENS] == "0.cached_tokens"
    assert NAMES[tallies.RETRIES] == "0.retries"


@given(told=FIGURES, more=FIGURES)
def test_what_was_not_told_is_added_and_nothing_twice(told: list[int], more: list[int]) -> None:
    counters, providers = Counters(), {0: ProviderSums(), 1: ProviderSums()}
    known = dict(zip(NAMES, told, strict=True))
    tallies.add(known, counters, providers)
    counted = {name: value + further for (name, value), further in zip(known.items(), more, strict=True)}
    tallies.add(tallies.beyond(counted, known), counters, providers)
    now = tallies.told(counters, list(providers.values()))
    assert tallies.beyond(counted, now) == {}
    assert tallies.beyond(now, counted) == {}
    assert counters.requests == counted["0.requests"] + counted["1.requests"]
    assert counters.retries == counted["0.retries"] + counted["1.retries"]


def test_providers_and_figures_that_are_not_known_here_are_passed_over() -> None:
    counters, providers = Counters(), {0: ProviderSums()}
    tallies.add(
        {"3.requests": 2, "3.wasted.requests": 1, ".of_a_later_version": 1, "0.answered": 4}, counters, providers
    )
    assert (counters.requests, providers[0].answered) == (2, 4)
