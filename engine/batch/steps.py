"""The steps of one try of a part, from its file to its results, each journaled before it is taken and after.

A step that may have been taken although nobody knows (an upload or a creation without an answer, or a process that was
killed meanwhile) is looked for at the provider, by the file's name or the batch's metadata, once it must have arrived
there; only then is it taken again. So no part is ever in two batches, wherever a process ends.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_result, wait_exponential, wait_random

from engine.batch import rejection
from engine.batch.calls import Calls, Clock, End, Gone
from engine.batch.collect import Collected
from engine.batch.rejection import Rejection
from engine.config.sections import BatchConfig
from engine.errors import ExitCode
from engine.records import BatchView
from engine.store.batch_journal import BatchJournal, Try
from engine.transport.batches import BatchState

SETTLE_S = 5.0  # after this a request that was sent has arrived, or never will
_CANCELLED_S = 900.0  # a batch that is not over so long after it was cancelled is given up
_UPLOADS = 2  # files on their way at a time
_ALONE = 3  # refusals for too many enqueued tokens, with nothing else enqueued, until smaller files are made
_LONG_S = 7 * 86_400.0  # no batch of a part that is worked on is older


class Steps:
    """Takes the steps of all tries.

    views: how each part's batch was found last. token_limit: prompt tokens that may be enqueued; None: not known.
    """

    def __init__(
        self,
        *,
        journal: BatchJournal,
        calls: Calls,
        collect: Callable[[Try, Path, list[Path]], Awaitable[Collected]],
        folder: Path,
        config: BatchConfig,
        run: str,
        provider: str,
        url: str,
        clock: Clock,
        note: Callable[[str], None],
    ) -> None:
        """`folder`: where files lie; `url`: of the API, in a batch's lines."""
        self._journal = journal
        self._calls = calls
        self._api = calls.api
        self._collect = collect
        self._folder = folder
        self._config = config
        self._run = run
        self._provider = provider
        self._url = url
        self._clock = clock
        self._note = note
        self.token_limit = config.enqueued_tokens
        self.views: dict[int, BatchView] = {}
        self.switched: float | None = None  # Unix time until which cancelled batches are waited for
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._enqueued: dict[int, int] = {
            t.part: t.tokens for t in journal.current() if t.phase in ("creating", "created")
        }
        self._less = asyncio.Event()  # fewer tokens are enqueued than before, or nothing is to be enqueued any more
        self._alone: dict[int, int] = {}  # part -> times in a row that it was refused with nothing else enqueued
        self._ours: dict[str, float] = {}  # batches that this process has cancelled, and when
        self._switched = asyncio.Event()

    def path(self, part: int, number: int) -> Path:
        """Return where the file of a try lies."""
        return self._folder / f"part-{part:05d}-try-{number}.jsonl"

    def switch(self, until: float) -> None:
        """Cancel what is under way, wait for it until then, and enqueue nothing more."""
        self.switched = until
        self._switched.set()
        self._less.set()

    async def advance(self, t: Try) -> None:
        """Take the next step of a try that is not over. Raises `End` where there is none."""
        match t.phase:
            case "built":
                await self._upload(t)
            case "uploading":
                await self._find_upload(t)
            case "uploaded":
                await self._create(t)
            case "creating":
                await self._find_batch(t)
            case "created":
                await self._watch(t)
            case "ended":
                await self._take_in(t)

    # To the provider

    async def _upload(self, t: Try) -> None:
        self._see(t, "waiting")
        async with self._uploads:
            if self.switched is not None:
                self._journal.given_up(t, "the deadline is near", self._clock.time())
                return
            path = self.path(t.part, t.number)
            if not path.exists() or path.stat().st_size != t.size:
                self._journal.given_up(t, "its file is gone", self._clock.time())
                return
            self._see(t, "uploading")
            self._journal.uploading(t, self._clock.time())
            file_id = await self._calls.ask(lambda: self._api.upload(path, t.file_name(self._run)))
            if file_id is not None:
                self._journal.uploaded(t, file_id, self._clock.time())

    async def _find_upload(self, t: Try) -> None:
        """Find out whether an upload has come through; else do it again."""
        await self._settled(t)
        file_id = await self._calls.sure(lambda: self._api.find_upload(t.file_name(self._run), t.size))
        if file_id is None:
            await self._upload(t)
        else:
            self._note(f"part {t.part}: its file had arrived as {file_id}")
            self._journal.uploaded(t, file_id, self._clock.time())

    async def _create(self, t: Try) -> None:
        self._see(t, "waiting")
        while self.switched is None and not self._fits(t):
            self._less.clear()
            await self._less.wait()
        if self.switched is not None:
            self._journal.given_up(t, "the deadline is near", self._clock.time())
            return
        self._journal.creating(t, self._clock.time())
        self._enqueued[t.part] = t.tokens
        assert t.file_id is not None
        file_id = t.file_id
        try:
            state = await self._calls.ask(lambda: self._api.create(file_id, self._url, t.metadata(self._run)))
        except Gone:
            self._note(f"part {t.part}: its file {file_id} is gone; uploading it again")
            self._enqueued.pop(t.part, None)
            self._journal.uploading(t, self._clock.time())
            return
        if state is not None:
            self._journal.created(t, state.id, state.created_at, self._clock.time())

    async def _find_batch(self, t: Try) -> None:
        """Find out whether a creation has come through; else do it again."""
        await self._settled(t)
        found = await self._calls.sure(lambda: self._api.find(t.metadata(self._run), since=t.since))
        if not found:
            await self._create(t)
            return
        self._note(f"part {t.part}: its batch had been created as {found[0].id}")
        self._journal.created(t, found[0].id, found[0].created_at, self._clock.time())

    def _fits(self, t: Try) -> bool:
        """Whether there is room for its tokens. What is larger than the limit alone is tried alone."""
        enqueued = sum(tokens for part, tokens in self._enqueued.items() if part != t.part)
        return self.token_limit is None or not enqueued or enqueued + t.tokens <= self.token_limit

    # At the provider

    async def _watch(self, t: Try) -> None:
        """Look at a batch, ever less often, until it is over or given up."""
        if t.creations > 1 + t.rejections:
            await self._cancel_others(t)
        polls = AsyncRetrying(
            retry=retry_if_result(lambda state: not (state is not None and state.over) and not self._hopeless(t)),
            wait=wait_exponential(multiplier=self._config.poll_s, max=self._config.poll_max_s)
            + wait_random(0, self._config.poll_s / 10),
            sleep=lambda seconds: self._pause(t, seconds),
        )
        state: BatchState | None = await polls(self._look, t)
        self._enqueued.pop(t.part, None)
        now = self._clock.time()
        if state is None or not state.over:
            self._note(
                f"part {t.part}: giving up {t.batch_id}, which does not end; {t.requests} requests may be billed twice"
            )
            self._journal.given_up(t, "it did not end", now)
        elif state.status == "failed" and state.output_file_id is None and state.error_file_id is None:
            await self._refused(t, state)
        else:
            self._journal.ended(t, state.status, state.output_file_id, state.error_file_id, now)
        self._less.set()

    async def _look(self, t: Try) -> BatchState | None:
        assert t.batch_id is not None
        batch = t.batch_id
        state = await self._calls.ask(lambda: self._api.retrieve(batch), batch=t)
        if state is None:
            return None
        self._see(t, state.status, state)
        now = self._clock.time()
        overdue = now - (t.created_at or t.since) > self._config.stuck_s
        if not state.over and batch not in self._ours and (overdue or self.switched is not None):
            self._note(f"part {t.part}: cancelling {batch}, {'which is stuck' if overdue else 'the deadline is near'}")
            self._journal.cancelling(t, now)
            self._ours[batch] = now
            state = await self._calls.ask(lambda: self._api.cancel(batch), batch=t) or state
        return state

    async def _pause(self, t: Try, seconds: float) -> None:
        """Wait until the next look, or until everything is to be cancelled."""
        now = self._clock.time()
        if self.switched is not None:
            await self._clock.sleep(max(min(seconds, self.switched - now), 0.0))
            return
        overdue_in = (t.created_at or t.since) + self._config.stuck_s - now
        waiting = asyncio.ensure_future(self._clock.sleep(min(seconds, overdue_in) if overdue_in > 0 else seconds))
        woken = asyncio.ensure_future(self._switched.wait())
        try:
            await asyncio.wait((waiting, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            woken.cancel()

    def _hopeless(self, t: Try) -> bool:
        """Whether a batch that was cancelled has had its time to end."""
        now = self._clock.time()
        if self.switched is not None and now >= self.switched:
            return True
        cancelled = self._ours.get(t.batch_id or "")
        return cancelled is not None and now - cancelled > _CANCELLED_S

    async def _refused(self, t: Try, state: BatchState) -> None:
        """React to a batch that the provider refused as a whole, before any work."""
        now = self._clock.time()
        match rejection.judge(state.problems, t.requests):
            case Rejection.LINES:
                self._journal.ended(t, state.status, None, None, now)
            case Rejection.NEVER:
                self._journal.rejected(t, rejection.words(state.problems), now)  # a resume is to try once more
                raise End(
                    ExitCode.PROVIDER,
                    f"provider {self._provider!r} refuses batch {state.id}: {rejection.words(state.problems)}",
                )
            case Rejection.LATER:
                await self._later(t, rejection.words(state.problems))

    async def _later(self, t: Try, why: str) -> None:
        """Wait until a refused batch may be created again; have smaller ones made where it is the only one."""
        alone = not self._enqueued
        times = self._alone[t.part] = self._alone.get(t.part, 0) + 1 if alone else 0
        if times > _ALONE:
            self.token_limit = t.tokens / 2
            self._note(f"part {t.part}: {t.tokens} tokens are too many for one batch: making smaller ones ({why})")
            self._journal.given_up(t, why, self._clock.time())
            return
        self._journal.rejected(t, why, self._clock.time())
        self._see(t, "waiting")
        if alone:
            await self._clock.sleep(self._config.poll_max_s * 2 ** (times - 1))
        else:
            self._less.clear()
            await self._less.wait()

    # From the provider

    async def _take_in(self, t: Try) -> None:
        """Bring the results of a batch that is over into the checkpoints."""
        self._see(t, "collecting")
        files: list[Path] = []
        if t.status == "failed" and t.output_file_id is None and t.error_file_id is None:
            files.append(await self._wrong_lines(t))
        for kind, file_id in (("output", t.output_file_id), ("errors", t.error_file_id)):
            if file_id is not None:
                files.append(await self._downloaded(t, kind, file_id))
        found = await self._collect(t, self.path(t.part, t.number), files)
        now = self._clock.time()
        self._journal.collected(t, found.spent, found.wasted, found.answered, found.failed, found.left, now)
        for file in (self.path(t.part, t.number), *files):
            file.unlink(missing_ok=True)
        if found.closed is not None:
            raise End(ExitCode.PROVIDER, f"provider {self._provider!r}: {found.closed.reason}")

    async def _wrong_lines(self, t: Try) -> Path:
        assert t.batch_id is not None
        batch = t.batch_id
        state = await self._calls.sure(lambda: self._api.retrieve(batch))
        path = self._folder / f"{t.file_name(self._run)}.refused"
        rejection.write_failures(self.path(t.part, t.number), state.problems, path)
        return path

    async def _downloaded(self, t: Try, kind: str, file_id: str) -> Path:
        path = self._folder / f"{t.file_name(self._run)}.{kind}"
        if not path.exists():
            try:
                await self._calls.sure(lambda: self._api.download(file_id, path))
            except Gone as gone:
                raise End(
                    ExitCode.PROVIDER,
                    f"the results of batch {t.batch_id} of part {t.part} cannot be fetched: {gone}; run "
                    "rowmill cancel, which gives them up, and the next run asks for their rows again, at their price",
                ) from None
        return path

    # What they have in common

    async def _settled(self, t: Try) -> None:
        """Wait until what was sent at the start of this phase has arrived, or never will."""
        left = t.since + SETTLE_S - self._clock.time()
        if left > 0:
            await self._clock.sleep(left)

    async def _cancel_others(self, t: Try) -> None:
        """Cancel batches of the same try that a creation without an answer has left after all."""
        since = t.since
        for state in await self._calls.sure(lambda: self._api.find(t.metadata(self._run), since=since - _LONG_S)):
            if state.id != t.batch_id and not state.over:
                self._note(f"part {t.part}: {state.id} is of the same rows as {t.batch_id}; it is cancelled")
                other = state.id
                await self._calls.sure(lambda other=other: self._api.cancel(other))  # type: ignore[misc]  # bound at once

    def _see(self, t: Try, status: str, state: BatchState | None = None) -> None:
        total = state.total or t.requests if state is not None else t.requests
        completed, failed = (state.completed, state.failed) if state is not None else (0, 0)
        self.views[t.part] = BatchView(t.part, t.number, t.batch_id or "", status, total, completed, failed)
