"""Calls that are awaited: the same work in a thread of its own, so that the event loop goes on meanwhile.

Cancelling the task interrupts the run as a first Ctrl-C does: what is in flight comes home and is kept. The task is
cancelled once that is done; cancelled a second time the run stops at once. Rows may come from the program's own async
iterables, which are gone through in its loop.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from rowmill.core.errors import InputError
from rowmill.core.interrupts import Interrupts, interrupted_by, of_this_thread

T = TypeVar("T")

_AWAKE_S = 0.25  # how soon a loop that has nothing to do sees what a signal has left it
_LOOK_S = 0.1  # how soon one that waits for rows sees that it has been interrupted
_AT_ONCE = 500  # rows that are taken of an async iterable on one way into its loop


class _Ended(NamedTuple):
    """How the work ended: not as a future's own exception, for a `KeyboardInterrupt` there would end the loop."""

    result: Any
    error: BaseException | None


async def in_thread(work: Callable[[], T]) -> T:
    """Do the work in a thread, and return or raise what it does."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Ended] = loop.create_future()
    interrupts = Interrupts()

    def settle(ended: _Ended) -> None:
        if not done.done():
            done.set_result(ended)

    def run() -> None:
        try:
            with interrupted_by(interrupts):
                ended = _Ended(work(), None)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            ended = _Ended(None, error)
        with suppress(RuntimeError):  # a loop that was closed meanwhile: nobody is given the answers, and they stay
            loop.call_soon_threadsafe(settle, ended)

    context = contextvars.copy_context()
    # A daemon: a program that ends is not held up. The workers drain when the supervisor is gone.
    threading.Thread(target=context.run, args=(run,), name="rowmill", daemon=True).start()
    try:
        while not done.done():
            # A notebook's kernel cancels an interrupted cell by what its loop is to do next, without waking it.
            await asyncio.wait([done], timeout=_AWAKE_S)
        ended = done.result()
    except asyncio.CancelledError:
        interrupts.send()
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError:
                interrupts.send()
        why = done.result().error
        kept = "the rows were all done" if interrupts.left is None else interrupts.left.where
        raise asyncio.CancelledError(kept if why is None else str(why)) from None
    if interrupts.left is not None:
        # No daemon: a program that ends now waits for it.
        threading.Thread(target=interrupts.left.remove, name="rowmill-remove").start()
    if isinstance(ended.error, KeyboardInterrupt):
        raise asyncio.CancelledError(str(ended.error))
    if ended.error is not None:
        raise ended.error
    result: T = ended.result
    return result


def is_async(rows: Any) -> bool:
    """Tell whether rows have to be awaited."""
    return isinstance(rows, AsyncIterable)


def through(rows: AsyncIterable[Any], loop: asyncio.AbstractEventLoop, most: int | None = None) -> Iterator[Any]:
    """Go through rows of the loop's, from another thread. most: so many at most are wanted."""
    iterator = aiter(rows)
    interrupts = of_this_thread()
    try:
        while True:
            future = asyncio.run_coroutine_threadsafe(_some(iterator, most), loop)
            while True:
                try:
                    some = future.result(_LOOK_S)
                    break
                except TimeoutError:
                    if interrupts is not None and interrupts.sent:
                        future.cancel()
                        interrupts.check()
            yield from some.rows
            if some.error is not None:
                raise some.error
            if some.last:
                return
    finally:  # what it has open is closed in the loop that it is of
        asyncio.run_coroutine_threadsafe(_closed(iterator), loop)


def alone(rows: AsyncIterable[Any], most: int | None = None) -> Iterator[Any]:
    """Go through rows in a loop of their own. Raises `InputError` where one is running here, whose they must be."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise InputError("rowmill.map: rows of an async iterable inside of a running loop: await rowmill.amap(...)")
    return _alone(rows, most)


def _alone(rows: AsyncIterable[Any], most: int | None) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        iterator = aiter(rows)
        try:
            while True:
                some = runner.run(_some(iterator, most))
                yield from some.rows
                if some.error is not None:
                    raise some.error
                if some.last:
                    return
        finally:
            runner.run(_closed(iterator))


async def _closed(iterator: AsyncIterator[Any]) -> None:
    if (close := getattr(iterator, "aclose", None)) is not None:
        with suppress(Exception):  # the rows are there
            await close()


class _Some(NamedTuple):
    """Some rows that were taken at once."""

    rows: list[Any]
    last: bool
    error: Exception | None = None  # that came behind them


async def _some(iterator: AsyncIterator[Any], most: int | None) -> _Some:
    rows: list[Any] = []
    try:
        while len(rows) < min(_AT_ONCE, most or _AT_ONCE):
            rows.append(await anext(iterator))
    except StopAsyncIteration:
        return _Some(rows, last=True)
    except Exception as error:  # noqa: BLE001 - raised in the thread that goes through them
        return _Some(rows, last=True, error=error)
    return _Some(rows, last=False)
