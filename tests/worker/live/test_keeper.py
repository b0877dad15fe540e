"""Answers that are to be kept for later runs: none is lost at a worker's end."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rowmill.store.cache import kept_replies
from rowmill.worker.live.keeper import Keeper


def test_what_waits_for_a_thread_when_the_worker_ends_is_kept(tmp_path: Path) -> None:
    """As on a machine so busy that the disk has all threads."""
    kept_replies.prepare(tmp_path)
    told: list[str] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = threading.Event()
        loop.run_in_executor(None, busy.wait)
        keeper = Keeper(kept_replies.Replies(tmp_path, 16), on_room=lambda: None, note=told.append)
        keeper.keep(b"k" * 32, b"answer")
        storing = loop.create_task(keeper.flush())
        await asyncio.sleep(0)  # it begins
        await asyncio.sleep(0)  # and what it begins
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)
        loop.call_soon(busy.set)
        await keeper.close()

    asyncio.run(story())
    replies = kept_replies.Replies(tmp_path, 16)
    assert [data for _, data in replies.get([b"k" * 32]).values()] == [b"answer"]
    replies.close()
    assert told == []
