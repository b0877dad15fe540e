"""Asking the provider about files and batches: what may be asked again is, and what no asking helps ends the run."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rowmill.core.config.sections import BatchConfig
from rowmill.core.errors import ExitCode
from rowmill.store.batch_journal import Try
from rowmill.transport import dead_ends, faults
from rowmill.transport.batch_api import BatchApi, BatchTrouble

_SILENT_S = 60.0  # a provider that has never answered is given up after this,
_LOST_S = 6 * 3600.0  # and one that has, after this
# Where nobody was ever there, or something else is: a server that starts gets the first. As for live requests.
_DEAD_END_S = {"nothing": 3.0, "another": 2.0, "broken": 6.0}
_LOOK_S = 0.7  # between two looks whether somebody is there

_T = TypeVar("_T")


class Clock:
    """The time, and waiting for it. Tests have one of their own, whose time jumps."""

    def time(self) -> float:
        """Return the Unix time."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class End(Exception):
    """Why the run cannot go on by batches."""

    def __init__(self, exit_code: int, reason: str) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Gone(Exception):
    """The provider does not know a file any more."""


class BatchClient:
    """The client of one provider: what all calls to it have in common, and what those who call go by."""

    def __init__(
        self,
        api: BatchApi,
        *,
        provider: str,
        config: BatchConfig,
        clock: Clock,
        note: Callable[[str], None],
        known: bool = False,
    ) -> None:
        """`known`: it has answered in an earlier session of the run."""
        self.api = api
        self.provider = provider
        self.config = config
        self.clock = clock
        self.note = note
        self._answered = False  # it has, in this session
        self._known = known
        # Since when, by kind: a provider that lists batches and creates none must not look like one that is well.
        self._trouble_since: dict[str, float] = {}

    def __repr__(self) -> str:
        trouble = f"trouble with {sorted(self._trouble_since)}" if self._trouble_since else "no trouble"
        return f"<BatchClient {self.provider}: {trouble}{'' if self._answered else ', never answered'}>"

    async def ask(
        self,
        call: Callable[[], Awaitable[_T]],
        batch: Try | None = None,
        *,
        kind: str = "",
        refusable: bool = False,
    ) -> _T | None:
        """Ask once. None where there was no answer: nobody knows what came of it.

        `batch`: the try whose batch the call is about; of any other call the subject is a file, and `Gone` is raised
        where there is none. `kind`: of call, where that can be in trouble by itself. `refusable`: a refusal of this one
        call is no more than no answer. Raises `End` where asking again is of no use.
        """
        began = self.clock.time()
        try:
            answer = await call()
        except BatchTrouble as met:
            trouble = met
            if not (self._answered or self._known):
                trouble = await self._find_out(trouble, began)
            fault = trouble.failure.fault
            if not (refusable and fault.scope == "row" and not fault.retryable):
                self._note_trouble(trouble, batch, kind)
            return None
        self._answered = True
        self._trouble_since.pop(kind, None)
        return answer

    async def _find_out(self, trouble: BatchTrouble, since: float) -> BatchTrouble:
        """Wait for who was never there yet, and return the trouble as it is known then; `End` within seconds."""
        while dead_end := faults.dead_end(failure := trouble.failure):
            if self.clock.time() - since >= _DEAD_END_S[dead_end]:
                reason = dead_ends.told(failure, self.api.url)
                raise End(ExitCode.PROVIDER, f"provider {self.provider!r}: {reason}")
            await self.clock.sleep(_LOOK_S)
            try:
                await self.api.reach()
            except BatchTrouble as latest:
                trouble = latest
            else:
                self._answered = True
                break
        return trouble

    async def sure(self, call: Callable[[], Awaitable[_T]], batch: Try | None = None) -> _T:
        """Ask until there is an answer: for what can be asked twice without harm. Raises as `ask` does."""
        pause = self.config.poll_s
        answers: list[_T] = []

        async def keep() -> bool:
            answers.append(await call())
            return True

        while not await self.ask(keep, batch):
            await self.clock.sleep(pause)
            pause = min(2 * pause, self.config.poll_max_s)
        return answers[0]

    def came_through(self, kind: str) -> None:
        """Learn that a call of this kind has come through though it had no answer."""
        self._trouble_since.pop(kind, None)

    def _note_trouble(self, trouble: BatchTrouble, batch: Try | None, kind: str) -> None:
        failure = trouble.failure
        if trouble.gone and batch is None:
            raise Gone(failure.message)
        if trouble.gone and batch is not None:
            raise End(
                ExitCode.PROVIDER,
                f"provider {self.provider!r} does not know batch {batch.batch_id} of part {batch.part}: if its key is "
                "of another project, put the right one in place; if the batch is really gone, run rowmill cancel, "
                "which gives it up, and the next run asks for its rows again",
            )
        if failure.fault.scope == "provider" or not failure.fault.retryable:
            named = f"provider {self.provider!r}"
            raise End(ExitCode.PROVIDER, failure.message if named in failure.message else f"{named}: {failure.message}")
        now = self.clock.time()
        if kind not in self._trouble_since:
            self._trouble_since[kind] = now
            self.note(f"provider {self.provider!r}: {failure.reason}; trying again")
        lasted = now - self._trouble_since[kind]
        if lasted > (_LOST_S if self._answered else _SILENT_S):
            raise End(ExitCode.PROVIDER, f"provider {self.provider!r}: no answer for {lasted:.0f} s: {failure.reason}")
