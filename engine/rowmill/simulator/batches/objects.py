"""Files and batches as the API shows them, what is kept beside them, and the moves of a batch's life.

Times are Unix time in whole seconds, as the API has them; `Entry.born` is exact.
"""

import msgspec

FILE_LIFE_S = 30 * 86_400  # of a file with the purpose "batch" that does not say
BATCH_LIFE_S = 86_400

# From each status the ones that may follow. A status without a line is an end.
MOVES = {
    "validating": {"failed", "in_progress", "cancelling"},
    "in_progress": {"finalizing", "expired", "cancelling", "failed"},  # failed: its file went away between processes
    "finalizing": {"completed", "cancelling", "failed"},
    "cancelling": {"cancelled"},
}


class FileObject(msgspec.Struct, kw_only=True):
    """OpenAI's FileObject."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str = "processed"
    expires_at: int | None = None
    status_details: str | None = None


class Stored(msgspec.Struct, kw_only=True):
    """A file, and what the API does not show of it."""

    file: FileObject
    digest: str = ""  # of an upload's bytes
    content: str = ""  # how its content fails first: "502" or "cut"


class Problem(msgspec.Struct, kw_only=True):
    """OpenAI's BatchError: what validation found."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None  # from 1


class Problems(msgspec.Struct):
    """All that validation found."""

    data: list[Problem]
    object: str = "list"


class Counts(msgspec.Struct):
    """How many requests of a batch ended how so far."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchUsage(msgspec.Struct, kw_only=True):
    """Tokens of a batch."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, int] = msgspec.field(default_factory=lambda: {"cached_tokens": 0})
    output_tokens_details: dict[str, int] = msgspec.field(default_factory=lambda: {"reasoning_tokens": 0})


class BatchObject(msgspec.Struct, kw_only=True):
    """OpenAI's Batch."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None = None
    errors: Problems | None = None
    input_file_id: str
    completion_window: str
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)
    usage: BatchUsage | None = None
    metadata: dict[str, str] | None = None

    @property
    def over(self) -> bool:
        """Nothing more happens to it."""
        return self.status not in MOVES


class Entry(msgspec.Struct, kw_only=True):
    """A batch, and what the API does not show of it."""

    number: int  # of the provider's batches, from 0: seeds its random numbers
    word: str  # its item of the script
    born: float  # Unix time; ahead of now for a batch that appears late
    batch: BatchObject
    stop: int | None = None  # lines done when it was cancelled
    cancelled: float = 0.0  # Unix time at which that was
    prompt_tokens: int = 0  # enqueued by it, where there is a limit on them


def move(batch: BatchObject, status: str, now: float) -> None:
    """Bring a batch forward. Raises ValueError for a move that its life does not have."""
    if status not in MOVES.get(batch.status, ()):
        raise ValueError(f"a batch that is {batch.status} cannot become {status}")
    batch.status = status
    setattr(batch, f"{status}_at", int(now))
