"""Time at the configured limits, and how many batches there are."""

from typing import Any

import pytest

from rowmill.core.config import ProviderConfig
from rowmill.core.config.sections import BatchConfig
from rowmill.runs.plan import pace


def seconds(*providers: dict[str, Any], requests: float = 6000, tokens: float = 600_000) -> float | None:
    return pace.seconds([ProviderConfig(**each) for each in providers], requests, tokens)


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        ([{"requests_per_minute": 600}], 600),
        ([{"tokens_per_minute": 30_000}], 1200),
        ([{"requests_per_minute": 600, "tokens_per_minute": 30_000}], 1200),
        ([{"requests_per_minute": 600}, {"tokens_per_minute": 60_000}], 300),
        ([{"requests_per_minute": 600}, {"requests_per_minute": 600, "weight": 0}], 600),
        ([{"requests_per_day": 6000}], 0),
        ([{"requests_per_day": 3000}], 86_400),
        ([{"tokens_per_day": 200_000}], 2 * 86_400),
        ([{"requests_per_minute": 600, "requests_per_day": 3000}], 86_400),
        ([{"requests_per_minute": 600, "requests_per_day": 3000}, {"requests_per_minute": 300}], 600),
    ],
)
def test_every_provider_takes_what_its_limits_allow(providers: list[dict[str, Any]], expected: float) -> None:
    assert seconds(*providers) == pytest.approx(expected, rel=0.02)


def test_nothing_holds_back_where_one_has_no_limit() -> None:
    assert seconds({}) is None
    assert seconds({"requests_per_minute": 1}, {}) is None
    assert seconds({"tokens_per_minute": 1}, tokens=0) is None
    assert seconds({"requests_per_minute": 1}, requests=0, tokens=0) == 0


@pytest.mark.parametrize(
    ("batch", "requests", "body_bytes", "parts"),
    [({}, 0, 0, 0), ({}, 1, 100, 1), ({}, 120_000, 1e6, 3), ({}, 1000, 599e6, 3), ({"max_requests": 10}, 95, 0, 10)],
)
def test_batches_are_cut_by_requests_and_by_size(
    batch: dict[str, Any], requests: float, body_bytes: float, parts: int
) -> None:
    assert pace.parts(BatchConfig(**batch), requests, body_bytes) == parts


def test_enqueued_tokens_make_waves() -> None:
    assert pace.waves(BatchConfig(), 1e12) == 1
    assert pace.waves(BatchConfig(enqueued_tokens=2e6), 4.1e6) == 3
