"""Simulators for tests, in one process of their own for as long as the tests last.

Each is as new as one that has a process to itself, at a port of its own, and shares nothing with the others; but what
takes a process a third of a second to import is imported once and not for each test.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import inf
from multiprocessing.connection import Connection
from typing import NamedTuple

import uvloop
from aiohttp import web

from rowmill.core.simulator import SimulatorSettings
from rowmill.ipc import processes
from rowmill.simulator import server
from rowmill.simulator.app import Simulator
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.replies import Completion
from rowmill.simulator.routes import Route

_WAIT_S = 30.0  # for a simulator to come up, or to end: milliseconds, but the machine may be busy


class Order(NamedTuple):
    """What the host is asked for."""

    number: int  # of the simulator
    settings: SimulatorSettings | None = None  # to start it
    answers: float | None = None  # requests from its first one on that it answers; those behind them wait
    kept: str | None = None  # a pattern of what waits of the Batch API, as "GET /v1/batches/.*"; "": nothing
    # None of all: end


class _Patient(Simulator):
    """A simulator that has requests wait for as long as a test wants: seen and counted, and not answered yet."""

    latest: "_Patient"

    def __init__(self, settings: SimulatorSettings) -> None:
        super().__init__(settings)
        self._answers = inf
        self._kept = ""
        self._more = asyncio.Event()
        _Patient.latest = self

    def answer(self, requests: float) -> None:
        self._answers = requests
        self._look_again()

    def keep(self, kept: str) -> None:
        self._kept = kept
        self._look_again()

    def _look_again(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    async def _keep(self, provider: SimulatedProvider, what: str, request: web.BaseRequest) -> web.StreamResponse:
        while self._kept and re.fullmatch(self._kept, f"{request.method} {request.path_qs}"):
            await self._more.wait()
        return await super()._keep(provider, what, request)

    async def _produce(self, provider: SimulatedProvider, route: Route, completion: Completion) -> None:
        number = self._total.requests  # nothing was awaited since it was counted
        while number > self._answers:
            await self._more.wait()
        await super()._produce(provider, route, completion)


class SimulatorHost:
    """The process, as the tests see it."""

    def __init__(self) -> None:
        self._child = processes.start(__name__, "tests-simulators")
        self._numbers = count()

    def start(self, settings: SimulatorSettings) -> "HostedSimulator":
        """Start a simulator and wait until it listens. Raises RuntimeError where it cannot."""
        number = next(self._numbers)
        return HostedSimulator(self, number, self._ask(Order(number, settings)))

    def hold(self, number: int, answers: float) -> None:
        """Have a simulator answer so many requests from its first one on, and the others once it may."""
        self._ask(Order(number, answers=answers))

    def keep(self, number: int, kept: str) -> None:
        """Have a simulator keep what matches of the Batch API waiting, until it is told another pattern."""
        self._ask(Order(number, kept=kept))

    def end(self, number: int) -> None:
        """End a simulator and wait for it."""
        self._ask(Order(number))

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

    def hold(self, answers: float = inf) -> None:
        """Answer so many requests from the first one on: a run is not over before a test has done what it is about."""
        self._host.hold(self._number, answers)

    def keep(self, kept: str = "") -> None:
        """Keep what matches of the Batch API waiting, "METHOD path?query"; the run comes no further meanwhile."""
        self._host.keep(self._number, kept)

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
    simulator: _Patient
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
        if order.answers is not None:
            served[order.number].simulator.answer(order.answers)
            pipe.send(0)
            continue
        if order.kept is not None:
            served[order.number].simulator.keep(order.kept)
            pipe.send(0)
            continue
        if order.settings is None:
            ended = served.pop(order.number)
            ended.end.set()
            await ended.task
            pipe.send(0)
            continue
        up: asyncio.Future[int] = loop.create_future()
        end = asyncio.Event()
        task = loop.create_task(_one(order.settings, up, end))
        try:
            port = await up
        except (OSError, ValueError) as error:
            pipe.send(str(error))
        else:
            served[order.number] = _Served(_Patient.latest, end, task)
            pipe.send(port)


async def _one(settings: SimulatorSettings, up: "asyncio.Future[int]", end: asyncio.Event) -> None:
    try:
        async with server.running(settings) as port:
            up.set_result(port)
            await end.wait()
    except (OSError, ValueError) as error:
        if up.done():
            raise
        up.set_exception(error)


def main(pipe: Connection) -> int:
    """Be the process."""
    server.Simulator = _Patient  # type: ignore[attr-defined]  # what `running` makes
    uvloop.run(_serve(pipe))
    return 0
