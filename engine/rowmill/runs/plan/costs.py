"""What the tokens of a plan cost, at whose prices."""

from collections.abc import Mapping, Sequence

import msgspec

from rowmill.budget import prices
from rowmill.core.amounts import Price, Spent
from rowmill.core.config import Config, ProviderConfig
from rowmill.core.plan import PriceLine, Range


class ModelTokens(msgspec.Struct, frozen=True):
    """What requests to one model take."""

    prompt: Range
    reply: Range


class PlanCosts:
    """The prices of all models that the run may ask, and what its tokens cost at them."""

    def __init__(self, config: Config, models: Sequence[str | None]) -> None:
        """Look the prices up. models: those that rows name, None standing for the configured ones.

        Raises what `prices.find` raises.
        """
        self._config = config
        self._asked = {
            (provider.name, named): _asked(config, provider, named) for provider in config.provider for named in models
        }
        pairs = list(dict.fromkeys((name, model) for (name, _), model in self._asked.items() if model is not None))
        configured = prices.find(config)
        known = {
            (provider.name, prices.asked_model(config, provider)): price
            for provider, price in zip(config.provider, configured, strict=True)
        }
        unknown = [pair for pair in pairs if pair not in known]
        self._prices: dict[tuple[str, str | None], Price | None] = {
            **known,
            **dict(zip(unknown, prices.find_models(config, unknown) if unknown else [], strict=True)),
        }
        self._pairs = pairs

    def live(self, usage: Mapping[str | None, ModelTokens]) -> Range | None:
        """Return the cost of the live API; None where a price is not known. Providers share the rows by weight."""
        weights = {provider.name: provider.weight for provider in self._config.provider if provider.weight > 0}
        whole = sum(weights.values())
        return self._sum(usage, {name: weight / whole for name, weight in weights.items()}, batch=False)

    def batch(self, usage: Mapping[str | None, ModelTokens]) -> Range | None:
        """Return the cost of the Batch API; None where a price is not known."""
        return self._sum(usage, {self._config.batch_provider.name: 1.0}, batch=True)

    def discount(self, usage: Mapping[str | None, ModelTokens]) -> float | None:
        """Return the part of the price that the Batch API takes off; None where it is not known or not one."""
        found = {self._price(self._config.batch_provider.name, named) for named in usage}
        discounts = {None if price is None else price.batch_discount for price in found}
        return discounts.pop() if len(discounts) == 1 else None

    def lines(self) -> list[PriceLine]:
        """Return every price that matters."""
        lines = []
        for name, model in self._pairs:
            price = self._prices[name, model]
            lines.append(
                PriceLine(
                    provider=name,
                    model=model,
                    input=None if price is None else price.input,
                    output=None if price is None else price.output,
                    how_to_set=prices.how_to_set(model) if price is None else None,
                )
            )
        return lines

    def _price(self, provider: str, named: str | None) -> Price | None:
        return self._prices.get((provider, self._asked[provider, named]))

    def _sum(
        self, usage: Mapping[str | None, ModelTokens], shares: Mapping[str, float], *, batch: bool
    ) -> Range | None:
        total = Range(0.0, 0.0, 0.0)
        for named, tokens in usage.items():
            for provider, share in shares.items():
                if (price := self._price(provider, named)) is None:
                    return None
                total += _usd(price, tokens, batch=batch) * share
        return total


def _usd(price: Price, tokens: ModelTokens, *, batch: bool) -> Range:
    pairs = zip(msgspec.structs.astuple(tokens.prompt), msgspec.structs.astuple(tokens.reply), strict=True)
    return Range(*(price.usd(Spent(0, round(prompt), 0, round(reply)), batch=batch) for prompt, reply in pairs))


def _asked(config: Config, provider: ProviderConfig, named: str | None) -> str | None:
    """Return which model the provider is asked for by rows that name this one, or none."""
    if named is None or (config.input.format == "batch" and provider.model is not None):
        return config.model_of(provider)
    return named
