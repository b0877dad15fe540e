"""What requests took in tokens, by the latest replies: running means, which estimates of the next ones are made from.

A prompt counts as its characters / 4, times the ratio of real to guessed tokens. The ratio is that of two running
means, not the mean of ratios: so the estimates add up to what was charged, even where short prompts have another ratio
than long ones.

One reply can be far off (a broken gateway's usage), so no single one counts for more than some times what was expected.
What is really different gets through by repeating itself.
"""


class TokenMeans:
    """The means for one provider in one worker. Who estimates derives from it.

    output: tokens of a reply. replies: as many as the means are made of, the prior included.
    """

    __slots__ = ("_cached", "_guessed", "_least_output", "_look_back", "_most_off", "_prior", "_taken", "output",
                 "replies")  # fmt: skip

    def __init__(
        self, *, look_back: int, most_off: float, least_output: float, prior: int = 0, output: float = 0.0
    ) -> None:
        """Look back over so many replies. The first ones count for more, against a prior of so many of this output.

        A reply counts for what was expected times `most_off` at most; of outputs `least_output` at least is expected.
        """
        self.output = output
        self.replies = self._prior = prior
        self._look_back = look_back
        self._most_off = most_off
        self._least_output = least_output
        self._guessed = 1.0  # of the prompts; only its ratio to the next one matters
        self._taken = 1.0  # by the prompts, as replies said
        self._cached = 0.0  # of that, what the provider had cached

    @property
    def ratio(self) -> float:
        """Real prompt tokens for each that is guessed from the characters."""
        return self._taken / self._guessed

    def learn(self, prompt: int, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> None:
        """Take in a valid reply's usage; `prompt`: characters of the body / 4.

        One without prompt tokens says nothing: the server does not report them.
        """
        if prompt <= 0 or prompt_tokens <= 0 or completion_tokens < 0:
            return
        if self.replies == self._prior:  # until now, it had no unit
            self._guessed = self._taken = float(prompt)
        most_off = self._most_off
        expected = prompt * self._taken / self._guessed
        tokens = min(max(prompt_tokens, expected / most_off), expected * most_off)
        output = min(completion_tokens, max(self.output, self._least_output) * most_off)
        self.replies = min(self.replies + 1, self._look_back)
        weight = 1.0 / self.replies
        self._guessed += (prompt - self._guessed) * weight
        self._taken += (tokens - self._taken) * weight
        self.output += (output - self.output) * weight
        if cached_tokens or self._cached:
            cached = tokens * min(1.0, max(0.0, cached_tokens / prompt_tokens))
            self._cached += (cached - self._cached) * weight
