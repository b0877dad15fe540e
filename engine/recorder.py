"""The recorded end of a row: its output line, appended to its shard's checkpoint, and word to the committer.

Part of the hot path (see `pipeline`).
"""

from collections.abc import Callable

import msgspec

from engine.job import Job
from engine.records import Answer, Failure
from engine.store.inflight import InflightBoard
from engine.store.lines import failure_line, result_line
from engine.tasks.chat import ChatTask

_GROUP_BYTES = 1 << 20  # of outcomes that are worth a write and a sync of their own


class Recorder:
    """Records outcomes, and knows how much of them is not yet on disk.

    pending_bytes, pending_rows: recorded, not yet on disk.
    """

    def __init__(
        self,
        *,
        task: ChatTask,
        board: InflightBoard,
        include: frozenset[str],
        on_recorded: Callable[[bool], None],
    ) -> None:
        """`on_recorded` is called with False for the first outcome that waits for the disk.

        It is called with True once enough wait for a group of their own; `synced` answers it.
        """
        self._task = task
        self._board = board
        self._include_input = "input" in include
        self._include_meta = "meta" in include
        self._includes = bool(include)
        self._on_recorded = on_recorded
        self.pending_bytes = 0
        self.pending_rows = 0

    def result(self, job: Job, answer: Answer, now: float) -> None:
        """Record an answer that came at loop time `now`."""
        assert job.request is not None
        ms = int((now - job.started) * 1000)
        attempts = job.attempts + 1
        include = self._included(job, ms, attempts) if self._includes else b""
        line = result_line(job.index, job.request.id, answer, include)
        job.shard.checkpoint.append(
            job.index,
            attempts,
            job.requests,
            ms,
            job.upstream.name,  # type: ignore[union-attr]  # it has answered
            line,
            answer.prompt_tokens,
            answer.completion_tokens,
        )
        self._note(len(line))

    def failure(self, job: Job, failure: Failure, now: float) -> None:
        """Record at loop time `now` that the row has failed for good."""
        ms = int((now - job.started) * 1000) if job.requests else 0
        id_ = job.request.id if job.request is not None else self._task.id_of(job.line)
        attempts = max(job.attempts, 1)
        line = failure_line(job.index, id_, failure, self._included(job, ms, attempts))
        job.shard.checkpoint.append(job.index, attempts, job.requests, ms, _provider(job), line, failed=True)
        self._note(len(line))

    def synced(self, count: int, rows: int) -> None:
        """Take note that so many recorded bytes, of so many rows, are on disk."""
        self.pending_bytes -= count
        self.pending_rows -= rows
        self._board.note_unsynced(self.pending_rows)

    def _note(self, count: int) -> None:
        before = self.pending_bytes
        self.pending_bytes = after = before + count
        self.pending_rows += 1
        self._board.cells[-1] = -self.pending_rows  # as note_unsynced, without the call
        if before == 0 or before < _GROUP_BYTES <= after:
            self._on_recorded(after >= _GROUP_BYTES)

    def _included(self, job: Job, ms: int, attempts: int) -> bytes:
        """Encode the further members of the output line that `output.include` asks for."""
        members = b""
        if self._include_input:
            members += b',"input":' + self._task.input_of(job.line)
        if self._include_meta:
            meta = {"provider": _provider(job) or None, "attempts": attempts, "requests": job.requests, "ms": ms}
            members += b',"meta":' + msgspec.json.encode(meta)
        return members


def _provider(job: Job) -> str:
    """Name who answered, or was asked last; nobody was where the row failed before it was sent."""
    return job.upstream.name if job.upstream is not None else ""
