"""What a request will be charged in tokens, before the reply says so: what was learned from the replies so far.

Prompt: characters / 4, times the ratio of real to guessed tokens over the last some sixty replies. The ratio is that
of two running means, not the mean of ratios: so the estimates add up to what was charged, even where short prompts
have another ratio than long ones. Output: what the request asks for at most; where it does not say, the running mean
of what replies took.

One reply can be far off (a broken gateway's usage), so no single one counts for more than a few times what was
expected. What is really different gets through by repeating itself.
"""

# Replies that the means look back over. The first ones count for more, against a prior of a few replies.
_REPLIES = 64
_PRIOR = 4
_MOST_OFF = 4.0  # times what was expected: as much as one reply may count for
_FIRST_OUTPUT = 256.0  # tokens; a usual answer's, so that the first second does not spend what it does not know
_LEAST_OUTPUT = 64.0  # what is meant by "a few times" where replies are very short


class TokenEstimate:
    """The estimate for one provider in one worker."""

    __slots__ = ("_guessed", "_output", "_replies", "_taken")

    def __init__(self) -> None:
        self._guessed = 1.0  # running mean of the guesses; only its ratio to _taken matters
        self._taken = 1.0  # running mean of the prompt tokens that replies said
        self._output = _FIRST_OUTPUT
        self._replies = _PRIOR

    @property
    def ratio(self) -> float:
        """Real prompt tokens for each that is guessed from the characters."""
        return self._taken / self._guessed

    def estimate(self, prompt: int, most_output: int) -> int:
        """Return the tokens to debit for a request, at least 1.

        `prompt`: characters of the body / 4; `most_output`: the most tokens that the reply may have, 0 where unknown.
        """
        return max(1, round(prompt * self._taken / self._guessed + (most_output or self._output)))

    def learn(self, prompt: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Take in a valid reply's usage. One without prompt tokens says nothing: the server does not report them."""
        if prompt <= 0 or prompt_tokens <= 0 or completion_tokens < 0:
            return
        if self._replies == _PRIOR:  # the prior, in the units of the first prompt
            self._guessed = self._taken = float(prompt)
        expected = prompt * self._taken / self._guessed
        tokens = min(max(prompt_tokens, expected / _MOST_OFF), expected * _MOST_OFF)
        output = min(completion_tokens, max(self._output, _LEAST_OUTPUT) * _MOST_OFF)
        self._replies = min(self._replies + 1, _REPLIES)
        weight = 1.0 / self._replies
        self._guessed += (prompt - self._guessed) * weight
        self._taken += (tokens - self._taken) * weight
        self._output += (output - self._output) * weight
