"""A provider's wire where its requests have an unusual form: what comes back is as if they had been asked as usual."""

from rowmill.core.errors import BadReply
from rowmill.core.wire import Failure, Reply
from rowmill.tasks.forms import Former
from rowmill.transport import Transport
from rowmill.transport.reply_size import OK
from rowmill.worker.failures import failure_of


class FormedTransport:
    """Sends bodies that are formed already, and reads their replies; see `Transport`."""

    def __init__(self, transport: Transport, former: Former) -> None:
        self._transport = transport
        self._read = former.read

    async def send(self, body: bytes) -> Reply | Failure:
        """Send one JSON body; see `Transport.send`. A stream that is not whole is a failure."""
        reply = await self._transport.send(body)
        if type(reply) is not Reply or reply.status not in OK:
            return reply
        try:
            return Reply(reply.status, self._read(reply.body), reply.header)
        except BadReply as error:
            return failure_of(error, reply.status)

    async def close(self) -> None:
        """Release the connections."""
        await self._transport.close()
