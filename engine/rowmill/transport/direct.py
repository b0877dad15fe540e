"""The direct transport: reqwest and hyper, in Rust, under asyncio. The hot path of every run.

Redirects are not followed: following one would carry the key's headers and the paid request to a server that
the user did not name.

A certificate that is its own authority's (`openssl req -x509` makes such) is none of a server to rustls, whoever
vouches for it. OpenSSL takes it, so requests to such a server go by the openai package, as the sdk transport's do.

The client reads a reply to its end, in Rust, up to 64 KiB; what is longer is taken piece by piece, and left where it is
longer than any reply is. It unpacks what is compressed as the headers say; at the first that is not what they say, its
place is taken by a client that leaves bytes as they are, and replies are unpacked by what their bytes are.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from pyreqwest.bytes import Bytes
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import (
    BodyDecodeError,
    BuilderError,
    ConnectError,
    ConnectTimeoutError,
    PyreqwestError,
    RequestTimeoutError,
)
from pyreqwest.http import Url
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response, ResponseBodyReader

from rowmill.core.errors import ConfigError
from rowmill.core.wire import Endpoint, Failure, Part, Reply
from rowmill.transport import Transport, connect_timeout_s, dead_ends, faults, is_loopback
from rowmill.transport.reply_size import AT_ONCE, LONG_REPLIES, longest, too_long, unpacked_reply

_PIECE = 1 << 16  # bytes of a reply that the client reads before it gives it back
_FROM_CONNECTION = "reading a body from connection"  # hyper's words: it was cut off
_OWN_AUTHORITY = "CaUsedAsEndEntity"  # rustls' word


class DirectTransport:
    """Sends over a pooled pyreqwest client, with URL and headers fixed once."""

    def __init__(self, endpoint: Endpoint, *, by_package: Callable[[], Transport], note: Callable[[str], None]) -> None:
        """`by_package` opens the sdk transport; `note`: is told in a line that it was needed."""
        self._endpoint = endpoint
        self._as_it_is = False  # replies are not unpacked by the client
        self._left: list[Client] = []  # that were in use before: what is on its way there comes home
        self._open()
        self._timeout_s = endpoint.timeout_s
        self._turns = asyncio.Semaphore(LONG_REPLIES)
        self._provider = endpoint.provider
        self._by_package = by_package
        self._note = note
        self._package: Transport | None = None
        self._told = False

    def _open(self) -> None:
        """Make the client. Raises `ConfigError`."""
        endpoint = self._endpoint
        headers = list(endpoint.headers)
        builder = (
            ClientBuilder()
            .timeout(timedelta(seconds=endpoint.timeout_s))
            .connect_timeout(timedelta(seconds=connect_timeout_s(endpoint.timeout_s)))
            .follow_redirects(enable=False)
        )
        if self._as_it_is:
            builder = builder.gzip(enable=False).brotli(enable=False).zstd(enable=False).deflate(enable=False)
        if is_loopback(endpoint.url):
            # A proxy of the environment cannot reach this machine's own loopback, and a small local reply costs
            # less to send than to compress. One that comes compressed all the same is decoded.
            builder = builder.no_proxy()
        if is_loopback(endpoint.url) or self._as_it_is:
            headers.append(("accept-encoding", "identity"))
        builder = builder.default_headers(headers)
        try:
            if endpoint.ca:
                builder = builder.add_root_certificate_pem(endpoint.ca.encode())
            self._client = builder.build()
            self._url = Url(endpoint.url)
        except (PyreqwestError, ValueError) as error:
            # Not the error's own words: they can hold a header.
            raise ConfigError(
                f"provider {endpoint.provider!r}: base_url or a header cannot be used ({type(error).__name__})"
            ) from None

    async def send(self, body: bytes) -> Reply | Failure:
        """Send one JSON body; see `Transport.send`."""
        if self._package is not None:
            return await self._send_by_package(self._package, body)
        try:
            request = self._client.post(self._url).body_bytes(body).build_streamed()
            # Left only where something was not read: a reply that has come whole holds nothing.
            response = await request.__aenter__()
            reader = response.body_reader
            piece = await reader.read(_PIECE)
            if piece is None or len(piece) < _PIECE:  # all of it
                reply: Reply | Failure = Reply(response.status, bytes(piece or b""), response.get_header)
            else:
                reply = await self._gathered(request, response, reader, piece)
            return unpacked_reply(reply) if self._as_it_is and isinstance(reply, Reply) else reply
        except RequestTimeoutError as error:
            # A `ConnectTimeoutError` is also what a server that accepts and never answers looks like.
            if _never_connected(error):
                return Failure(
                    fault=faults.TIMEOUT, message="no connection in time", part=self._part(error, connected=False)
                )
            return Failure(
                fault=faults.TIMEOUT, message=f"no whole reply within {self._timeout_s:g} s", maybe_billed=True
            )
        except BuilderError as error:
            return Failure(fault=faults.CONNECTION, message=f"request could not be built: {_cause(error)}")
        except PyreqwestError as error:
            if isinstance(error, BodyDecodeError) and _FROM_CONNECTION not in "".join(_causes(error)):
                return self._not_as_said(error)
            if _OWN_AUTHORITY not in _cause(error):
                connected = not _never_connected(error)
                return Failure(
                    fault=faults.CONNECTION,
                    message=f"connection failed: {_cause(error)}",
                    maybe_billed=connected,
                    part=self._part(error, connected=connected),
                )
        return await self._send_by_package(None, body)  # out of the handler: what fails there has causes of its own

    async def _gathered(
        self, request: StreamRequest, response: Response, reader: ResponseBodyReader, first: Bytes
    ) -> Reply | Failure:
        """Read the rest of a reply that is long."""
        pieces = [first]
        most = longest(response.status)
        async with self._turns:
            size = len(first)
            while size <= most and (piece := await reader.read(AT_ONCE)):
                pieces.append(piece)
                size += len(piece)
            if size > most:
                await request.__aexit__(None, None, None)
                return too_long(response.status, b"".join(pieces), response.get_header)
            return Reply(response.status, b"".join(pieces), response.get_header)

    def _not_as_said(self, error: PyreqwestError) -> Failure:
        """Take replies as they are from now on: this one is lost, and would be again."""
        if not self._as_it_is:
            self._as_it_is = True
            self._left.append(self._client)
            self._open()
        message = f"the reply is compressed otherwise than its headers say: {_cause(error)}"
        return Failure(fault=faults.BAD_REPLY, message=message, maybe_billed=True)

    def _part(self, error: PyreqwestError, *, connected: bool) -> Part:
        return dead_ends.part_of(_causes(error), str(self._url), connected=connected)

    async def close(self) -> None:
        """Close the client and its connections."""
        for client in (self._client, *self._left):
            await client.close()
        if self._package is not None:
            await self._package.close()

    async def _send_by_package(self, package: Transport | None, body: bytes) -> Reply | Failure:
        if package is None:
            package = self._package = self._package or self._by_package()
        reply = await package.send(body)
        if not self._told and isinstance(reply, Reply):
            self._told = True
            self._note(
                f"provider {self._provider}: its certificate is an authority's own, so the openai package asks it, at "
                "40 times the CPU a request; one that an authority has signed for the server is faster"
            )
        return reply


def _causes(error: PyreqwestError) -> list[str]:
    details = error.args[1] if len(error.args) > 1 else None
    causes = details.get("causes") if isinstance(details, dict) else None
    return [str(cause.get("message", "")) for cause in causes or []]


def _cause(error: PyreqwestError) -> str:
    """Return the innermost cause. The outer ones repeat the URL, whose query could hold a secret."""
    causes = _causes(error)
    return causes[-1] if causes else type(error).__name__


def _never_connected(error: PyreqwestError) -> bool:
    """Tell whether the failure is certain to have come before any byte of the request was sent."""
    return isinstance(error, ConnectError | ConnectTimeoutError) and any(
        "(Connect)" in cause for cause in _causes(error)
    )
