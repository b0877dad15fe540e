"""Replies that are stored of a row: paid for, and no valid answer. An earlier process may have asked for them."""

from collections.abc import Sequence

from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer
from rowmill.store.recovery import StoredReply


def tokens_of(replies: Sequence[StoredReply]) -> tuple[int, int]:
    """Return the prompt and completion tokens that they have cost."""
    return sum(each.usage[0] for each in replies), sum(each.usage[1] for each in replies)


def invalid_output(reply: StoredReply) -> InvalidOutput:
    """Return what a task has raised of the reply."""
    answer = Answer(bytes(reply.output), b"null", b"null", b"null", *reply.usage)
    return InvalidOutput(reply.problem, answer)
