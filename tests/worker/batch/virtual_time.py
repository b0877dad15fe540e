"""An event loop whose time jumps: what waits for hours is over in a moment, in the right order.

Where nothing can run and no thread is at work, the clock goes to the next timer. Where there is no timer either,
everything waits for ever, and the test fails at once.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from rowmill.worker.batch.client import Clock

T = TypeVar("T")
START = 1_700_000_000.0


class WaitsForever(AssertionError):
    """Nothing can ever wake what waits."""


class _Selector(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads:
            return super().select(None)
        if timeout is None:
            raise WaitsForever
        self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        self.threads = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]  # the types of arguments do not matter here
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._count_down)
        return future

    async def shutdown_default_executor(self) -> None:
        self.threads += 1
        await super().shutdown_default_executor()

    def _count_down(self, _: object) -> None:
        self.threads -= 1


class VirtualClock(Clock):
    """The Unix time of such a loop. One clock may see several loops, one after the other."""

    def __init__(self) -> None:
        self._before = START
        self._loop: VirtualLoop | None = None

    def time(self) -> float:
        return self._before + (0.0 if self._loop is None else self._loop.now)

    def pass_by(self, seconds: float) -> None:
        """Let time go by between two loops."""
        self._before += seconds

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        loop = self._loop = VirtualLoop()
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                return runner.run(story)
        finally:
            self._before += loop.now
            self._loop = None
