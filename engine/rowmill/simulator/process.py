"""A simulator in a child process, for a parent that runs a loop of its own.

The child belongs to its parent: one pipe joins them, the child reports its port through it and exits when it
closes, however the parent ended. Nothing of the server is imported here, so that the parent stays light.
"""

from contextlib import suppress
from multiprocessing.connection import Connection

from rowmill.core.simulator import SimulatorSettings
from rowmill.ipc import processes
from rowmill.simulator.settings import check

_EXIT_S = 3.0  # how long a child may take to exit once its pipe closed, before it is killed


class SimulatorError(RuntimeError):
    """The child could not serve; the text says why."""


class SimulatorProcess:
    """`start()` returns at once, so that start-ups overlap; `wait_ready()` says where the simulator listens.

    Raises ValueError for settings that cannot be, before any process is started.
    """

    def __init__(self, settings: SimulatorSettings, port: int = 0) -> None:
        check(settings)
        self._told = (settings, port)
        self._child: processes.Child | None = None
        self._port: int | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None before `start()`."""
        return None if self._child is None else self._child.process.pid

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`, known once `wait_ready()` has returned."""
        if self._port is None:
            raise SimulatorError("the simulator is not ready yet: call wait_ready() first")
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Start the child and return without waiting for it."""
        self._child = processes.start("rowmill.simulator.process", "rowmill-simulator")
        with suppress(OSError):  # it died at once: `wait_ready` says so
            self._child.pipe.send(self._told)

    def wait_ready(self, timeout: float = 10.0) -> int:
        """Wait up to `timeout` seconds for the port. Raises SimulatorError with the reason, or TimeoutError."""
        assert self._child is not None, "start() comes first"
        if self._port is None:
            try:
                if not self._child.pipe.poll(timeout):
                    raise TimeoutError(f"the simulator was not ready within {timeout:g} s")
                told = self._child.pipe.recv()
            except (EOFError, ConnectionResetError):
                raise SimulatorError("the simulator's process ended before it was ready") from None
            if not isinstance(told, int):
                raise SimulatorError(f"the simulator cannot serve: {told}")
            self._port = told
        return self._port

    def stop(self) -> None:
        """End the child and wait for it. May be called at any time after `start()`, and again."""
        if self._child is None:
            return
        self._child.pipe.close()
        self._child.process.join(_EXIT_S)
        if self._child.process.is_alive():
            self._child.process.kill()
            self._child.process.join()


def main(pipe: Connection) -> int:
    """Be the child: serve until the pipe closes."""
    import asyncio

    from rowmill.simulator.server import serve

    processes.stay_awake()  # as a server of somebody else would
    try:
        settings, port = pipe.recv()
    except EOFError:  # the parent was killed at once
        return 0

    async def until_closed() -> None:
        closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), closed.set)
        await closed.wait()
        asyncio.get_running_loop().remove_reader(pipe.fileno())

    try:
        serve(settings, port=port, on_ready=pipe.send, stop=until_closed)
    except (OSError, ValueError) as error:
        with suppress(OSError):  # a parent that is gone asks no more
            pipe.send(str(error))
        return 1
    return 0
