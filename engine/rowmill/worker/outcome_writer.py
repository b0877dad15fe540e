"""The recorded end of a row: its output line, appended to its shard's checkpoint, and word to the committer.

Part of the hot path (see `dispatcher`).
"""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Protocol

import msgspec

from rowmill.core.config.sections import REPLY_PARTS
from rowmill.core.errors import InvalidOutput
from rowmill.core.rows import NO_LINE
from rowmill.core.wire import Answer, Failure
from rowmill.store.in_flight import InflightBoard
from rowmill.store.output_lines import ended_line, failure_line, result_line
from rowmill.store.recovery import EndedReply
from rowmill.tasks import Task
from rowmill.worker import packs
from rowmill.worker.defects import Defects
from rowmill.worker.job import DONE, Job, OpenShard

if TYPE_CHECKING:
    from rowmill.files.output.step_rows import EndedRow  # only where there are several steps

GROUP_BYTES = 1 << 20  # of outcomes that are worth a write and a sync of their own


class Followed(Protocol):
    """Whom to tell of the ends of rows that others wait for."""

    def answered(self, job: Job, answer: Answer, now: float) -> None:
        """Hear that a row that leads has its answer."""

    def failed(self, job: Job, failure: Failure, now: float) -> None:
        """Hear that a row that leads has failed for good."""


