"""Published prices, from the data that the package genai-prices carries. Nothing is fetched.

A child process of its own: the package and its data take 17 MiB and a seventh of a second, for a handful of figures.

What a price that is no single number is taken as:
- Tiers (dearer from so many tokens in one prompt on): the first one, which nearly every request of a bulk run is in.
- Prices that change with the time of day: the dearest of the next 24 hours, for a cap must hold at any of them.
- The Batch API's discount: the least of those on input and output, where its prices are published.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection

import msgspec
from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from rowmill.core.config.sections import PriceConfig

_BATCH = {"processing": "batch"}  # what the package calls requests of a Batch API
_HALF_HOURS = 48  # a day in the steps in which prices change


def main(pipe: Connection) -> int:
    """Be the child: answer one list of base URLs and models with as many prices, None where nothing is known."""
    with pipe:
        wanted = msgspec.msgpack.decode(pipe.recv_bytes(), type=list[tuple[str, str]])
        pipe.send_bytes(msgspec.msgpack.encode(published(wanted, datetime.now(UTC))))
    return 0


def published(wanted: Sequence[tuple[str, str]], now: datetime) -> list[PriceConfig | None]:
    """Return the prices of models, each given by the base URL that it is asked at and its name there."""
    snapshot = data_snapshot.get_snapshot()
    found: list[PriceConfig | None] = []
    for url, model in wanted:
        try:
            _, info = snapshot.find_provider_model(model, None, None, url)
        except LookupError:
            found.append(None)
        else:
            found.append(_price(info, now))
    return found


def _price(model: ModelInfo, now: datetime) -> PriceConfig | None:
    times = [now + timedelta(minutes=30 * step) for step in range(_HALF_HOURS)]
    time = max(times, key=lambda time: _sum(model.get_prices(time)))
    price = model.get_prices(time)
    if (per_input := _member(price, "input_mtok")) is None:
        return None  # it is paid by the image, the hour or the request
    return PriceConfig(
        input=per_input,
        cached_input=_member(price, "cache_read_mtok"),
        output=_member(price, "output_mtok") or 0.0,  # embeddings have none
        batch_discount=_batch_discount(model, price, time),
    )


def _batch_discount(model: ModelInfo, price: ModelPrice, time: datetime) -> float | None:
    if not any(variant.when == _BATCH for variant in model.price_variants or ()):
        return None
    batch = model.get_prices(time, _BATCH)
    pairs = [(_member(batch, name), _member(price, name)) for name in ("input_mtok", "output_mtok")]
    shares = [1.0 - less / whole for less, whole in pairs if less is not None and whole]
    return max(0.0, round(min(shares), 6)) if shares else None


def _sum(price: ModelPrice) -> float:
    return (_member(price, "input_mtok") or 0.0) + (_member(price, "output_mtok") or 0.0)


def _member(price: ModelPrice, name: str) -> float | None:
    value: Decimal | TieredPrices | None = getattr(price, name)
    if isinstance(value, TieredPrices):
        value = value.base
    return None if value is None else float(value)
