"""What is measured of single requests and rows, until the next heartbeat takes it to the supervisor.

Part of the hot path (see `dispatcher`): a value costs an append to a list, and the rest is done for many at a time.
"""

from collections.abc import Sequence

from rowmill.core.histograms import Distributions, counted


class Measured:
    """Values since the last heartbeat: seconds, and tokens."""

    __slots__ = ("completion_tokens", "latencies", "prompt_tokens", "rate_waits", "slot_waits")

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.slot_waits: list[float] = []
        self.rate_waits: list[float] = []
        self.prompt_tokens: list[int] = []
        self.completion_tokens: list[int] = []

    def __repr__(self) -> str:
        return f"<{len(self.latencies)} replies, {len(self.slot_waits)} rows since the last heartbeat>"

    def taken(self) -> Distributions:
        """Return how the values are distributed, and forget them."""
        latencies, slot_waits, rate_waits = (
            [each * 1000 for each in values] for values in (self.latencies, self.slot_waits, self.rate_waits)
        )
        values: dict[str, Sequence[float]] = {
            "latency_ms": latencies,
            "slot_wait_ms": slot_waits,
            "rate_wait_ms": rate_waits,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        spread = Distributions(
            latency_ms=counted(map(int, latencies)),
            slot_wait_ms=counted(map(int, slot_waits)),
            rate_wait_ms=counted(map(int, rate_waits)),
            prompt_tokens=counted(self.prompt_tokens),
            completion_tokens=counted(self.completion_tokens),
            sums={name: round(sum(each), 3) for name, each in values.items() if each},
        )
        for taken in (self.latencies, self.slot_waits, self.rate_waits, self.prompt_tokens, self.completion_tokens):
            taken.clear()
        return spread


def taken_together(whole: Measured, providers: Sequence[Measured]) -> tuple[Distributions, list[Distributions]]:
    """Return how all values are distributed, and those of each provider where there are several; forget them.

    whole: those of no provider, and those of the only one, whose `Measured` it is.
    """
    if len(providers) == 1:
        return whole.taken(), []
    each = [provider.taken() for provider in providers]
    return Distributions.total([whole.taken(), *each]), each
