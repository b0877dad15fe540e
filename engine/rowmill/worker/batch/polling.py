"""A batch at the provider: looked at until it is over, cancelled where it is stuck or the deadline is near.

A batch that was created without an answer may turn up late, when its rows are in another one already. Where that can
be, it is looked for beside the other one, and cancelled.
"""

from collections.abc import Callable
from contextlib import suppress

from tenacity import AsyncRetrying, retry_if_result, wait_exponential, wait_random

from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.transport.batch_api import BatchState
from rowmill.worker.batch.client import BatchClient, Gone
from rowmill.worker.batch.session import BatchSession

_LATE_S = 600.0  # so long another batch of the same rows is looked for, where there might be one
_LONG_S = 7 * 86_400.0  # no batch of a part that is worked on is older
_CANCELLED_S = 900.0  # a batch that is not over so long after it was cancelled is given up


class BatchPoller:
    """Looks at all batches of a run."""

    def __init__(
        self,
        *,
        journal: BatchJournal,
        client: BatchClient,
        session: BatchSession,
        run: str,
        see: Callable[[Try, str, BatchState], None],
    ) -> None:
        """`see` is told how each batch is found."""
        self._journal = journal
        self._client = client
        self._api = client.api
        self._session = session
        self._config = client.config
        self._run = run
        self._clock = client.clock
        self._note = client.note
        self._see = see
        self._cancelled: dict[str, float] = {}  # batches that this process has cancelled -> when
        self._sole: set[str] = set()  # batches beside which there was none of the same rows

    def __repr__(self) -> str:
        return f"<BatchPoller cancelled {sorted(self._cancelled)}, sole {sorted(self._sole)}>"

    async def to_end(self, t: Try) -> BatchState | None:
        """Look at a batch, ever less often, until it is over. None where it is given up."""
        polls = AsyncRetrying(
            retry=retry_if_result(lambda state: not (state is not None and state.over) and not self._hopeless(t)),
            wait=wait_exponential(multiplier=self._config.poll_s, max=self._config.poll_max_s)
            + wait_random(0, self._config.poll_s / 10),
            sleep=lambda seconds: self._pause(t, seconds),
        )
        state: BatchState | None = await polls(self._look, t)
        return state if state is not None and state.over else None

    async def _look(self, t: Try) -> BatchState | None:
        assert t.batch_id is not None
        batch = t.batch_id
        if t.creations > 1 + t.rejections and (batch not in self._sole or self._clock.time() - t.since < _LATE_S):
            await self._cancel_others(t)
        state = await self._client.ask(lambda: self._api.retrieve(batch), t)
        if state is None:
            return None
        self._see(t, state.status, state)
        now = self._clock.time()
        overdue = self._stuck_at(t) <= now
        if state.over or not (overdue or self._session.switched):
            return state
        if batch not in self._cancelled:
            self._note(f"part {t.part}: cancelling {batch}, {'which is stuck' if overdue else 'its time is up'}")
            self._journal.cancelling(t, now)
            self._cancelled[batch] = now
        elif state.status == "cancelling":
            return state
        # It may have had no answer, or be refused by a batch that is about to end: the next look tells.
        return await self._cancel(batch, t) or state

    async def _pause(self, t: Try, seconds: float) -> None:
        """Wait until the next look, or until everything is to be cancelled."""
        now = self._clock.time()
        if self._session.switched:
            left = self._session.look_until - now
            await self._clock.sleep(max(min(seconds, left, max(self._config.poll_s, left / 4)), 0.0))
            return
        overdue_in = self._stuck_at(t) - now
        await self._session.rest(min(seconds, overdue_in) if overdue_in > 0 else seconds)

    def _stuck_at(self, t: Try) -> float:
        return (t.created_at or t.since) + self._config.stuck_s

    def _hopeless(self, t: Try) -> bool:
        """Whether a batch that was cancelled has had its time to end."""
        now = self._clock.time()
        if now >= self._session.look_until:
            return True
        cancelled = self._cancelled.get(t.batch_id or "")
        return cancelled is not None and now - cancelled > _CANCELLED_S

    async def _cancel_others(self, t: Try) -> None:
        assert t.batch_id is not None
        # Of any try: a late one may be older than a refusal, after which the metadata are others.
        of_part = {key: value for key, value in t.metadata(self._run).items() if key != "rowmill_try"}
        found = await self._client.ask(lambda: self._api.find(of_part, since=t.since - _LONG_S))
        others = [state for state in found or () if state.id != t.batch_id and not state.over]
        for state in others:
            if state.status != "cancelling":
                self._note(f"part {t.part}: {state.id} is of the same rows as {t.batch_id}; it is cancelled")
                with suppress(Gone):
                    await self._cancel(state.id)
        if found is not None and not others:
            self._sole.add(t.batch_id)

    async def _cancel(self, batch_id: str, t: Try | None = None) -> BatchState | None:
        """Cancel a batch; `t`: of this try, which it must not be gone for. None where there was no answer."""
        return await self._client.ask(lambda: self._api.cancel(batch_id), t, refusable=True)
