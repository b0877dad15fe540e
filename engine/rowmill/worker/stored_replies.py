"""Replies that are stored of a row: paid for, and no valid answer. An earlier process may have asked for them."""

from collections.abc import Sequence

from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer
from rowmill.store.recovery import EndedReply, StoredReply


def tokens_of(replies: Sequence[StoredReply]) -> tuple[int, int]:
    """Return the prompt and completion tokens that they have cost."""
    return sum(each.usage[0] for each in replies), sum(each.usage[1] for each in replies)


def ended_in(replies: Sequence[StoredReply]) -> tuple[EndedReply, Answer] | None:
    """Return the reply for which the row is asked once more, with what it said; None where there is none."""
    for each in replies:
        if (ended := each.ended) is not None:
            more = b"" if ended.more is None else b",%b" % bytes(ended.more)[1:-1]
            output, finish_reason = bytes(each.output), bytes(ended.finish_reason)
            model, usage = bytes(ended.model), bytes(ended.usage)
            return ended, Answer(output, finish_reason, model, usage, *each.usage, ended.cached, more)
    return None


def invalid_in(replies: Sequence[StoredReply]) -> list[StoredReply]:
    """Return those that were no valid answers for what is in them."""
    return [each for each in replies if each.ended is None]


def invalid_output(reply: StoredReply) -> InvalidOutput:
    """Return what a task has raised of the reply."""
    answer = Answer(bytes(reply.output), b"null", b"null", b"null", *reply.usage)
    return InvalidOutput(reply.problem, answer)
