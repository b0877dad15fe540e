"""What a request will cost in tokens, before its reply says so: what is reserved for it.

Unlike the estimate that limits are debited by (`flow.limits.token_estimate`), this one is not to be safe but to be
right: hundreds of requests are in flight at a time, and when a budget ends, what they were reserved at decides how near
to it the bill comes. So for the reply it is not the most that the request allows, but the mean of what replies took.
The sum over n requests is then off by the spread of single ones over the square root of n, and by that of the mean
itself.

Until a few replies have been seen the most that a request allows is taken, so that nothing is spent on a guess.
"""

from rowmill.core.amounts import Price
from rowmill.core.token_means import TokenMeans

_REPLIES = 512  # that the means look back over: as many as are in flight, so that both parts of the error are alike
_FEW = 8  # replies until the mean is gone by
_MOST_OFF = 16.0  # times what is expected: lengths have a long tail
_FIRST_OUTPUT = 1024.0  # tokens; the most that is expected of a reply where the request does not say


class CostEstimate(TokenMeans):
    """The estimate for one provider in one worker."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(look_back=_REPLIES, most_off=_MOST_OFF, least_output=_FIRST_OUTPUT)

    def expect(self, prompt: int, most_output: int) -> tuple[float, float]:
        """Return the tokens of prompt and reply to reserve for a request.

        `prompt`: characters of the body / 4; `most_output`: the most tokens that the reply may have, 0 where unknown.
        """
        prompt_tokens = prompt * self._taken / self._guessed
        if self.replies < _FEW:
            return prompt_tokens, most_output or max(_FIRST_OUTPUT, self.output)
        return prompt_tokens, min(self.output, most_output) if most_output else self.output

    def usd(self, price: Price | None, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the dollars for so many tokens, as many of the prompt's being cached as usual; 0 without a price."""
        if price is None:
            return 0.0
        input_price = price.input + (price.cached_input - price.input) * self._cached / self._taken
        return (prompt_tokens * input_price + completion_tokens * price.output) / 1e6
