"""How often, and for how long, a call for batches is tried that can be made twice without harm."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import tenacity

from rowmill.core.wire import Failure
from rowmill.transport.batch_trouble import BatchTrouble

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0
_TRIES = 12  # as many as such waits leave time for in a minute; also of a download that is cut again and again

T = TypeVar("T")


class CallRetryPolicy:
    """The policy for one call: all its tries and the waits between them together. The clock is the event loop's."""

    def __init__(self, seconds: float, rng: Random, *, worth: Callable[[Failure], bool]) -> None:
        """Allow so many seconds; `worth`: whether another try may end what has failed."""
        self._clock = asyncio.get_running_loop().time
        self._rng = rng
        self._worth = worth
        self._backoff = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
        self.ends = self._clock() + seconds
        self.try_s = seconds / 2  # of one silent try: it must leave time for another

    @property
    def try_ends(self) -> float:
        """When a try that starts now is over."""
        return min(self.ends, self._clock() + self.try_s)

    async def run(self, attempt: Callable[["CallRetryPolicy"], Awaitable[T]]) -> T:
        """Return what `attempt` returns. While it raises a BatchTrouble that another try may end, try again.

        The waits are exponential with full jitter, and no shorter than the server asked for.
        """

        async def attempted() -> T:  # tenacity awaits only what it sees to be a coroutine function
            return await attempt(self)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, BatchTrouble) and self._worth(error.failure)
            ),
            wait=self._wait_s,
            stop=self._given_up,
            reraise=True,
        )
        result: T = await retrying(attempted)
        return result

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.failure.retry_after if isinstance(error, BatchTrouble) else None
        return (asked or 0.0) + self._rng.uniform(0.0, self._backoff(state))

    def _given_up(self, state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= _TRIES or self._clock() + state.upcoming_sleep >= self.ends
