"""Listening: a simulator on a loopback socket, until it is told to stop."""

import asyncio
import ipaddress
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import uvloop
from aiohttp import web

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.app import Simulator

# Connections that wait to be accepted. Bulk clients open a thousand at once; the kernel caps this at somaxconn.
_BACKLOG = 4096
# At a stop, replies that are on their way get this long. Hung requests are released before.
_GRACE_S = 0.5


async def until_signalled() -> None:
    """Wait for the first SIGINT or SIGTERM. Only for a process's main thread."""
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    try:
        await signalled.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def serve(
    settings: SimulatorSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[int], None],
    stop: Callable[[], Awaitable[object]] = until_signalled,
) -> None:
    """Serve on a uvloop of its own until what `stop()` returns, awaited in that loop, is done.

    `on_ready` is told the port once connections are accepted. Raises ValueError for a host that is not loopback or
    settings that cannot be, OSError where the port is taken.
    """

    async def run() -> None:
        async with running(settings, host=host, port=port) as bound:
            on_ready(bound)
            await stop()

    uvloop.run(run())


@asynccontextmanager
async def running(settings: SimulatorSettings, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve in the running loop for as long as the context is open; yields the port. Raises as `serve` does."""
    simulator = Simulator(settings)
    listener = _listener(host, port)
    _raise_descriptor_limit()
    server = web.Server(simulator.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_GRACE_S)
    try:
        await simulator.open()
        await runner.setup()
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        yield listener.getsockname()[1]
    finally:
        simulator.release()
        await runner.cleanup()
        await simulator.close()
        listener.close()  # where serving had not begun


def _listener(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise ValueError(f"the simulator listens on loopback only (127.0.0.1, ::1 or localhost), not on {host!r}")
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET  # noqa: PLR2004 - the protocol's own number
    return socket.create_server((address, port), family=family, backlog=_BACKLOG)


def _raise_descriptor_limit() -> None:
    # A connection is a descriptor, and the usual soft limit of 1,024 is less than a bulk client opens.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
