"""Which replies are asked for once more, or count as failures, for what they ended with; live and by batches."""

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import InvalidOutput
from rowmill.core.finish_reasons import CUT
from rowmill.core.wire import Answer, Failure
from rowmill.store.recovery import EndedReply
from rowmill.tasks.caps import cap_in
from rowmill.tasks.contents import reason_word
from rowmill.transport import faults
from rowmill.worker.job import Job, SecondAsk


class FinishRules:
    """What `retry.on_finish` and `task.fail_on_finish` say."""

    def __init__(self, config: Config) -> None:
        """`config`: that names any reason; see `of_config`."""
        self._again = frozenset(config.retry.on_finish)
        self._fails = frozenset(config.task.fail_on_finish)
        self._factor = config.retry.max_tokens_factor
        self._unwanted = self._again | self._fails
        self.grows = config.retry.grows

    @classmethod
    def of_config(cls, config: Config) -> "FinishRules | None":
        """Return the rules of a configuration; None where it has none."""
        return cls(config) if config.minds_ends else None

    def of(self, answer: Answer) -> str:
        """Return the reason that an answer ends with, where that is unwanted; else nothing."""
        word = reason_word(answer.finish_reason)
        return word if word in self._unwanted else ""

    def fails(self, answer: Answer) -> bool:
        """Whether an answer that ends so is none."""
        return reason_word(answer.finish_reason) in self._fails

    def failure(self, job: Job, answer: Answer, reason: str) -> Failure | None:
        """Return the failure of a row whose reply ends so and is not asked for again; None where it is none.

        What the reply has cost is the row's then.
        """
        if reason not in self._fails:
            return None
        prompt, completion = job.spent or (0, 0)
        job.spent = (prompt + answer.prompt_tokens, completion + answer.completion_tokens)
        job.second = None
        return _failure(answer, reason)

    def second_ask(self, job: Job, answer: Answer, reason: str, *, valid: bool, most: int = 0) -> SecondAsk | None:
        """Return how a row is asked once more whose reply ends so; None where it is not.

        valid: the reply is an answer but for its end. most: tokens that its server gives at most; 0: nobody knows.
        """
        assert job.request is not None
        if job.second is not None or reason not in self._again:
            return None
        kept = answer if valid else None
        if reason != CUT:
            return SecondAsk(kept)
        grown = self.grown(job.request.body, most)
        return SecondAsk(kept, grown) if grown else None

    def grown(self, body: bytes, most: int = 0) -> int:
        """Return the tokens that the reply to a request that was cut off may have; 0 where there is no more."""
        cap = cap_in(body)
        grown = int(cap * self._factor)
        grown = min(grown, most) if most else grown
        return grown if grown > cap else 0

    def taken_up(self, job: Job, ended: EndedReply, answer: Answer) -> SecondAsk:
        """Return how a row is asked once more of which an earlier process has a reply that ended too soon."""
        assert job.request is not None
        cut = reason_word(answer.finish_reason) == CUT
        return SecondAsk(answer if ended.valid else None, self.grown(job.request.body) if cut and self.grows else 0)

    def first_end(self, job: Job) -> Answer | Failure | None:
        """Return what a row ends with that was asked once more in vain: its first reply, or that it fails for its end.

        None where it was not asked once more, or that reply was no answer.
        """
        if job.second is None or (answer := job.second.answer) is None:
            return None
        job.second = None
        reason = reason_word(answer.finish_reason)
        if reason in self._fails:
            return _failure(answer, reason)
        prompt, completion = job.spent or (0, 0)
        rest = prompt - answer.prompt_tokens, completion - answer.completion_tokens
        job.spent = rest if any(rest) else ()  # it counts as the row's answer
        return answer


class Unfinished(InvalidOutput):
    """A reply that ends so, found and not raised. invalid: what else is wrong with it."""

    def __init__(self, answer: Answer, reason: str, invalid: InvalidOutput | None = None) -> None:
        super().__init__(_words(reason), answer)
        self.reason = reason
        self.invalid = invalid


def ended(answer: Answer, *, valid: bool) -> EndedReply:
    """Return what is stored of such a reply beside its content, so that the row can end with it after all."""
    more = msgspec.Raw(b"{%b}" % answer.more[1:]) if answer.more else None
    raw = msgspec.Raw
    return EndedReply(
        valid, raw(answer.finish_reason), raw(answer.model), raw(answer.usage), answer.cached_tokens, more
    )


def _words(reason: str) -> str:
    return f"the reply ended with finish_reason {reason}"


def _failure(answer: Answer, reason: str) -> Failure:
    output = answer.output if answer.output[:1] == b'"' else msgspec.json.encode(answer.output.decode())
    return Failure(
        fault=faults.FINISH_REASON,
        message=f"{_words(reason)} (task.fail_on_finish)",
        code=reason,
        reply=output,
        more=answer.more,
    )
