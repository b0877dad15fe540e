"""What is asked and what is read out: an input line -> a request body, a reply body -> an answer.

Every input, whatever its format, reaches a task as lines of JSON objects (see `files.input`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer, Request

if TYPE_CHECKING:
    from rowmill.tasks.documents.task import DocumentTask  # only where rows name documents


class Task(Protocol):
    """Builds the requests and reads the replies of one run. Holds no state of any row."""

    columns: list[str] | None  # those of a row that it looks at; None: all of them
    same_for_all: bool  # whether it asks every row the same, for it names no column but that of the ids
    reply_tokens: int  # the most that a reply may have; 0 where the task does not say
    rows_per_request: int  # rows that may go out together; 1: every row by itself
    shared_tokens: int  # what every request repeats whatever its rows: system prompt, instructions, schema

    @property
    def documents(self) -> "DocumentTask | None":
        """Itself, where rows name documents, which have to be read before they are built."""

    def build(self, line: bytes) -> Request:
        """Turn one input line into a request. Raises `InvalidRow` with the reason.

        Where `rows_per_request` is above 1, its body is the row's piece, which only `pack` turns into a request.
        """

    def pack(self, requests: Sequence[Request]) -> Request:
        """Make one request of several rows, or of one. Its `id` means nothing."""

    def unpack(self, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to a pack of so many rows: for each row, in order, its answer or what is wrong.

        Raises `BadReply` and `Declined` as `parse` does. Tokens are split among the rows, so that their sums are right.
        """

    def parse(self, body: bytes) -> Answer:
        """Read the body of a 2xx reply to a request of one row.

        Raises `BadReply` where it is none, `Declined` where the model declined, `InvalidOutput` where the content does
        not fit the schema.
        """

    def again(self, request: Request, invalid: InvalidOutput) -> Request:
        """Return the request that shows the model its reply and what was wrong with it."""

    def asking(self, model: str) -> Callable[[bytes], bytes]:
        """Return what turns the body of a built (or packed) request into one that asks another model the same.

        A row that names its own model keeps it.
        """

    def id_of(self, line: bytes) -> bytes:
        """Return a row's id as JSON text, null where it cannot be read: for rows that fail before they are built."""

    def input_of(self, line: bytes) -> bytes:
        """Return the line as JSON that can stand in an output line; null where it is no JSON."""

    def check(self, lines: Iterable[bytes], source: str) -> None:
        """Refuse a configuration that does not fit the input's first lines. Raises `InputError`."""
