"""What a request will be charged in tokens, before the reply says so: what limits are debited by.

It is to be safe: for the output it takes the most that the request asks for, and only where it does not say, the mean
of what replies took.
"""

from rowmill.core.token_means import TokenMeans

_FIRST_OUTPUT = 256.0  # tokens; a usual answer's, so that the first second does not spend what it does not know


class TokenEstimate(TokenMeans):
    """The estimate for one provider in one worker."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(look_back=64, prior=4, output=_FIRST_OUTPUT, most_off=4.0, least_output=64.0)

    def estimate(self, prompt: int, most_output: int) -> int:
        """Return the tokens to debit for a request, at least 1.

        `prompt`: characters of the body / 4; `most_output`: the most tokens that the reply may have, 0 where unknown.
        """
        return max(1, round(prompt * self._taken / self._guessed + (most_output or self.output)))
