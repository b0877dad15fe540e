"""What a request will cost in tokens, before its reply says so: what is reserved for it.

Unlike the estimate that limits are debited by (`flow.limits.token_estimate`), this one is not to be safe but to be
right: hundreds of requests are in flight at a time, and when a budget ends, what they were reserved at decides how near
to it the bill comes. So for the reply it is not the most that the request allows, but the mean of what replies took.
The sum over n requests is then off by the spread of single ones over the square root of n, and by that of the mean
itself.

Until a few replies have been seen the most that a request allows is taken, so that nothing is spent on a guess.

Prompts count as their characters / 4 times the ratio of real to guessed tokens, that of two running means, so that the
estimates add up whatever the prompts' lengths are. One absurd reply (a broken gateway's usage) counts for no more than
some times what was expected; what is really different gets through by repeating itself.
"""

from rowmill.core.amounts import Price

_REPLIES = 512  # that the means look back over: as many as are in flight, so that both parts of the error are alike
_FEW = 8  # replies until the mean is gone by
_MOST_OFF = 16.0  # times what was expected: as much as one reply counts for; lengths have a long tail
_FIRST_OUTPUT = 1024.0  # tokens; the most that is expected of a reply where the request does not say


class CostEstimate:
    """The estimate for one provider in one worker."""

    __slots__ = ("_cached", "_guessed", "_output", "_replies", "_taken")

    def __init__(self) -> None:
        self._guessed = 1.0  # running mean of the prompts as guessed; only its ratio to the next one matters
        self._taken = 1.0  # running mean of the prompt tokens that replies said
        self._cached = 0.0  # of them, those that the provider had cached
        self._output = 0.0  # running mean of the replies' tokens
        self._replies = 0

    def expect(self, prompt: int, most_output: int) -> tuple[float, float]:
        """Return the tokens of prompt and reply to reserve for a request.

        `prompt`: characters of the body / 4; `most_output`: the most tokens that the reply may have, 0 where unknown.
        """
        prompt_tokens = prompt * self._taken / self._guessed
        if self._replies < _FEW:
            return prompt_tokens, most_output or max(_FIRST_OUTPUT, self._output)
        return prompt_tokens, min(self._output, most_output) if most_output else self._output

    def usd(self, price: Price | None, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the dollars for so many tokens, as many of the prompt's being cached as usual; 0 without a price."""
        if price is None:
            return 0.0
        input_price = price.input + (price.cached_input - price.input) * self._cached / self._taken
        return (prompt_tokens * input_price + completion_tokens * price.output) / 1e6

    def learn(self, prompt: int, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> None:
        """Take in a valid reply's usage. One without prompt tokens says nothing: the server does not report them."""
        if prompt <= 0 or prompt_tokens <= 0 or completion_tokens < 0:
            return
        if not self._replies:  # what stood here had no unit
            self._guessed = self._taken = float(prompt)
        expected = prompt * self._taken / self._guessed
        tokens = min(max(prompt_tokens, expected / _MOST_OFF), expected * _MOST_OFF)
        output = min(completion_tokens, max(self._output, _FIRST_OUTPUT) * _MOST_OFF)
        self._replies = min(self._replies + 1, _REPLIES)
        weight = 1.0 / self._replies
        self._guessed += (prompt - self._guessed) * weight
        self._taken += (tokens - self._taken) * weight
        self._cached += (tokens * min(1.0, max(0.0, cached_tokens / prompt_tokens)) - self._cached) * weight
        self._output += (output - self._output) * weight