class OutcomeWriter:
    """Records outcomes, and knows how much of them is not yet on disk.

    pending_bytes, pending_rows: recorded, not yet on disk.
    """

    def __init__(
        self,
        *,
        task: Task,
        board: InflightBoard,
        include: frozenset[str],
        on_recorded: Callable[[bool], None],
        defects: Defects,
        step: str = "",
    ) -> None:
        """`on_recorded` is called with False for the first outcome that waits for the disk.

        It is called with True once enough wait for a group of their own; `synced` answers it. `step`: of the run, where
        there are several.
        """
        self._task = task
        self._board = board
        self._cells = board.cells
        self._include_input = "input" in include
        self._include_meta = "meta" in include
        self._no_parts = b"".join(b',"%b":null' % part.encode() for part in REPLY_PARTS if part in include)
        self._includes = bool(include)
        self._on_recorded = on_recorded
        self._defects = defects
        self._step = step
        self.pending_bytes = 0
        self.pending_rows = 0
        self._tell_from = _next_told(0)
        self.shared: Followed | None = None  # whom to tell of rows that lead others

    def result(self, job: Job, answer: Answer, now: float) -> None:
        """Record an answer that came at loop time `now`."""
        assert job.request is not None
        done = "done" if job.state == "in flight" else DONE[job.state]  # without the look-up, for nearly all
        ms = int((now - job.started) * 1000)
        attempts = job.attempts + 1
        prompt_tokens, completion_tokens = answer.prompt_tokens, answer.completion_tokens
        if job.spent:
            attempts += job.asked
            prompt_tokens += job.spent[0]
            completion_tokens += job.spent[1]
        include = self._included(job, ms, attempts, answer.more) if self._includes else b""
        line = result_line(job.index, job.request.id, answer, include)
        job.shard.checkpoint.append(
            job.index,
            attempts,
            job.requests,
            ms,
            job.provider.name,  # type: ignore[union-attr]  # it has answered
            line,
            prompt_tokens,
            completion_tokens,
        )
        job.state = done  # not before: what raises until here has recorded nothing
        self.pending_rows = rows = self.pending_rows + 1  # as `_note`, without the calls
        self._cells[-1] = -rows
        self.pending_bytes = pending = self.pending_bytes + len(line)
        if pending >= self._tell_from:
            self._tell(pending)
        if job.key:
            self._shared_by(job).answered(job, answer, now)

    def follow(self, job: Job, result: Answer | Failure, now: float) -> None:
        """Record a row that ends as another one did, whose reply or failure this is."""
        if type(result) is Failure:
            self.failure(job, result, now)
        else:
            assert type(result) is Answer
            try:
                self._copy(job, result)
            except Exception as error:  # noqa: BLE001 - those that wait beside it are not to hang for it
                failure = self._defects.failure(error, job.index)
                if job.state != "done":
                    self.failure(job, failure, now)

    def _copy(self, job: Job, answer: Answer) -> None:
        """Record an answer that the row did not ask for itself: it took no request and no tokens."""
        assert job.request is not None
        done = DONE[job.state]
        line = result_line(job.index, job.request.id, answer, self._included(job, 0, 0, answer.more))
        job.shard.checkpoint.append(job.index, 0, 0, 0, "", line)
        job.state = done
        self._note(len(line))

    def failure(self, job: Job, failure: Failure, now: float) -> None:
        """Record at loop time `now` that the row, or every member of a pack, has failed for good."""
        job.become("done")
        if job.members is not None:
            for place, member in enumerate(job.members):
                packs.tell(job, member, requests=0 if place else job.requests)
                self.failure(member, failure, now)
            return
        ms = int((now - job.started) * 1000) if job.requests else 0
        attempts = max(job.attempts + job.asked, 1)
        try:
            id_ = job.request.id if job.request is not None else self._task.id_of(job.line)
            included = self._included(job, ms, attempts, failure.more)
        except Exception as error:  # noqa: BLE001 - a row that cannot be shown is still a row that has failed
            self._defects.failure(error, job.index)
            id_, included = b"null", b""
        line = failure_line(job.index, id_, failure, included, self._step)
        prompt, completion = job.spent or (0, 0)
        job.shard.checkpoint.append(
            job.index, attempts, job.requests, ms, _provider(job), line, prompt, completion, failed=True
        )
        self._note(len(line))
        if job.key:
            self._shared_by(job).failed(job, failure, now)

    def passed_over(self, shard: OpenShard, index: int, ended: "EndedRow | None") -> None:
        """Record a row that was not asked, as it failed in a step before; None: a condition has left it out."""
        attempts, line = 0, NO_LINE
        if ended is not None:
            attempts = ended.attempts
            members = b',"input":' + ended.input if self._include_input else b""
            if self._include_meta:
                members += _meta(None, attempts, 0, 0)
            line = ended_line(index, ended.id, ended.error, members + self._no_parts)
        shard.checkpoint.append(index, attempts, 0, 0, "", line, failed=ended is not None)
        self._note(len(line))

    def reply(self, job: Job, requests: int, invalid: InvalidOutput, ended: EndedReply | None = None) -> None:
        """Record a reply that is no valid answer to the row, after so many requests; the row has no outcome yet.

        `ended`: it is none for how it ended.
        """
        answer = invalid.answer
        prompt, completion = job.spent or (0, 0)
        job.spent = (prompt + answer.prompt_tokens, completion + answer.completion_tokens)
        usage = (answer.prompt_tokens, answer.completion_tokens)
        self._note_bytes(
            job.shard.checkpoint.append_reply(job.index, requests, usage, str(invalid), answer.output, ended=ended)
        )

    def synced(self, count: int, rows: int) -> None:
        """Take note that so many recorded bytes, of so many rows, are on disk."""
        self.pending_bytes -= count
        self.pending_rows -= rows
        self._tell_from = _next_told(self.pending_bytes)
        self._board.note_unsynced(self.pending_rows)

    def _shared_by(self, job: Job) -> Followed:
        assert self.shared is not None, f"row {job.index} leads nobody"
        return self.shared

    def _note(self, count: int) -> None:
        self.pending_rows += 1
        self._board.note_unsynced(self.pending_rows)
        self._note_bytes(count)

    def _note_bytes(self, count: int) -> None:
        self.pending_bytes += count
        if self.pending_bytes >= self._tell_from:
            self._tell(self.pending_bytes)

    def _tell(self, pending: int) -> None:
        self._tell_from = _next_told(pending)
        self._on_recorded(pending >= GROUP_BYTES)

    def _included(self, job: Job, ms: int, attempts: int, parts: bytes) -> bytes:
        """Encode the further members of the output line that `output.include` asks for.

        parts: those of the reply; empty where there is none.
        """
        members = b""
        if self._include_input:
            members += b',"input":' + self._task.input_of(job.line)
        if self._include_meta:
            members += _meta(_provider(job) or None, attempts, job.requests, ms)
        return members + (parts or self._no_parts)


def _meta(provider: str | None, attempts: int, requests: int, ms: int) -> bytes:
    meta = {"provider": provider, "attempts": attempts, "requests": requests, "ms": ms}
    return b',"meta":' + msgspec.json.encode(meta)


def _next_told(pending: int) -> float:
    """Return at how many pending bytes there is something to tell next: there are any, or enough for a group."""
    return inf if pending >= GROUP_BYTES else GROUP_BYTES if pending else 1


def _provider(job: Job) -> str:
    """Name who answered, or was asked last; nobody was where the row failed before it was sent."""
    return job.provider.name if job.provider is not None else ""
