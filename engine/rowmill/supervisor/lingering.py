"""What may come after the end of a run, unless somebody wants the command to be over."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rowmill.ipc import processes


@contextmanager
def lingering() -> Iterator[Callable[[float], None]]:
    """Give what waits for so many seconds. A signal that would have ended the run ends that, and nothing else.

    So it is from when the context is open on: one that comes before the waiting has begun leaves none of it.
    """
    signals: queue.SimpleQueue[Any] = queue.SimpleQueue()  # an event's lock may be held when a handler is called

    def wait(seconds: float) -> None:
        with suppress(queue.Empty):
            signals.get(timeout=seconds)

    with processes.signals_noted(signals.put):
        yield wait
