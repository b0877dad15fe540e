"""How long a reply may be: what is longer is no reply to a row, and must not become the machine's memory.

The longest that is real is an embedding of some thousand texts; of an error the first words tell what it is.
"""

from rowmill.core.compressed import codings, unpacked
from rowmill.core.wire import Failure, HeaderLookup, Reply
from rowmill.transport import faults

LONGEST = 64 << 20  # bytes of a reply, decoded
AT_ONCE = 1 << 20  # bytes of a reply that may be in memory for each request in flight
LONG_REPLIES = 4  # that have more, and are gathered at the same time
_LONGEST_ERROR = 1 << 20
_KEPT = 1 << 16  # of an error that is longer
OK = range(200, 300)  # statuses of a reply that is no error


def longest(status: int) -> int:
    """Return the bytes that a reply with this status may have."""
    return LONGEST if status in OK else _LONGEST_ERROR


def unpacked_reply(reply: Reply) -> Reply | Failure:
    """Return what a reply is whose body is as it came: compressed or not, and as long as it likes."""
    status, body, header = reply.status, reply.body, reply.header
    most = longest(status)
    try:
        body = unpacked(body, most, codings(header("content-encoding")))
    except ValueError as error:
        if status in OK:
            return Failure(fault=faults.BAD_REPLY, message=str(error), maybe_billed=True, status=status)
        # Of an error the status tells enough.
    return Reply(status, body, header) if len(body) <= most else too_long(status, body, header)


def too_long(status: int, beginning: bytes, header: HeaderLookup) -> Reply | Failure:
    """Return what a longer reply is: a failure of its row, or an error of which the beginning is enough."""
    if status not in OK:
        return Reply(status, beginning[:_KEPT], header)
    message = f"the reply has more than {LONGEST >> 20} MiB, and was not read to its end"
    return Failure(fault=faults.REPLY_TOO_LARGE, message=message, status=status, maybe_billed=True)
