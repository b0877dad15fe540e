"""The addresses of a host: looked up again as time goes on, and taken in turn, so that connections are spread."""

import asyncio
import socket
from time import monotonic
from typing import Any

from rowmill.core.wire import Part
from rowmill.transport.http1 import Unreachable

_FRESH_S = 30.0  # what a name server said is good for so long; where a server moves, new connections go there then
AddressInfo = tuple[Any, ...]  # as getaddrinfo gives them


class Addresses:
    """The addresses of one host and port."""

    def __init__(self, host: str, port: int, part: Part = "name") -> None:
        """`part`: of the way, what fails where the name is not known."""
        self._host, self._port, self.part = host, port, part
        self._found: list[AddressInfo] = []
        self._silent: set[AddressInfo] = set()  # of them, since they were asked for
        self._fresh_until = 0.0
        self._turn = 0
        self._asking: asyncio.Future[list[AddressInfo]] | None = None

    async def next(self) -> list[AddressInfo]:
        """Return all addresses, each time another one first. Raises `Unreachable` where the name is not known."""
        if monotonic() >= self._fresh_until:
            await self._ask()
        first = [each for each in self._found if each not in self._silent] or self._found
        self._turn += 1
        turn = self._turn % len(first)
        return first[turn:] + first[:turn] + [each for each in self._found if each not in first]

    def passed_over(self, address: AddressInfo) -> None:
        """Let others go before this one for a while: it was asked first, and had not answered when another one did."""
        self._silent.add(address)

    def doubt(self) -> None:
        """Ask again next time: nothing was there."""
        self._fresh_until = 0.0

    @property
    def are_asked_for(self) -> bool:
        """Whether the machine's resolver has yet to answer."""
        return self._asking is not None and not self._asking.done()

    async def _ask(self) -> None:
        """Ask the machine's resolver, once for all that wait."""
        if self._asking is None or self._asking.done():
            loop = asyncio.get_running_loop()
            self._asking = asyncio.ensure_future(loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._asking.add_done_callback(_hear)
        try:
            found = await asyncio.shield(self._asking)  # one that gives up leaves the answer to the others
        except (OSError, UnicodeError) as error:
            if not self._found:
                raise Unreachable(f"the name {self._host!r} is not known: {error}", self.part) from None
        else:
            self._found = list(dict.fromkeys(found))
            self._silent.clear()
        self._fresh_until = monotonic() + _FRESH_S  # where it was before is more than nothing


def _hear(asked: "asyncio.Future[list[AddressInfo]]") -> None:
    """Take note of a failure that nobody waits for any more, which asyncio would tell as a defect."""
    if not asked.cancelled():
        asked.exception()
