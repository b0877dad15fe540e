"""The sdk transport: every request through `AsyncOpenAI`. For providers that only the package can sign for.

Costs about 70 times the CPU of the direct transport; the replies and failures are the same.
"""

import asyncio

import httpx2
import msgspec
from openai import APIConnectionError, APIResponseValidationError, APIStatusError, APITimeoutError, OpenAIError

from rowmill.core.wire import Endpoint, Failure, Part, Reply
from rowmill.transport import dead_ends, faults
from rowmill.transport.bounded_replies import UnreadReply
from rowmill.transport.openai_client import configured_client, create


class SdkTransport:
    """Sends through a configured `AsyncOpenAI` and reads its raw responses."""

    def __init__(self, endpoint: Endpoint, *, api: str, concurrency: int) -> None:
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client = configured_client(endpoint, limits=limits)
        self._api = api
        self._timeout_s = endpoint.timeout_s

    async def send(self, body: bytes) -> Reply | Failure:
        """Send one JSON body; see `Transport.send`."""
        try:
            # The package's own timeouts are for each operation; a server that drips a byte a second passes them.
            async with asyncio.timeout(self._timeout_s):
                response = (await create(self._client, self._api, msgspec.json.decode(body))).http_response
        except APIStatusError as error:
            response = error.response
        except APIResponseValidationError as error:
            response = error.response
        except (APITimeoutError, TimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                return Failure(
                    fault=faults.TIMEOUT, message="no connection in time", part=self._part(error, connected=False)
                )
            return Failure(
                fault=faults.TIMEOUT,
                message=f"no whole reply within {self._timeout_s:g} s",
                maybe_billed=True,
            )
        except APIConnectionError as error:
            cause = error.__cause__
            connected = not isinstance(cause, httpx2.ConnectError | httpx2.ProxyError)
            return Failure(
                fault=faults.CONNECTION,
                message=f"connection failed: {dead_ends.innermost(error)}",
                maybe_billed=connected,
                part=self._part(error, connected=connected),
            )
        except UnreadReply as error:
            return error.failure
        except OpenAIError as error:
            return Failure(fault=faults.BAD_REPLY, message=f"the openai package could not read the reply: {error}")
        return Reply(response.status_code, response.content, response.headers.get)

    def _part(self, error: BaseException, *, connected: bool) -> Part:
        words = [type(error.__cause__).__name__, dead_ends.innermost(error)]
        return dead_ends.part_of(words, str(self._client.base_url), connected=connected)

    async def close(self) -> None:
        """Close the client and its connections."""
        await self._client.close()
