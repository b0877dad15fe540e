"""What a task raises, as a failure: the lower half of the way from a reply to a verdict, live and by batches.

The way, from the top: a status that is no 2xx has failed as `faults.classify` says; a body that is no reply, a reply in
which the model declines, and content that is no valid answer are what a task raises; everything else is an answer. The
upper half stands in `live.settler` and in `batch.verdicts`: a common function would be one more call for each row of
the hot path that is answered.
"""

from collections.abc import Iterable

import msgspec

from rowmill.core.errors import BadReply, Declined, DeepReply, EmptyReply, InvalidOutput, InvalidRow, UnreadableDocument
from rowmill.core.plain_text import clipped
from rowmill.core.wire import Failure, Reply
from rowmill.transport import faults
from rowmill.transport.foreign_words import cleaned

_OF_A_REPLY = (faults.BAD_REPLY, faults.EMPTY_REPLY, faults.REPLY_TOO_LARGE)


def failure_of(error: InvalidRow | BadReply | Declined | InvalidOutput, status: int | None = None) -> Failure:
    """Return the failure of a row, or of its reply, in which a task found what it has raised.

    `status`: the reply's, for `BadReply` and `Declined`; the other two are nothing that the provider has done wrong.
    """
    if isinstance(error, UnreadableDocument):
        return Failure(fault=faults.UNREADABLE_DOCUMENT, message=cleaned(str(error), ()), code=error.code)
    if isinstance(error, InvalidRow):
        return Failure(fault=faults.INVALID_ROW, message=str(error))
    if isinstance(error, InvalidOutput):
        return Failure(
            fault=faults.INVALID_OUTPUT,
            message=cleaned(str(error), ()),
            reply=error.answer.output,
            more=error.answer.more,
        )
    if isinstance(error, Declined):
        text = str(error)
        # A message is clipped; what the model has said was paid for.
        whole = msgspec.json.encode(text) if clipped(text) != text else None
        return Failure(
            fault=faults.CONTENT_FILTER, message=text, code="refusal", status=status, reply=whole, more=error.more
        )
    if isinstance(error, EmptyReply):  # what it cost is known
        return Failure(fault=faults.EMPTY_REPLY, message=str(error), status=status, reply=error.rest, more=error.more)
    # The work was done and will be done again: this one is certain to be billed twice.
    fault = faults.REPLY_TOO_LARGE if isinstance(error, DeepReply) else faults.BAD_REPLY
    return Failure(fault=fault, message=str(error), status=status, maybe_billed=True)


def failure_in(error: BadReply | Declined, reply: Reply) -> Failure:
    """Return the failure of a 2xx reply of which a task has raised this: the error that it holds, where that is known.

    Of a whole reply without an answer an error of no known kind says no more than that it is one.
    """
    within = faults.inside(reply) if isinstance(error, BadReply) else None
    if within is not None and not (isinstance(error, EmptyReply) and within.fault is faults.BAD_REPLY):
        return within
    failure = failure_of(error, reply.status)
    if failure.fault is faults.BAD_REPLY and (said := faults.said(reply)):
        return msgspec.structs.replace(failure, message=f"{failure.message}; the reply says: {said}")
    return failure


def redacted(failure: Failure, secrets: Iterable[str]) -> Failure:
    """Return the failure with none of the secrets in any text of the server, all of them fit to be shown.

    The content of a reply stays as it is: it was paid for.
    """
    code = None if failure.code is None else cleaned(failure.code, secrets)
    param = None if failure.param is None else cleaned(failure.param, secrets)
    return msgspec.structs.replace(failure, message=cleaned(failure.message, secrets), code=code, param=param)


def told(invalid: InvalidOutput, secrets: Iterable[str]) -> InvalidOutput:
    """Return what is wrong with a reply with none of the secrets in it: it quotes the reply. Its content stays."""
    return InvalidOutput(faults.redacted(str(invalid), secrets), invalid.answer)


def may_be_one_row(failure: Failure) -> bool:
    """Whether a pack may have failed for what is in one of its rows, or for its size."""
    return not failure.fault.retryable or failure.fault in _OF_A_REPLY
