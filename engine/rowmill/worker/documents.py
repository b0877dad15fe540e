"""Rows on their way from the input to the task: where they name documents, these are read first."""

from collections.abc import AsyncIterator

from rowmill.tasks import Task
from rowmill.worker.job import OpenShard


async def with_documents(
    task: Task, opened: OpenShard, first_row: int, lines: list[bytes]
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Yield the lines with the number of the first of them: all at once, or each as soon as its documents are read.

    Those of rows that are not to be done now are not read.
    """
    documents = task.documents
    if documents is None:
        yield first_row, lines
        return
    is_done, only = opened.checkpoint.is_done, opened.only
    for row, line in enumerate(lines, first_row):
        wanted = not is_done(row) and (only is None or row in only)
        yield row, [await documents.attached(line) if wanted else line]
