"""What one result of a batch means, and what it cost. Knows no row and no checkpoint."""

from collections.abc import Sequence

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.errors import BadReply, Declined, InvalidOutput
from rowmill.core.wire import Answer, Failure, Reply
from rowmill.tasks import Task
from rowmill.tasks.forms import Former
from rowmill.tasks.replies import paid
from rowmill.transport import faults
from rowmill.worker.batch.results import RequestResult
from rowmill.worker.defects import defect
from rowmill.worker.echoes import cleared
from rowmill.worker.failures import failure_in, redacted, told

SERVER_ERROR = faults.TABLE["server_error"]
NO_RESULT = "the batch brought no result for this row"


class Verdict(msgspec.Struct):
    """What a result means.

    found: for each row of the request its answer, or what is wrong with it; or why the request has failed; None where
    it was never made. spent: what the result cost; wasted: that of it which bought no answer.
    """

    found: Sequence[Answer | InvalidOutput] | Failure | None = None
    spent: Spent = msgspec.field(default_factory=Spent)
    wasted: Spent = msgspec.field(default_factory=Spent)


def verdict_on(
    result: RequestResult, task: Task, rows: int, secrets: tuple[str, ...], former: Former | None = None
) -> Verdict:
    """Read the result of a request of so many rows, as a live reply is (see `failures`). `secrets` are redacted.

    former: by whom the request was formed.
    """
    try:
        return _read(result, task, rows, secrets, former)
    except Exception as error:  # noqa: BLE001 - it is these rows'
        return Verdict(redacted(defect(error, status=result.status), secrets), paid(result.body), paid(result.body))


def _read(result: RequestResult, task: Task, rows: int, secrets: tuple[str, ...], former: Former | None) -> Verdict:
    if result.unasked:
        return Verdict()
    if not result.status:
        failure = Failure(fault=SERVER_ERROR, message=result.message or NO_RESULT, code=result.code)
        return Verdict(redacted(failure, secrets))
    reply = Reply(result.status, result.body, lambda _: None)
    if (refusal := faults.classify(reply)) is not None:
        return Verdict(redacted(refusal, secrets))
    try:
        body = result.body if former is None else former.read(result.body)
        parsed = task.unpack(body, rows) if task.rows_per_request > 1 else [task.parse(body)]
        return priced(
            [
                told(each, secrets) if isinstance(each, InvalidOutput) else cleared(each, secrets, set())
                for each in parsed
            ]
        )
    except InvalidOutput as invalid:
        return priced([told(invalid, secrets)])
    except (BadReply, Declined) as error:
        failure = redacted(failure_in(error, reply), secrets)
        return Verdict(failure, paid(result.body), paid(result.body))


def priced(answers: Sequence[Answer | InvalidOutput]) -> Verdict:
    """Return the verdict of these results of one request, with what they have cost."""
    spent, wasted = Spent(1), Spent(1)
    for each in answers:
        answer = each.answer if isinstance(each, InvalidOutput) else each
        cost = Spent(0, answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens)
        spent.add(cost)
        if isinstance(each, InvalidOutput):
            wasted.add(cost)
        else:
            wasted.requests = 0
    return Verdict(answers, spent, wasted)
