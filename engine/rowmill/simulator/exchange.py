"""The last station of a request, and the only one that sends: the answer, or as much of it, and as, a fault says."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from rowmill.simulator.faults import Fault, FaultDelivery

JSON = "application/json"
DRIP_S = 1.0  # seconds between two bytes of a dripping reply
_PIECE = 64 * 1024  # bytes of a file sent at a time
# SO_LINGER with a time of 0: closing sends RST and drops what is unsent, as a crashed server or a middlebox would.
_LINGER_0 = struct.pack("ii", 1, 0)


class Exchange:
    """One request and how far its answer got."""

    def __init__(self, request: web.BaseRequest, stopping: asyncio.Event, hang_s: float) -> None:
        self.request = request
        self.response: web.StreamResponse = web.Response()
        self.status: int | None = None  # None until an answer was begun
        self.success = False  # a whole, valid reply was handed to the kernel
        self.damaged = False  # one was that only its content makes useless
        self._stopping = stopping
        self._hang_s = hang_s

    async def whole(
        self,
        status: int,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> None:
        """Send an answer as HTTP wants it."""
        self.response = response = web.Response(body=body, status=status, headers=headers, content_type=content_type)
        await response.prepare(self.request)
        await response.write_eof()
        self.status = status

    async def deliver(self, fault: Fault, body: bytes, headers: Mapping[str, str]) -> None:
        """Send `body`, or as much of it, and as, the fault says."""
        match fault.delivery:
            case FaultDelivery.WHOLE:
                await self.whole(fault.status, body, headers=headers, content_type=fault.content_type)
                self.success, self.damaged = fault.valid, fault.content
            case FaultDelivery.HALF:
                await self.whole(fault.status, body[: len(body) // 2], headers=headers)
            case FaultDelivery.RESET:
                self.reset()
            case FaultDelivery.RESET_IN_BODY:
                await self._begin(fault.status, len(body), headers)
                await self.response.write(body[: len(body) // 2])  # sent at once: it is far less than a socket buffer
                self.reset()
            case FaultDelivery.HANG:
                await self._pause(self._hang_s)
                self.reset()
            case FaultDelivery.DRIP:
                await self._begin(fault.status, len(body), headers)
                for at in range(len(body)):
                    await self.response.write(body[at : at + 1])
                    if await self._pause(DRIP_S):
                        self.reset()
                        return
                await self.response.write_eof()
                self.success = fault.valid

    async def _begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.response = web.StreamResponse(status=status, headers={**headers, "Content-Type": JSON})
        self.response.content_length = length
        await self.response.prepare(self.request)
        self.status = status

    async def _pause(self, seconds: float) -> bool:
        """Wait; True where the server is stopping."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def cut(self, path: Path, size: int) -> web.StreamResponse:
        """Announce a file of this size, send its first half and reset the connection."""
        await self._begin(200, size, {})
        with path.open("rb") as file:
            while (left := size // 2 - file.tell()) > 0 and (piece := file.read(min(left, _PIECE))):
                await self.response.write(piece)
        return self.reset()

    def reset(self) -> web.StreamResponse:
        """Reset the connection; the response that the server may then take for the answer."""
        transport = self.request.transport
        if transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            transport.abort()
        return self.response
