"""Replies that end with a reason that the configuration does not want: asked for once more, or failed.

Nothing here awaits, and nothing is called for replies that end as they should.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rowmill.core.errors import InvalidOutput
from rowmill.core.finish_reasons import CUT
from rowmill.core.wire import Answer, Failure
from rowmill.ipc.messages import Note, ToSupervisor
from rowmill.tasks.caps import cap_in
from rowmill.transport.reply_room import may_be_for_want_of_room, room_in
from rowmill.worker.finish_rules import FinishRules, Unfinished, ended
from rowmill.worker.job import Job
from rowmill.worker.live.provider import Provider
from rowmill.worker.outcome_writer import OutcomeWriter

if TYPE_CHECKING:
    from rowmill.worker.live.endings import Endings

_GROWN = "replies that are cut off are asked for once more, with room for more tokens (retry.on_finish)"
_CAPLESS = (
    "replies end with finish_reason length and are not asked for again: no max_tokens of theirs can grow "
    "(retry.on_finish)"
)


class Finishes:
    """Settles such replies."""

    def __init__(
        self, rules: FinishRules, *, writer: OutcomeWriter, endings: "Endings", tell: Callable[[ToSupervisor], None]
    ) -> None:
        self.rules = rules
        self._writer = writer
        self._endings = endings
        self._tell = tell

    def found(self, provider: Provider, answer: Answer, invalid: InvalidOutput | None) -> InvalidOutput | None:
        """Return what is wrong with an answer that is looked at for the first time, how it ends included.

        The next one that ends so is to be looked at, too.
        """
        reason = self.rules.of(answer)
        if not reason:
            return invalid
        provider.plain.discard(answer.finish_reason)
        return Unfinished(answer, reason, invalid)

    def settle(self, job: Job, provider: Provider, found: InvalidOutput, now: float) -> InvalidOutput | None:
        """Settle a reply for how it ends; returns what else is wrong with it, and is to be settled as ever."""
        if not isinstance(found, Unfinished):
            return found
        if self._settled(job, provider, found, now):
            return None
        if found.invalid is not None:
            found.invalid.answer = found.answer
            return found.invalid
        self._writer.result(job, found.answer, now)
        return None

    def _settled(self, job: Job, provider: Provider, found: Unfinished, now: float) -> bool:
        """Ask once more, or fail the row, if the configuration says so; False where the reply is as any other."""
        answer, reason = found.answer, found.reason
        second = self.rules.second_ask(job, answer, reason, valid=found.invalid is None, most=provider.most_cap)
        if second is not None:
            said = ended(answer, valid=found.invalid is None)
            self._writer.reply(job, job.requests, found, said)
            provider.wasted(answer)
            job.second = second
            job.attempts += 1
            self._endings.send_again([job])
            if second.cap:
                self._tell(Note(_GROWN, once=True))
            return True
        if reason == CUT and self.rules.grows and job.second is None:
            self._tell(Note(_CAPLESS, once=True))
        failure = self.rules.failure(job, answer, reason) if found.invalid is None else None
        if failure is None:
            return False
        provider.wasted(answer)
        self._endings.fail(job, provider, failure, now)
        return True

    def refused(self, job: Job, provider: Provider, failure: Failure) -> bool:
        """Whether a request was refused for the room that its reply was to have, and goes out with less."""
        second = job.second
        assert job.request is not None
        if second is None or not second.cap or not may_be_for_want_of_room(failure):
            return False
        before, prompt = cap_in(job.request.body), 0 if second.answer is None else second.answer.prompt_tokens
        room = room_in(failure, above=before, below=second.cap, prompt=prompt)
        if not room and second.answer is not None:
            return False  # which stands
        if room and failure.fault.name != "context_length":
            provider.most_cap = room
        second.cap = room
        return True

    def stands(self, job: Job, now: float) -> bool:
        """Record the first reply of a row whose second ask has failed; False where that was no answer."""
        end = self.rules.first_end(job)
        if isinstance(end, Answer):
            self._writer.result(job, end, now)
        elif end is not None:
            self._writer.failure(job, end, now)
        return end is not None
