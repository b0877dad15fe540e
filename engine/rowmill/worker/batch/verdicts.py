"""What one result of a batch means, and what it cost. Knows no row and no checkpoint."""

from collections.abc import Sequence

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.errors import BadReply, Declined, InvalidOutput
from rowmill.core.wire import Answer, Failure, Reply
from rowmill.tasks import Task
from rowmill.tasks.replies import paid
from rowmill.transport import faults
from rowmill.worker.batch.results import RequestResult

SERVER_ERROR = faults.TABLE["server_error"]
NO_RESULT = "the batch brought no result for this row"


class Verdict(msgspec.Struct):
    """An answer, or what is wrong with it, for each row of the request; or one failure; or, with neither, nothing.

    spent: what the result cost; wasted: that of it which bought no answer.
    """

    answers: Sequence[Answer | InvalidOutput] | None = None
    failure: Failure | None = None
    spent: Spent = msgspec.field(default_factory=Spent)
    wasted: Spent = msgspec.field(default_factory=Spent)


def verdict_on(result: RequestResult, task: Task, rows: int, secrets: tuple[str, ...]) -> Verdict:
    """Read the result of a request of so many rows, as a live reply is (see `settler`).

    A request that was never made is neither answered nor failed. `secrets` are struck out of messages.
    """
    failure: Failure | None
    if not result.status:
        if result.unasked:
            return Verdict()
        failure = Failure(fault=SERVER_ERROR, message=result.message or NO_RESULT, code=result.code)
        return Verdict(failure=_redacted(failure, secrets))
    failure = faults.classify(Reply(result.status, result.body, lambda _: None))
    if failure is not None:
        return Verdict(failure=_redacted(failure, secrets))
    try:
        if task.rows_per_request > 1:
            return _priced(task.unpack(result.body, rows))
        return _priced([task.parse(result.body)])
    except InvalidOutput as invalid:
        return _priced([invalid])
    except BadReply as error:
        failure = Failure(fault=faults.BAD_REPLY, message=str(error), status=result.status)
    except Declined as error:
        failure = Failure(fault=faults.CONTENT_FILTER, message=str(error), code="refusal", status=result.status)
    return Verdict(None, _redacted(failure, secrets), paid(result.body), paid(result.body))


def _priced(answers: Sequence[Answer | InvalidOutput]) -> Verdict:
    spent, wasted = Spent(1), Spent(1)
    for each in answers:
        wrong = isinstance(each, InvalidOutput)
        answer = each.answer if isinstance(each, InvalidOutput) else each
        cost = Spent(0, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens)
        spent.add(cost)
        if wrong:
            wasted.add(cost)
        else:
            wasted.requests = 0
    return Verdict(answers, None, spent, wasted)


def _redacted(failure: Failure, secrets: tuple[str, ...]) -> Failure:
    return msgspec.structs.replace(failure, message=faults.redacted(failure.message, secrets))
