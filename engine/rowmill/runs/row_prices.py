"""What models cost, for who figures what single rows have cost once a run has ended."""

from collections.abc import Sequence

from rowmill.budget import prices
from rowmill.core.amounts import Price
from rowmill.core.config import Config


def row_prices(config: Config, models: Sequence[tuple[str, str]]) -> list[Price | None]:
    """Return the prices of models by the provider's name and the model's own, as replies tell it; None where unknown.

    Raises `MachineError` where what is published cannot be looked up.
    """
    return prices.find_models(config, models)
