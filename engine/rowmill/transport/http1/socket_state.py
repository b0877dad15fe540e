"""What the machine's TCP knows of a connection, which no transport of asyncio tells."""

import os
import socket
import struct
import termios
from contextlib import suppress
from fcntl import ioctl
from typing import Any

_MOST_LEFT = 1 << 20  # bytes of a reply that are still looked for once its connection is broken
_BYTES_SENT = 200  # where Linux has that in `tcp_info`: 64 bits, from 4.19 on


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


def nothing_sent(transport: Any, before: int) -> bool:
    """Tell whether this machine has sent no more than `before` bytes by a connection, of one that is broken.

    A reset that had come before a request was written lets nothing of it out. Bytes that were sent twice count twice.
    """
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_SENT + 8)
        return bool(struct.unpack_from("Q", info, _BYTES_SENT)[0] <= before)
    except (OSError, AttributeError, struct.error):  # this machine does not tell
        return False


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
    raw = transport.get_extra_info("socket")
    return -1 if raw is None else int(raw.fileno())
