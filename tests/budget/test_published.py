"""How a published price that is no single number is read."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from rowmill.budget import published
from rowmill.core.config.sections import PriceConfig

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def model(prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant] | None = None) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals("m"), prices=prices, price_variants=variants)


def price(per_input: str, per_output: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(per_input), output_mtok=Decimal(per_output))


def test_of_tiers_the_first_one_counts() -> None:
    tiered = TieredPrices(base=Decimal("1.25"), tiers=[Tier(start=200_000, price=Decimal("2.5"))])
    found = published._price(model(ModelPrice(input_mtok=tiered, output_mtok=Decimal(10))), NOON)
    assert found == PriceConfig(input=1.25, output=10.0)


@pytest.mark.parametrize("hour", [3, 12, 20])
def test_of_prices_by_the_time_of_day_the_dearest_counts_at_any_time(hour: int) -> None:
    cheap_at_night = ConditionalPrice(TimeOfDateConstraint(time(16, 30), time(0, 30)), prices=price("0.1", "0.5"))
    by_day = model([ConditionalPrice(prices=price("0.3", "1")), cheap_at_night])
    assert published._price(by_day, NOON.replace(hour=hour)) == PriceConfig(input=0.3, output=1.0)


def test_a_price_counts_from_its_day_on() -> None:
    cut = model(
        [
            ConditionalPrice(prices=price("3", "9")),
            ConditionalPrice(StartDateConstraint(date(2026, 3, 1)), prices=price("1", "2")),
            ConditionalPrice(StartDateConstraint(date(2026, 4, 1)), prices=price("7", "8")),
        ]
    )
    assert published._price(cut, NOON) == PriceConfig(input=1.0, output=2.0)


def test_the_discount_of_batches_is_the_least_that_is_published() -> None:
    batch = PriceVariant(when={"processing": "batch"}, prices=price("0.6", "2"))
    assert published._price(model(price("1", "4"), [batch]), NOON) == PriceConfig(
        input=1.0, output=4.0, batch_discount=0.4
    )
    flex = PriceVariant(when={"service_tier": "flex"}, prices=price("0.6", "2"))
    assert published._price(model(price("1", "4"), [flex]), NOON) == PriceConfig(input=1.0, output=4.0)


def test_what_is_not_paid_by_the_token_has_no_price() -> None:
    assert published._price(model(ModelPrice(requests_kcount=Decimal(5))), NOON) is None


def test_servers_and_models_that_nobody_knows_have_no_price() -> None:
    wanted = [("https://nobody.example.com/v1", "gpt-4o"), ("https://api.openai.com/v1", "nothing")]
    assert published.published(wanted, NOON) == [None, None]
