"""What `[prices]`, `[budget]`, `[batch]` and task.mode can still get wrong."""

from collections.abc import Iterator
from math import inf

from rowmill.core.config.sections import BatchConfig, BudgetConfig, Config, PriceConfig

_MOST_REQUESTS = 50_000  # of a batch at OpenAI, and everywhere else
_MOST_MB = 200.0


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
    for model, price in config.prices.items():
        yield from _price_problems(f"prices.{model}", price)
    yield from _budget_problems(config.budget)
    yield from _batch_problems(config.batch)
    if config.task.mode != "live":
        yield from _mode_problems(config)
    if config.task.mode == "auto" and config.batch.deadline_s is None:
        yield 'task.mode: "auto" needs batch.deadline_s: by when all answers are to be there'


def _price_problems(key: str, price: PriceConfig) -> Iterator[str]:
    for name in ("input", "cached_input", "output"):
        value = getattr(price, name)
        if value is not None and not 0 <= value < inf:
            yield f"{key}.{name}: must be 0 or more dollars a million tokens"
    if price.batch_discount is not None and not 0 <= price.batch_discount < 1:
        yield f"{key}.batch_discount: must be 0 to below 1, the part of the price that is taken off"


def _budget_problems(budget: BudgetConfig) -> Iterator[str]:
    for name in ("max_usd", "max_tokens", "max_requests"):
        value = getattr(budget, name)
        if value is not None and not 0 < value < inf:
            yield f"budget.{name}: must be above 0; leave it out for no limit"


def _batch_problems(batch: BatchConfig) -> Iterator[str]:
    if not 1 <= batch.max_requests <= _MOST_REQUESTS:
        yield f"batch.max_requests: must be 1 to {_MOST_REQUESTS}, the most that a batch may hold"
    if not 0 < batch.max_mb <= _MOST_MB:
        yield f"batch.max_mb: must be above 0 and at most {_MOST_MB:.0f}, the most that the file of a batch may have"
    for name in ("deadline_s", "enqueued_tokens"):
        value = getattr(batch, name)
        if value is not None and not 0 < value < inf:
            yield f"batch.{name}: must be above 0; leave it out for none"
    if not 0 < batch.poll_s <= batch.poll_max_s < inf:
        yield "batch.poll_s: must be above 0 seconds and at most batch.poll_max_s"
    if not 0 < batch.stuck_s < inf:
        yield "batch.stuck_s: must be above 0 seconds"


def _mode_problems(config: Config) -> Iterator[str]:
    mode = config.task.mode
    names = [provider.name for provider in config.provider]
    if config.batch.provider is not None and config.batch.provider not in names:
        yield f"batch.provider: no provider is called {config.batch.provider!r}"
    if config.cache.use != "off":
        yield f'cache.use: replies are not shared with task.mode "{mode}"; set it to "off"'
