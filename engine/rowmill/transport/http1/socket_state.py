"""What the machine's TCP knows of a connection, which no transport of asyncio tells."""

import os
import struct
import termios
from contextlib import suppress
from fcntl import ioctl
from typing import Any

_MOST_LEFT = 1 << 20  # bytes of a reply that are still looked for once its connection is broken


def nothing_arrived(transport: Any, size: int) -> bool:
    """Tell whether not one byte of the last `size` bytes written has been acknowledged by the other machine.

    Where the other side has closed in order, that is certain: it had done so before it got any of them, and what comes
    then goes to nobody. Its TCP acknowledges what it has with the very packet that says it closes.
    """
    try:
        unacknowledged = struct.unpack("i", ioctl(_descriptor(transport), termios.TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return False
    return bool(unacknowledged + transport.get_write_buffer_size() >= size)


def what_is_left(transport: Any) -> bytes:
    """Return what came from the other side and was not read, of a transport that is told lost and not yet closed.

    A server that refuses a request before it has all of it answers and closes; what is then sent fails, and asyncio
    looks for no reply any more.
    """
    found = bytearray()
    with suppress(OSError):  # it is broken, which is known
        descriptor = _descriptor(transport)
        while len(found) < _MOST_LEFT and (piece := os.read(descriptor, 1 << 16)):
            found += piece
    return bytes(found)


def _descriptor(transport: Any) -> int:
    socket = transport.get_extra_info("socket")
    return -1 if socket is None else int(socket.fileno())
