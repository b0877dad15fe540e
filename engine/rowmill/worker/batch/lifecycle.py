"""The steps of one try of a part, from its file to its results, each journaled before it is taken and after.

A step that may have been taken although nobody knows (an upload or a creation without an answer, or a process that was
killed meanwhile) is looked for at the provider, by the file's name or the batch's metadata, once it must have arrived
there; only then is it taken again. A batch that arrives later still is found while the second one is looked at, and
cancelled (see `polling`). So no part is ever in two batches that go on, wherever a process ends.
"""

import asyncio
from pathlib import Path

from rowmill.core.counts import BatchView
from rowmill.core.errors import ExitCode
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.transport.batch_api import BatchState
from rowmill.worker.batch import rejection
from rowmill.worker.batch.client import BatchClient, End, Gone
from rowmill.worker.batch.files import BatchFiles
from rowmill.worker.batch.polling import BatchPoller
from rowmill.worker.batch.rejection import Rejection
from rowmill.worker.batch.session import NEAR, BatchSession
from rowmill.worker.batch.token_quota import TokenQuota
from rowmill.worker.batch.unconfirmed import UnconfirmedOperations

_UPLOADS = 2  # files on their way at a time
_LOST_FILES = 5  # files of one try that the provider has lost, until there is no use in another one
_ALONE = 3  # refusals for too many enqueued tokens, with nothing else enqueued, until smaller files are made
_USELESS = frozenset({"failed", "cancelled"})  # of two batches of the same rows, the one that is not to be gone on with


class Held(Exception):
    """Nothing more is sent in this session: the try waits for the next one."""


