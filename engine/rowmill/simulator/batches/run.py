"""One batch at work, from its creation to its end.

Time is the wall clock, so that a batch is as far as it should be whichever process looks: validation takes the first
tenth of `batch_s`, its lines are done evenly over the next eight, finalizing takes the last. Where the machine is
slower than that, it takes as long as it takes.

Cancelling stops it at the line it has reached, which is noted (`Entry.stop`), so that a new process stops there too.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from random import Random
from typing import BinaryIO

from rowmill.simulator.batches import request_lines, words
from rowmill.simulator.batches.objects import Entry, Problem, Problems, move
from rowmill.simulator.batches.outcome import Outcome
from rowmill.simulator.batches.results import UNDONE, LineWorker
from rowmill.simulator.batches.storage import Storage
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.replies import RequestError, fingerprint
from rowmill.simulator.routes import of_url

_VALIDATED, _WORKED = 0.1, 0.9  # of `batch_s`
_CANCEL = 0.25  # of `batch_s`: how long cancelling takes
_STRETCH_S = 0.003  # of work at a time; live requests wait no longer
_STEP_S = 0.005  # between two looks at how many lines are due


class Run:
    """Brings one batch forward. Mutable state: its entry, its place in the input, and what comes of it."""

    def __init__(
        self,
        entry: Entry,
        storage: Storage,
        provider: SimulatedProvider,
        *,
        work_lock: asyncio.Lock,
        enqueued: Callable[[], int],
    ) -> None:
        """Take the entry of the batch.

        work_lock: lets one batch of all work at a time. enqueued: tells the provider's enqueued tokens.
        """
        self.entry = entry
        self._batch = entry.batch
        self._script = words.batch_script(entry.word)
        self._storage = storage
        self._provider = provider
        self._work_lock = work_lock
        self._enqueued = enqueued
        route = of_url(entry.batch.endpoint)
        assert route is not None, "looked at when it was created"
        self._route = route
        self._line_worker = LineWorker(provider, self._route, entry, all_failed=self._script.all_failed)
        self._outcome = Outcome(entry.batch, storage, provider, self._route.path)
        self._total = 0
        self._cancelled = asyncio.Event()
        if entry.stop is not None:
            self._cancelled.set()
        self._never = asyncio.Event()

    def cancel(self, now: float) -> None:
        """Stop it at the line it has reached. Raises ValueError where it is over, or is being cancelled."""
        move(self._batch, "cancelling", now)
        self.entry.stop, self.entry.cancelled = self._outcome.done, now
        self._storage.save(self.entry)
        self._cancelled.set()

    async def go(self) -> None:
        """Run until the batch is over."""
        try:
            await self._until(self.entry.born, self._never)
            with self._storage.path(self._batch.input_file_id).open("rb") as source:
                await self._live(source)
        except OSError as error:  # its file was deleted between two processes, or the disk is full
            self._fail([Problem(code="server_error", message=f"The batch's files cannot be used: {error.strerror}")])
        finally:
            self._outcome.close()

    async def _live(self, source: BinaryIO) -> None:
        problems = await self._validate(source)
        if self._script.stuck == "validating":
            await self._cancelled.wait()
        await self._until(self._at(_VALIDATED), self._cancelled)
        if problems:
            self._fail(problems)
            return
        self._batch.request_counts.total = self._total
        if self._batch.status == "validating":
            self._move("in_progress")
        source.seek(0)
        seed = f"{self._provider.settings.seed} {self._provider.name} order {self.entry.number}"
        drawn = request_lines.shuffled(source, Random(seed))  # noqa: S311 - repeatable, no secret
        await self._work(drawn)
        if self._script.stuck:
            await self._cancelled.wait()
        if self._script.expires_at is not None:
            await self._until(self._at(1), self._cancelled)
        else:
            await self._until(self._at(_WORKED), self._cancelled)
            if self._batch.status == "in_progress":
                self._move("finalizing")
            await self._until(self._at(1), self._cancelled)
        await self._end(drawn)

    async def _end(self, drawn: Iterator[bytes]) -> None:
        if self._batch.status == "cancelling":
            if self._script.stuck == "cancelling":
                await self._never.wait()
            await self._in_stretches(self._leave(drawn, "batch_cancelled"))
            await self._until(self.entry.cancelled + _CANCEL * self._provider.settings.batch_s, self._never)
            self._finish("cancelled")
        elif self._script.expires_at is not None:
            await self._in_stretches(self._leave(drawn, "batch_expired"))
            # Who cancels it while the rest is written comes too late: the status says so from here on.
            self._finish("cancelled" if self._batch.status == "cancelling" else "expired")
        else:
            self._finish("completed")

    # Stations, which wait

    async def _validate(self, source: BinaryIO) -> list[Problem]:
        """Read the whole file; what is wrong with it."""
        if self._script.failed is not None:
            message = f"The batch failed with {self._script.failed}. This was scripted."
            return [Problem(code=self._script.failed, message=message, line=self._script.line)]
        stored = self._storage.files.get(self._batch.input_file_id)
        validation = request_lines.Validation(self._batch.endpoint, 0 if stored is None else stored.file.bytes)
        limit = self._provider.settings.batch_enqueued_tokens
        tokens = 0

        def lines() -> Iterator[None]:
            nonlocal tokens
            for number, raw in enumerate(source, 1):
                if validation.full:
                    return
                if raw.strip():
                    line = validation.take(number, raw)
                    if limit is not None and line is not None:
                        tokens += self._prompt_tokens(bytes(line.body))
                yield

        await self._in_stretches(lines())
        validation.end()
        self._total, self._batch.model = validation.total, validation.model
        # One that an earlier process let in stays in.
        if not validation.problems and limit is not None and self._batch.status == "validating":
            return self._enqueue(tokens, limit)
        return validation.problems

    async def _work(self, drawn: Iterator[bytes]) -> None:
        while self._outcome.done < self._goal():
            if self._outcome.done < self._due():
                await self._in_stretches(self._answer(drawn))
            else:
                await self._until(max(self._when(self._outcome.done + 1), time.time() + _STEP_S), self._cancelled)

    async def _in_stretches(self, work: Iterator[None]) -> None:
        """Do work that yields after each line a stretch at a time; live requests are served between."""
        more = True
        while more:
            async with self._work_lock:
                ends = time.perf_counter() + _STRETCH_S
                more = any(time.perf_counter() > ends for _ in work)
                await asyncio.sleep(0)

    async def _until(self, when: float, event: asyncio.Event) -> None:
        """Wait for a point in time, or for the event."""
        seconds = when - time.time()
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()

    # What they do, without waiting

    def _prompt_tokens(self, body: bytes) -> int:
        try:
            return self._provider.compose(self._route, body, fingerprint(body)).prompt_tokens
        except RequestError:
            return 0

    def _enqueue(self, tokens: int, limit: int) -> list[Problem]:
        self.entry.prompt_tokens = 0
        others = self._enqueued()
        if others + tokens > limit:
            message = (
                f"Enqueued token limit reached for {self._batch.model} in organization org-rowmill. "
                f"Limit: {limit:,} enqueued tokens. Please try again once some in_progress batches have been completed."
            )
            return [Problem(code="token_limit_exceeded", message=message)]
        self.entry.prompt_tokens = tokens
        for statistics in self._provider.counted_in:
            statistics.batches.enqueued(others + tokens)
        return []

    def _at(self, share: float) -> float:
        return self.entry.born + share * self._provider.settings.batch_s

    def _when(self, count: int) -> float:
        """Tell when so many lines are to be done."""
        return self._at(_VALIDATED + (_WORKED - _VALIDATED) * count / self._total)

    def _goal(self) -> int:
        """Tell how many lines are worked on in all."""
        if self.entry.stop is not None:
            return min(self.entry.stop, self._total)
        if self._script.stuck in ("in_progress", "cancelling"):
            return ceil(self._script.stuck_at * self._total)
        return self._total if self._script.expires_at is None else ceil(self._script.expires_at * self._total)

    def _due(self) -> int:
        """Tell how many of them are to be done by now."""
        if self.entry.stop is not None or (span := self._at(_WORKED) - self._at(_VALIDATED)) <= 0:
            return self._goal()
        return min(self._goal(), int(self._total * (time.time() - self._at(_VALIDATED)) / span))

    def _answer(self, drawn: Iterator[bytes]) -> Iterator[None]:
        """Answer the lines that are due."""
        while self._outcome.done < self._due():
            self._outcome.add(self._line_worker.answer(request_lines.read(next(drawn))))
            yield

    def _leave(self, drawn: Iterator[bytes], code: str) -> Iterator[None]:
        """Write the lines that are left to the error file."""
        for raw in drawn:
            self._outcome.leave(self._line_worker.undone(request_lines.read(raw), code, UNDONE[code]))
            yield

    def _move(self, status: str) -> None:
        move(self._batch, status, time.time())
        self._storage.save(self.entry)

    def _fail(self, problems: list[Problem]) -> None:
        if self._batch.status == "cancelling":
            self._finish("cancelled")
            return
        self._batch.errors = Problems(problems)
        self._finish("failed")

    def _finish(self, status: str) -> None:
        """Make the files known, then the end: who sees it can read them."""
        if status != "failed":
            self._outcome.publish(self._script.content, "" if self._script.empty_ids else None)
        self._move(status)
        for statistics in self._provider.counted_in:
            statistics.batches.by_status[status] += 1
