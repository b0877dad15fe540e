"""What is awaited: the loop goes on meanwhile, a cancel interrupts the work once and the process lives on."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest

from rowmill.core.errors import InputError, ProviderError
from rowmill.core.interrupts import Left, of_this_thread
from rowmill.interface.python import awaited

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("MARK", default="none")


class Work:
    """Stands for a run: it goes on until it is interrupted so often."""

    def __init__(self, until: int = 1) -> None:
        self.begun = threading.Event()
        self.heard = 0
        self._until = until
        self._enough = threading.Event()
        self.once = threading.Event()

    def __call__(self) -> str:
        interrupts = of_this_thread()
        assert interrupts is not None
        with interrupts.noted(self._hear):
            self.begun.set()
            assert self._enough.wait(30)
        raise KeyboardInterrupt("3 rows are done and kept")

    def _hear(self) -> None:
        self.heard += 1
        self.once.set()
        if self.heard >= self._until:
            self._enough.set()


async def begun(work: Work) -> "asyncio.Task[str]":
    task = asyncio.create_task(awaited.in_thread(work))
    await asyncio.to_thread(work.begun.wait, 30)
    return task


def test_the_loop_goes_on_meanwhile_and_the_result_comes_back() -> None:
    go = threading.Event()

    def work() -> tuple[str, bool]:
        assert go.wait(30), "the loop does not go on"
        return MARK.get(), threading.current_thread() is threading.main_thread()

    async def main() -> tuple[str, bool]:
        MARK.set("of the caller")
        task = asyncio.create_task(awaited.in_thread(work))
        await asyncio.sleep(0)
        go.set()
        return await task

    assert asyncio.run(main()) == ("of the caller", False)


@pytest.mark.parametrize("error", [ProviderError("no credit"), KeyError("a")])
def test_what_the_work_raises_is_raised(error: Exception) -> None:
    def work() -> None:
        raise error

    async def main() -> None:
        await awaited.in_thread(work)

    with pytest.raises(type(error)) as raised:
        asyncio.run(main())
    assert raised.value is error


def test_a_cancel_waits_until_the_work_has_come_home_and_says_what_is_kept() -> None:
    async def main() -> None:
        work = Work()
        task = await begun(work)
        task.cancel()
        with pytest.raises(asyncio.CancelledError, match="3 rows are done and kept"):
            await task
        assert (work.heard, task.cancelled()) == (1, True)

    asyncio.run(main())


def test_a_second_cancel_is_a_second_interrupt() -> None:
    async def main() -> None:
        work = Work(until=2)
        task = await begun(work)
        task.cancel()
        await asyncio.to_thread(work.once.wait, 30)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.heard == 2

    asyncio.run(main())


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_is_left_stays_where_the_cancel_comes_when_all_is_done(cancelled: bool) -> None:
    """Between the end of the work and the loop's next turn, in which its result would have been taken."""
    ended, removed = threading.Event(), threading.Event()

    def work() -> str:
        interrupts = of_this_thread()
        assert interrupts is not None
        interrupts.left = Left(removed.set, "all rows are in the place")
        ended.set()
        return "the result"

    async def main() -> None:
        task = asyncio.create_task(awaited.in_thread(work))
        await asyncio.sleep(0)  # it starts the thread
        assert ended.wait(30)  # the loop stands meanwhile
        if not cancelled:
            assert await task == "the result"
            return
        task.cancel()
        with pytest.raises(asyncio.CancelledError, match="all rows are in the place"):
            await task

    before = set(threading.enumerate())
    asyncio.run(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert removed.is_set() != cancelled


def test_a_timeout_is_a_timeout_and_siblings_of_a_group_come_home() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await awaited.in_thread(Work())
        works = [Work(), Work()]

        def fail() -> None:
            assert all(work.begun.wait(30) for work in works)
            raise ProviderError("no credit")

        async def group() -> None:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(awaited.in_thread(work))
                group.create_task(awaited.in_thread(fail))

        with pytest.raises(ExceptionGroup):
            await group()
        assert [work.heard for work in works] == [1, 1]

    asyncio.run(main())


# Rows of async iterables


async def numbers(count: int, error: Exception | None = None) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number
    if error is not None:
        raise error


@pytest.mark.parametrize("count", [0, 1, 499, 500, 1001])
def test_async_rows_come_all_and_in_order(count: int) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await awaited.in_thread(lambda: list(awaited.through(numbers(count), loop)))

    assert asyncio.run(main()) == list(range(count)) == list(awaited.alone(numbers(count)))


def test_what_async_rows_raise_comes_behind_the_rows_before_it() -> None:
    seen: list[int] = []
    with pytest.raises(KeyError):
        seen.extend(awaited.alone(numbers(3, KeyError("a"))))
    taken: list[int] = []

    def take(loop: asyncio.AbstractEventLoop) -> None:
        for each in awaited.through(numbers(3, KeyError("a")), loop):
            taken.append(each)  # noqa: PERF402 - what came before the error is looked at

    async def main() -> None:
        await awaited.in_thread(partial(take, asyncio.get_running_loop()))

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert taken == [0, 1, 2]


def test_no_more_async_rows_are_taken_than_are_wanted() -> None:
    taken: list[int] = []

    async def endless() -> AsyncIterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    rows = awaited.alone(endless(), most=3)
    assert [next(rows) for _ in range(3)] == [0, 1, 2]
    assert len(taken) == 3


def test_async_rows_that_never_come_do_not_hold_up_a_cancel() -> None:
    async def never() -> AsyncIterator[int]:
        yield 1
        waiting.set()
        await asyncio.Event().wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(awaited.in_thread(lambda: list(awaited.through(never(), loop))))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError, match="nothing was asked yet"):
            await task

    waiting = asyncio.Event()
    asyncio.run(main())


def test_async_rows_inside_of_a_running_loop_are_told_to_be_awaited() -> None:
    async def main() -> None:
        awaited.alone(numbers(1))

    with pytest.raises(InputError, match=r"await rowmill\.amap"):
        asyncio.run(main())