class BatchLifecycle:
    """Takes the steps of all tries.

    session: how far this one goes. quota: what is enqueued. views: how each part's batch was found last. at_hand: parts
    whose results are here and are being taken in.
    """

    def __init__(
        self,
        *,
        journal: BatchJournal,
        client: BatchClient,
        files: BatchFiles,
        folder: Path,
        run: str,
    ) -> None:
        """`folder`: where files lie."""
        self._journal = journal
        self._client = client
        self._api = client.api
        self._files = files
        self._folder = folder
        self._config = client.config
        self._run = run
        self._provider = client.provider
        self._clock = client.clock
        self._note = client.note
        self.session = BatchSession(client.clock)
        self.views: dict[int, BatchView] = {}
        self.at_hand: set[int] = set()
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self.quota = TokenQuota(client.config.enqueued_tokens, journal.current())
        self._unconfirmed = UnconfirmedOperations(client.clock, self.session.began, client.config.poll_max_s)
        self._lost: dict[int, list[str]] = {}  # part -> files of its try that the provider has lost
        self._poller = BatchPoller(journal=journal, client=client, session=self.session, run=run, see=self._see)

    def __repr__(self) -> str:
        parts = ", ".join(f"part {part} {view.status}" for part, view in sorted(self.views.items()))
        return f"<BatchLifecycle {self.session.stage.name}: {parts or 'nothing'}>"

    def path(self, part: int, number: int) -> Path:
        """Return where the file of a try lies."""
        return self._folder / f"part-{part:05d}-try-{number}.jsonl"

    async def advance(self, t: Try) -> None:
        """Take the next step of a try that is not over. Raises `End` where there is none, `Held` if there is later."""
        steps = {
            "built": self._upload,
            "uploading": self._find_upload,
            "uploaded": self._create,
            "creating": self._find_batch,
            "created": self._poll,
            "ended": self._take_in,
        }
        await steps[t.phase](t)

    # To the provider

    async def _upload(self, t: Try) -> None:
        self._see(t, "waiting")
        async with self._uploads:
            if self._closed(t):
                return
            path = self.path(t.part, t.number)
            if not path.exists() or path.stat().st_size != t.size:
                self._journal.given_up(t, "its file is gone", self._clock.time())
                return
            self._see(t, "uploading")
            self._journal.uploading(t, self._clock.time())
            file_id = await self._client.ask(lambda: self._api.upload(path, t.file_name(self._run)), kind="upload")
        if file_id is None:
            self._unconfirmed.unanswered(t.part)
        else:
            self._uploaded(t, file_id)

    async def _find_upload(self, t: Try) -> None:
        """Find out whether an upload has come through; else do it again."""
        await self._unconfirmed.wait(t.part)
        file_id = await self._client.sure(lambda: self._api.find_upload(t.file_name(self._run), t.size))
        if file_id is None or file_id in self._lost.get(t.part, ()):
            await self._upload(t)
        else:
            self._note(f"part {t.part}: its file had arrived as {file_id}")
            self._client.came_through("upload")
            self._uploaded(t, file_id)

    def _uploaded(self, t: Try, file_id: str) -> None:
        self._unconfirmed.confirmed(t.part)
        self._journal.uploaded(t, file_id, self._clock.time())

    async def _create(self, t: Try) -> None:
        self._see(t, "waiting")
        if not await self.quota.room(t) and self._closed(t):
            return
        self._journal.creating(t, self._clock.time())
        assert t.file_id is not None
        file_id, metadata = t.file_id, t.metadata(self._run)
        try:
            state = await self._client.ask(lambda: self._api.create(file_id, self._files.url, metadata), kind="create")
        except Gone as gone:
            self._lose_file(t, file_id, str(gone))
            return
        if state is None:
            self._unconfirmed.unanswered(t.part)
        else:
            self._created(t, state)

    def _lose_file(self, t: Try, file_id: str, why: str) -> None:
        """Have a file uploaded again that the provider has lost."""
        lost = self._lost.setdefault(t.part, [])
        lost.append(file_id)
        self._journal.uploading(t, self._clock.time())
        self.quota.leave(t)
        if len(lost) > _LOST_FILES:
            raise End(ExitCode.PROVIDER, f"provider {self._provider!r} loses each file of part {t.part}: {why}")
        self._note(f"part {t.part}: its file {file_id} is gone; uploading it again")

    async def _find_batch(self, t: Try) -> None:
        """Find out whether a creation has come through; else do it again."""
        await self._unconfirmed.wait(t.part)
        found = await self._client.sure(lambda: self._api.find(t.metadata(self._run), since=t.since))
        if not found:
            self.quota.leave(t)
            await self._create(t)
            return
        state = next((each for each in found if each.status not in _USELESS), found[0])
        self._note(f"part {t.part}: its batch had been created as {state.id}")
        self._client.came_through("create")
        self._created(t, state)

    def _created(self, t: Try, state: BatchState) -> None:
        self._unconfirmed.confirmed(t.part)
        self._lost.pop(t.part, None)
        self._journal.created(t, state.id, state.created_at, self._clock.time())

    def _closed(self, t: Try) -> bool:
        """Whether nothing is sent any more: then its rows are the live API's, or `Held` is raised."""
        if self.session.switched:
            self._journal.given_up(t, NEAR, self._clock.time())
            return True
        if self.session.held:
            raise Held
        return False

    # At the provider

    async def _poll(self, t: Try) -> None:
        state = await self._poller.to_end(t)
        now = self._clock.time()
        if state is None:
            self._note(
                f"part {t.part}: giving up {t.batch_id}, which does not end; {t.requests} requests may be billed twice"
            )
            self._journal.given_up(t, "it did not end", now)
            self.quota.leave(t)
        elif _untouched(state):
            await self._refused(t, state)
        else:
            self._journal.ended(t, state.status, state.output_file_id, state.error_file_id, now)
            self.quota.accepted(t)

    # Batches that the provider refused as a whole, before any work

    async def _refused(self, t: Try, state: BatchState) -> None:
        now = self._clock.time()
        why = rejection.words(state.problems)
        match rejection.classify(state.problems, t.requests):
            case Rejection.LINES:
                self._journal.ended(t, state.status, None, None, now)
                self.quota.accepted(t)
            case Rejection.NEVER:
                earlier = t.since < self.session.began
                self._journal.rejected(t, why, now)
                self.quota.leave(t)
                if earlier:  # since then the cause may have been put right, as for all others of that session
                    self._note(f"part {t.part}: {state.id} was refused, and is created again: {why}")
                    return
                raise End(ExitCode.PROVIDER, f"provider {self._provider!r} refuses batch {state.id}: {why}")
            case Rejection.LATER:
                self._journal.rejected(t, why, now)
                await self._later(t, why)

    async def _later(self, t: Try, why: str) -> None:
        """Wait until a refused batch may be created again; have smaller ones made where it is the only one."""
        times = self.quota.refused(t)
        if times > _ALONE and t.requests == 1:
            raise End(ExitCode.PROVIDER, f"provider {self._provider!r} refuses a batch of one request: {why}")
        self._see(t, "waiting")
        if times > _ALONE:
            self.quota.lower(t.tokens / 2)
            self.quota.accepted(t)
            self._note(f"part {t.part}: {t.tokens} tokens are too many for one batch: making smaller ones ({why})")
            self._journal.given_up(t, why, self._clock.time())
        elif times:
            await self.session.rest(self._config.poll_max_s * 2 ** (times - 1))
        else:
            await self.quota.fewer()

    # From the provider

    async def _take_in(self, t: Try) -> None:
        """Bring the results of a batch that is over into the checkpoints."""
        self._see(t, "collecting")
        if t.status == "cancelled" and not t.cancelling and not self.session.held:
            self._note(f"part {t.part}: {t.batch_id} was cancelled, and not by this run; nothing more is sent")
            self.session.hold()  # before others have its room
            self.quota.close()
        self.quota.leave(t)
        files: list[Path] = []
        if _untouched(t):
            if (wrong := await self._wrong_lines(t)) is None:
                self._journal.given_up(t, "its lines were refused, and nothing says any more which", self._clock.time())
                return
            files.append(wrong)
        for kind, file_id in (("output", t.output_file_id), ("errors", t.error_file_id)):
            if file_id is not None:
                files.append(await self._downloaded(t, kind, file_id))
        self.at_hand.add(t.part)
        try:
            earlier, once = self._journal.earlier(t), self._journal.once(t)
            found = await self._files.collect(t, earlier, self.path(t.part, t.number), files, once)
        finally:
            self.at_hand.discard(t.part)
        now = self._clock.time()
        self._journal.collected(t, found.spent, found.wasted, found.answered, found.failed, found.left, now, found.once)
        for file in (self.path(t.part, t.number), *files):
            file.unlink(missing_ok=True)
        if found.closed is not None:
            raise End(ExitCode.PROVIDER, f"provider {self._provider!r}: {found.closed.reason}")

    async def _wrong_lines(self, t: Try) -> Path | None:
        """Write a file of the lines that were refused; None where they are not to be told any more."""
        assert t.batch_id is not None
        batch, sent = t.batch_id, self.path(t.part, t.number)
        state = await self._client.sure(lambda: self._api.retrieve(batch), t)
        path = self._folder / f"{t.file_name(self._run)}.refused"
        told = sent.exists() and rejection.write_failures(sent, state.problems, path)
        return path if told else None

    async def _downloaded(self, t: Try, kind: str, file_id: str) -> Path:
        path = self._folder / f"{t.file_name(self._run)}.{kind}"
        if not path.exists():
            rows = t.end_row - t.first_row
            try:
                await self._client.sure(lambda: self._api.download(file_id, path, requests=t.requests, rows=rows))
            except Gone as gone:
                raise End(
                    ExitCode.PROVIDER,
                    f"the results of batch {t.batch_id} of part {t.part} cannot be fetched: {gone}; run "
                    "rowmill cancel, which gives them up, and the next run asks for their rows again, at their price",
                ) from None
        return path

    def _see(self, t: Try, status: str, state: BatchState | None = None) -> None:
        total = state.total or t.requests if state is not None else t.requests
        completed, failed = (state.completed, state.failed) if state is not None else (0, 0)
        self.views[t.part] = BatchView(t.part, t.number, t.batch_id or "", status, total, completed, failed)


def _untouched(batch: Try | BatchState) -> bool:
    """Whether a batch that is over was refused as a whole, before any work: there are no results."""
    return batch.status == "failed" and batch.output_file_id is None and batch.error_file_id is None
