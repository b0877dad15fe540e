"""TLS around a socket: the protocol of its transport, and the transport of what speaks through it.

asyncio and uvloop bring such a thing, too. This one costs a third of theirs for a request, resumes sessions, and can be
put into another one, for the way to a proxy may be TLS itself.
"""

import asyncio
import ssl
from typing import Any

from rowmill.transport.http1 import Unreachable

_RECORD = 1 << 14  # bytes that a record has at most


class TlsStream(asyncio.Protocol):
    """Encrypts what is written, and decrypts what comes, once `ready` is done; that may also be `Unreachable`.

    written: bytes of all writes, encrypted, and of the handshake. last_write: of the last write.
    """

    def __init__(self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host, session=session)
        self._transport: Any = None
        self._protocol: asyncio.Protocol | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.written = self.last_write = 0
        self._held_up = b""  # what was written while the server wants a new handshake

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a next connection may begin with, once something came by this one."""
        return self._tls.session

    # The protocol of the transport below

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake."""
        self._transport = transport
        self._shake()

    def data_received(self, data: bytes) -> None:
        """Decrypt, and pass on what comes out."""
        incoming = self._incoming
        incoming.write(data)
        if self._protocol is None:
            if not self.ready.done():
                self._shake()
            return  # whoever speaks through it takes it soon
        received, read = self._protocol.data_received, self._tls.read
        try:
            while piece := read(_RECORD):
                received(piece)
                if not incoming.pending:  # to find out by another read would cost an exception
                    if self._outgoing.pending:
                        self._flush()
                    return
            self._protocol.eof_received()
            self._transport.close()
        except ssl.SSLWantReadError:
            self._flush()  # what TLS itself answers: to a server that wants a new handshake, or new keys
            if self._held_up:
                held_up, self._held_up = self._held_up, b""
                self.write(held_up)
        except ssl.SSLError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """Pass it on, also where nobody has said goodbye in TLS: what HTTP says of a length tells what is missing."""
        if self._protocol is not None:
            self._protocol.eof_received()
        else:
            self._fail(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Pass it on."""
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        else:
            self._fail(error)
        self._protocol = None

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:  # a certificate that nobody vouches for is one, too
            self._flush()  # says why
            self._fail(error)
            return
        else:
            if not self.ready.done():
                self.ready.set_result(None)
        self._flush()

    def _fail(self, error: Exception | None) -> None:
        if self._protocol is None and not self.ready.done():
            words = "the connection was closed during the TLS handshake" if error is None else str(error)
            self.ready.set_exception(Unreachable(words, "tls"))
        elif self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            protocol.connection_lost(error)
        self._transport.abort()

    # The transport of what speaks through it

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt and send."""
        tls = self._tls
        written = 0
        try:
            written = tls.write(data)
            while written < len(data):  # a record at a time
                written += tls.write(memoryview(data)[written:])
        except ssl.SSLWantReadError:  # a server of TLS 1.2 that wants a new handshake first, as to see a certificate
            self._held_up += data[written:]
        self.last_write = self._flush()

    def _flush(self) -> int:
        encrypted = self._outgoing.read()
        if encrypted:
            self._transport.write(encrypted)
            self.written += len(encrypted)
        return len(encrypted)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        """Take who speaks through it, and give it what is there already."""
        self._protocol = protocol
        self.data_received(b"")

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait below."""
        return int(self._transport.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport below says."""
        return self._transport.get_extra_info(name, default)
