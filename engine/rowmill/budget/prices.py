"""What each model costs at each provider: as `[prices]` of the configuration says, and for the rest as published.

A price is looked for by the model's name as the provider is asked, in `[prices]` first under "PROVIDER/MODEL". What is
published is known by the host of base_url, so a server of one's own has no price but the configured one.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

import msgspec

from rowmill.core.amounts import Price
from rowmill.core.config import SIMULATOR, Config, ProviderConfig
from rowmill.core.config.sections import PriceConfig
from rowmill.core.errors import ConfigError, MachineError
from rowmill.ipc import processes

WITHOUT_REPLIES = ("embeddings", "moderations")  # APIs whose output has no tokens
BATCH_DISCOUNT = 0.5  # where nobody says: what every Batch API but few takes off

_PUBLISHED = "rowmill.budget.published"
_READY_S = 60.0  # the package imports in a seventh of a second; on a disk that sleeps, in more
_PRIVATE = (".internal", ".lan", ".local", ".localhost")  # names that no provider of the world has
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")  # gpt-4o-2024-08-06 is what was asked for as gpt-4o


_decode_answer = msgspec.msgpack.Decoder(list[PriceConfig | None]).decode


class _Case(msgspec.Struct, frozen=True):
    """One model at one provider."""

    provider: ProviderConfig
    model: str
    key: str | None  # of its entry in [prices]
    entry: PriceConfig

    @property
    def whole(self) -> bool:
        """Whether nothing that is published could matter."""
        return None not in (self.entry.input, self.entry.output, self.entry.cached_input)


class Lookup:
    """Prices on their way: what is published is asked of a child process, which takes a quarter of a second."""

    def __init__(self, config: Config, models: Sequence[tuple[ProviderConfig, str | None]]) -> None:
        """Start to look for the prices of models at providers, and return at once. A model of None has none."""
        self._config = config
        self._models = models
        self._cases = {
            (provider.name, model): _case(config, provider, model) for provider, model in models if model is not None
        }
        cases = self._cases.values()
        self._wanted = [each for each in cases if not each.whole and _known_to_the_world(each.provider.base_url)]
        self._child: processes.Child | None = None
        if self._wanted:
            with processes.signals_held():
                self._child = processes.start(_PUBLISHED, "rowmill-prices")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def wait(self, *, lenient: bool = False) -> list[Price | None]:
        """Return the prices, in the order of the models; None where nothing is known.

        Raises `MachineError` where the child does not come up, and `ConfigError` for an entry of [prices] that lacks
        what nobody has published; `lenient` takes such an entry for nothing known.
        """
        published = self._answer() if self._child is not None else []
        by_case = {(case.provider.name, case.model): each for case, each in zip(self._wanted, published, strict=True)}
        prices: list[Price | None] = []
        for provider, model in self._models:
            price = None
            if model is not None:
                try:
                    price = _price(self._config, self._cases[provider.name, model], by_case.get((provider.name, model)))
                except ConfigError:
                    if not lenient:
                        raise
            prices.append(price)
        return prices

    def end(self) -> None:
        """End the child, whatever came of it."""
        if self._child is not None:
            self._child.pipe.close()
            self._child.process.kill()
            self._child.process.join()
            self._child = None

    def _answer(self) -> list[PriceConfig | None]:
        assert self._child is not None
        pipe = self._child.pipe
        try:
            pipe.send_bytes(msgspec.msgpack.encode([(case.provider.base_url, case.model) for case in self._wanted]))
            if not pipe.poll(_READY_S):
                raise MachineError("the genai-prices package took over a minute to start; run the same command again")
            return _decode_answer(pipe.recv_bytes())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise MachineError(
                "the genai-prices package cannot be started: python -c 'import genai_prices' says why"
            ) from None


def of_providers(config: Config) -> Lookup:
    """Start to look for the price of what each provider is asked; what comes of it is what `find` returns."""
    return Lookup(config, [(provider, asked_model(config, provider)) for provider in config.provider])


def find(config: Config) -> list[Price | None]:
    """Return the price of the model that each provider is asked for; None where it is unknown, or where rows name it.

    Raises as `Lookup.wait` does.
    """
    with of_providers(config) as lookup:
        return lookup.wait()


def find_models(config: Config, models: Sequence[tuple[str, str]]) -> list[Price | None]:
    """Return the prices of models by the provider's name and the model's own, as replies tell it; None where unknown.

    A name that nobody knows is taken for the model that the provider is asked for, for many servers have names of
    their own for it. A provider that the configuration has no more has no prices. Raises `MachineError` as
    `Lookup.wait` does: what is wrong in [prices] has been said before, at the start.
    """
    providers = {provider.name: provider for provider in config.provider}
    pairs = [
        (providers[name], _asked_as(config, providers[name], model)) for name, model in models if name in providers
    ]
    spare = [(provider, asked_model(config, provider)) for provider, _ in pairs]
    with Lookup(config, [*pairs, *spare]) as lookup:
        prices = lookup.wait(lenient=True)
    own, asked = prices[: len(pairs)], prices[len(pairs) :]
    found = iter([first if first is not None else other for first, other in zip(own, asked, strict=True)])
    return [next(found) if name in providers else None for name, _ in models]


def require(config: Config, prices: Sequence[Price | None]) -> None:
    """Refuse a cap in dollars that could not be held. `prices` are those that `find` returns. Raises `ConfigError`."""
    if config.budget.max_usd is None:
        return
    for provider, price in zip(config.provider, prices, strict=True):
        if price is not None or (config.task.mode == "batch" and provider != config.batch_provider):
            continue
        if (model := asked_model(config, provider)) is None:
            raise ConfigError(
                "budget.max_usd: the rows name their own models, so that what they cost cannot be held; "
                "set budget.max_tokens instead"
            )
        raise ConfigError(
            f'budget.max_usd: the price of model "{model}" at provider "{provider.name}" is not known; '
            f"{how_to_set(model)}, or set budget.max_tokens instead"
        )


def how_to_set(model: str) -> str:
    """Say how the price of a model is configured."""
    return f'add [prices] "{model}" = {{ input = ..., output = ... }} (dollars a million tokens)'


def unused(config: Config) -> list[str]:
    """Return the entries of [prices] for models that nobody is asked for: a slip, most often."""
    asked = [(provider, asked_model(config, provider)) for provider in config.provider]
    if any(model is None for _, model in asked):
        return []
    used = {key for provider, model in asked for key in (f"{provider.name}/{model}", model)}
    return [name for name in config.prices if name not in used]


def asked_model(config: Config, provider: ProviderConfig) -> str | None:
    """Return the model that all rows ask of this provider; None where they name theirs."""
    return None if "model" in config.task.per_row else config.model_of(provider)


def _asked_as(config: Config, provider: ProviderConfig, model: str) -> str:
    """Return the name under which a model that a reply named has its price.

    What the configuration says of a model is meant for its dated versions too, and for the one model of a provider
    whatever that calls it.
    """
    undated = _DATED.sub("", model)
    asked = asked_model(config, provider)
    for name in (model, undated, asked):
        if name is not None and _entry(config, provider, name)[0] is not None:
            return name
    return asked if asked is not None and asked == undated else model


def _case(config: Config, provider: ProviderConfig, model: str) -> _Case:
    return _Case(provider, model, *_entry(config, provider, model))


def _entry(config: Config, provider: ProviderConfig, model: str) -> tuple[str | None, PriceConfig]:
    for key in (f"{provider.name}/{model}", model):
        if (entry := config.prices.get(key)) is not None:
            return key, entry
    return None, PriceConfig()


def _price(config: Config, case: _Case, published: PriceConfig | None) -> Price | None:
    """Put the configured and the published together. Raises `ConfigError` where that is no price."""
    if published is None:
        if case.key is None:
            return None
        published = PriceConfig(output=0.0 if config.task.api in WITHOUT_REPLIES else None)
    per_input = _first(case.entry.input, published.input)
    per_output = _first(case.entry.output, published.output)
    if per_input is None or per_output is None:
        missing = [name for name, value in (("input", per_input), ("output", per_output)) if value is None]
        raise ConfigError(
            f'prices."{case.key}": {" and ".join(missing)} {"is" if len(missing) == 1 else "are"} missing, and nobody '
            f'has published a price of model "{case.model}" at provider "{case.provider.name}"; '
            f"add {', '.join(f'{name} = ...' for name in missing)} (dollars a million tokens)"
        )
    cached, discount = case.entry.cached_input, _first(case.entry.batch_discount, published.batch_discount)
    if cached is None:
        # Where the input costs less than published, what is published of cached input can only be more than right.
        cached = per_input if published.cached_input is None else min(published.cached_input, per_input)
    return Price(per_input, per_output, cached, BATCH_DISCOUNT if discount is None else discount)


def _first(configured: float | None, published: float | None) -> float | None:
    return configured if configured is not None else published


def _known_to_the_world(base_url: str) -> bool:
    """Tell whether anybody could have published a price for this server: not for one of one's own."""
    if base_url == SIMULATOR:
        return False
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    if "." not in host or host.endswith(_PRIVATE):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
