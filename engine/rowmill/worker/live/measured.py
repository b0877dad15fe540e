"""What is measured of single requests and rows, until the next heartbeat takes it to the supervisor.

Part of the hot path (see `dispatcher`): a value costs an append to a list, and the rest is done for many at a time.
"""

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
        spread = Distributions(
            latency_ms=counted([int(each * 1000) for each in self.latencies]),
            slot_wait_ms=counted([int(each * 1000) for each in self.slot_waits]),
            rate_wait_ms=counted([int(each * 1000) for each in self.rate_waits]),
            prompt_tokens=counted(self.prompt_tokens),
            completion_tokens=counted(self.completion_tokens),
        )
        for values in (self.latencies, self.slot_waits, self.rate_waits, self.prompt_tokens, self.completion_tokens):
            values.clear()
        return spread
