"""When something is worth telling: a cap once, an outage once and only a long one."""

from typing import Any

import pytest

from rowmill.core.amounts import Spent
from rowmill.core.reports import Cost
from rowmill.runs.notify.occasions import Outages, reached
from tests.runs.notify.news_of_a_run import at


@pytest.mark.parametrize(
    ("cost", "told", "keys"),
    [
        ({"usd": 3.99, "max_usd": 5.0}, {}, []),
        ({"usd": 4.0, "max_usd": 5.0}, {}, ["max_usd"]),
        ({"usd": 4.0, "max_usd": 5.0}, {"max_usd": 5.0}, []),
        ({"usd": 9.0, "max_usd": 10.0}, {"max_usd": 5.0}, ["max_usd"]),  # raised since
        ({"usd": 3.0, "lost_usd": 0.5, "reserved_usd": 0.5, "max_usd": 5.0}, {}, ["max_usd"]),
        ({"usd": None, "max_tokens": 100.0, "tokens": 70, "lost": Spent(0, 10)}, {}, ["max_tokens"]),
        ({"requests": 80, "max_requests": 100.0, "tokens": 9, "max_tokens": 10.0}, {}, ["max_tokens", "max_requests"]),
        ({"usd": 1e9, "tokens": 10**9, "requests": 10**9}, {}, []),
    ],
)
def test_a_cap_is_told_once_it_is_nearly_reached(cost: dict[str, Any], told: dict[str, float], keys: list[str]) -> None:
    assert [each.key for each in reached(Cost(**cost), 0.8, told)] == keys


def test_a_cap_is_told_with_what_is_used_of_it() -> None:
    (found,) = reached(Cost(usd=4.1, max_usd=5.0), 0.8, {})
    assert found.why == "82% of budget.max_usd is used up, $4.10 of $5.00"
    (found,) = reached(Cost(requests=1000, max_requests=1000.0), 0.8, {})
    assert found.why == "100% of budget.max_requests is used up, 1,000 requests of 1,000 requests"
    assert list(reached(None, 0.8, {})) == []


def test_a_provider_that_is_closed_is_told_at_once_and_once() -> None:
    outages = Outages()
    assert outages.look(at(1, providers={"a": "open", "b": "open"})) == []
    (told,) = outages.look(at(2, providers={"a": "open", "b": "closed"}))
    assert told.startswith("provider b is closed")
    assert outages.look(at(3, providers={"a": "open", "b": "closed"})) == []


def test_only_a_long_outage_is_told_once_each() -> None:
    outages = Outages()
    states = ["open", "failing", "recovering", "failing"]
    told = [outages.look(at(20 * step, providers={"a": states[min(step, 3)]})) for step in range(6)]
    assert told == [[], [], [], [], ["provider a fails, for 60 s by now"], []]
    assert outages.look(at(200, providers={"a": "open"})) == []
    assert outages.look(at(201, providers={"a": "holding"})) == []
    assert outages.look(at(261, providers={"a": "holding"})) == ["provider a asks to be left alone, for 60 s by now"]
