"""Simulators for tests, in one process of their own for as long as the tests last.

Each is as new as one that has a process to itself, at a port of its own, and shares nothing with the others; but what
takes a process a third of a second to import is imported once and not for each test.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from typing import NamedTuple

import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.ipc import processes
from rowmill.simulator.server import running

_WAIT_S = 30.0  # for a simulator to come up, or to end: milliseconds, but the machine may be busy


class Order(NamedTuple):
    """What the host is asked for."""

    number: int  # of the simulator
    settings: SimulatorSettings | None  # to start it; None to end it


class SimulatorHost:
    """The process, as the tests see it."""

    def __init__(self) -> None:
        self._child = processes.start(__name__, "tests-simulators")
        self._numbers = count()

    def start(self, settings: SimulatorSettings) -> "HostedSimulator":
        """Start a simulator and wait until it listens. Raises RuntimeError where it cannot."""
        number = next(self._numbers)
        return HostedSimulator(self, number, self._ask(Order(number, settings)))

    def end(self, number: int) -> None:
        """End a simulator and wait for it."""
        self._ask(Order(number, None))

    def _ask(self, order: Order) -> int:
        pipe = self._child.pipe
        pipe.send(order)
        if not pipe.poll(_WAIT_S):
            raise TimeoutError(f"the tests' simulators have not answered within {_WAIT_S:g} s")
        answer = pipe.recv()
        if not isinstance(answer, int):
            raise RuntimeError(answer)  # noqa: TRY004 - it is what went wrong there, in words
        return answer

    def close(self) -> None:
        """End all of it."""
        self._child.pipe.close()
        self._child.process.join(_WAIT_S)
        self._child.process.kill()
        self._child.process.join()


class HostedSimulator:
    """One simulator."""

    def __init__(self, host: SimulatorHost, number: int, port: int) -> None:
        self._host = host
        self._number = number
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        """End it and wait for its end."""
        self._host.end(self._number)


@contextmanager
def host() -> Iterator[SimulatorHost]:
    """Give a host; with the context it ends."""
    found = SimulatorHost()
    try:
        yield found
    finally:
        found.close()


# In the process itself


class _Served(NamedTuple):
    end: asyncio.Event
    task: "asyncio.Task[None]"


async def _serve(pipe: Connection) -> None:
    """Carry out one order after the other until the pipe closes."""
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[Order | None] = asyncio.Queue()

    def read() -> None:
        try:
            orders.put_nowait(pipe.recv())
        except EOFError:
            loop.remove_reader(pipe.fileno())
            orders.put_nowait(None)

    loop.add_reader(pipe.fileno(), read)
    served: dict[int, _Served] = {}
    while (order := await orders.get()) is not None:
        if order.settings is None:
            ended = served.pop(order.number)
            ended.end.set()
            await ended.task
            pipe.send(0)
            continue
        up: asyncio.Future[int] = loop.create_future()
        end = asyncio.Event()
        served[order.number] = _Served(end, loop.create_task(_one(order.settings, up, end)))
        try:
            pipe.send(await up)
        except (OSError, ValueError) as error:
            del served[order.number]
            pipe.send(str(error))


async def _one(settings: SimulatorSettings, up: "asyncio.Future[int]", end: asyncio.Event) -> None:
    try:
        async with running(settings) as port:
            up.set_result(port)
            await end.wait()
    except (OSError, ValueError) as error:
        if up.done():
            raise
        up.set_exception(error)


def main(pipe: Connection) -> int:
    """Be the process."""
    uvloop.run(_serve(pipe))
    return 0
