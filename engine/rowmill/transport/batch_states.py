"""What servers say of batches and files, read leniently.

Only what is needed must be there. Servers leave members out, answer null or an empty string for "none yet", and make
up statuses: a batch whose state cannot be read is a batch that is paid for and lost.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

_OVER = frozenset({"failed", "completed", "expired", "cancelled"})

T = TypeVar("T")


Clean = Callable[[str], str]  # makes a text of the server fit to be shown


class BatchProblem(msgspec.Struct, frozen=True):
    """Why a server did not take a batch."""

    code: str
    message: str
    line: int | None  # of the input file, as the server counts


class BatchState(msgspec.Struct, frozen=True):
    """One batch, as the provider says it is. Times are Unix times of the provider's clock."""

    id: str
    status: str  # the provider's word: "validating", "in_progress", ...
    total: int  # requests in it; this and the next two are 0 where the server does not count
    completed: int
    failed: int
    output_file_id: str | None
    error_file_id: str | None
    created_at: float
    problems: tuple[BatchProblem, ...]
    metadata: dict[str, str]

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in _OVER


class StoredFile(msgspec.Struct, frozen=True):
    """One file at the provider. What the server does not say is empty."""

    id: str
    bytes: int | None
    created_at: float
    filename: str
    purpose: str
    status: str


class Page(msgspec.Struct, Generic[T]):
    """One page of a list."""

    items: list[T]
    more: bool


class Unreadable(Exception):
    """The reply is not what was asked for; the text says why."""


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a reply is."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{len(body)} bytes that are no JSON") from error
    if not isinstance(value, dict):
        raise Unreadable("JSON that is no object")
    return value


def page_of(value: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> Page[T]:
    """Read one page of a list with what reads an entry. Entries that are none are left out."""
    data = value.get("data")
    if not isinstance(data, list):
        raise Unreadable('a list without "data"')
    items = []
    for entry in data:
        try:
            items.append(read(entry if isinstance(entry, dict) else {}))
        except Unreadable:
            continue
    # As the openai package does: a server that does not say whether there is more is asked for it.
    return Page(items, value.get("has_more") is not False and bool(items))


def state_of(value: dict[str, Any], asked: str = "", *, clean: Clean = str) -> BatchState:
    """Read one batch. `asked` is the id that it was asked for, which stands in where the server says none.

    What is only shown is `clean`; ids are what the server knows its things by, and stay as they are.
    """
    batch_id, status = _text(value, "id") or asked, clean(_text(value, "status"))
    if not batch_id or not status:
        raise Unreadable("a batch without an id or a status")
    counts, metadata = _object(value, "request_counts"), _object(value, "metadata")
    return BatchState(
        id=batch_id,
        status=status,
        total=int(_number(counts, "total") or 0),
        completed=int(_number(counts, "completed") or 0),
        failed=int(_number(counts, "failed") or 0),
        output_file_id=_text(value, "output_file_id") or None,
        error_file_id=_text(value, "error_file_id") or None,
        created_at=_number(value, "created_at") or 0.0,
        problems=_problems_of(value.get("errors"), clean),
        metadata={key: text for key, text in metadata.items() if isinstance(text, str)},
    )


def _problems_of(errors: Any, clean: Clean) -> tuple[BatchProblem, ...]:
    found = errors.get("data") if isinstance(errors, dict) else errors
    if not isinstance(found, list):
        return ()
    problems = []
    for problem in found:
        if isinstance(problem, dict):
            line = _number(problem, "line")
            line_number = None if line is None else int(line)
            problems.append(BatchProblem(clean(_text(problem, "code")), clean(_text(problem, "message")), line_number))
    return tuple(problems)


def file_of(value: dict[str, Any]) -> StoredFile:
    """Read one file's description."""
    file_id = _text(value, "id")
    if not file_id:
        raise Unreadable("a file without an id")
    size = _number(value, "bytes")
    return StoredFile(
        id=file_id,
        bytes=None if size is None else int(size),
        created_at=_number(value, "created_at") or 0.0,
        filename=_text(value, "filename"),
        purpose=_text(value, "purpose"),
        status=_text(value, "status"),
    )


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _number(value: dict[str, Any], key: str) -> float | None:
    found = value.get(key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
