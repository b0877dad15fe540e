"""The mapping of errors: where the openai package's exceptions of file and batch calls become a `BatchTrouble`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import msgspec
from openai import APIStatusError, OpenAIError

from rowmill.core.wire import Endpoint, Failure, Part, Reply
from rowmill.transport import dead_ends, faults
from rowmill.transport.batch_states import Unreadable
from rowmill.transport.bounded_replies import UnreadReply
from rowmill.transport.foreign_words import cleaned

_NO_SUCH_THING = frozenset({404, 410})
_UNAUTHORIZED = 401
_OF_PERMISSIONS = ("permission", "scope")  # in OpenAI's words to a key that is right, but may not do this
_NO_SUCH_API = frozenset({404, 405, 501})


class BatchTrouble(Exception):
    """A call for files or batches failed.

    failure: its class, as of any request; the message says what to do where the user can do something.
    gone: the one batch or file that was asked for does not exist (any more).
    """

    def __init__(self, failure: Failure, *, gone: bool = False) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.gone = gone


class ErrorMapping:
    """Translates for one endpoint. No message holds one of its secrets."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._provider = endpoint.provider
        self._secrets = endpoint.secrets
        self._url = dead_ends.url_of(endpoint, "files")

    @asynccontextmanager
    async def limited(self, until: float, *, one: str = "", about: str = "") -> AsyncIterator[asyncio.Timeout]:
        """Turn every way in which a call can fail into a BatchTrouble: no time left, or a reply that cannot be read.

        until: when that is, by the event loop's clock.
        one: the one thing that is asked for, "batch b1"; empty for calls that every Batch API has.
        about: the id of a thing that the call only names: a 404 whose text names it as well means that thing.
        """
        try:
            async with asyncio.timeout_at(until) as deadline:
                yield deadline
        # The causes stay behind: the package's words, and what a traceback shows of it, may hold an echoed key.
        except Unreadable as error:
            raise self.unreadable(str(error)) from None
        except APIStatusError as error:
            raise self._refused(error.response, one, about) from None
        except UnreadReply as error:
            raise BatchTrouble(error.failure) from None
        except (OpenAIError, httpx2.HTTPError, TimeoutError) as error:
            raise self._failed(error) from None

    def clean(self, text: str) -> str:
        """Return a text of the server as it may be shown and kept."""
        return cleaned(text, self._secrets)

    def unreadable(self, what: str) -> BatchTrouble:
        """Return the trouble of a 2xx reply that is something else than was asked for."""
        message = f"provider {self._provider!r} answered {what}"
        return BatchTrouble(Failure(fault=faults.BAD_REPLY, message=message))

    def _refused(self, response: httpx2.Response, one: str, about: str) -> BatchTrouble:
        reply = Reply(response.status_code, response.content, response.headers.get)
        failure = faults.classify(reply)
        if failure is None:  # the package raises for nothing else
            return self.unreadable(f"HTTP {reply.status} where the openai package wants another status")
        if about and about.encode() in reply.body:
            one = f"file {about}"
        fault, words = failure.fault, self.clean(failure.message)
        gone = bool(one) and reply.status in _NO_SUCH_THING
        if gone:
            words = f"provider {self._provider!r} does not know {one}: {words}"
        elif not one and reply.status in _NO_SUCH_API:
            fault = faults.TABLE["not_found"]
            words = f'provider {self._provider!r} has no Batch API: set task.mode = "live"; it answered: {words}'
            if advice := dead_ends.of_path(self._url):
                words += f". Or is it the path? {advice}"
        elif reply.status == _UNAUTHORIZED and not any(word in words.lower() for word in _OF_PERMISSIONS):
            words = f"the key of provider {self._provider!r} is refused; it answered: {words}"
        elif fault.name == "auth":
            words = (
                f"the key of provider {self._provider!r} may not use files and batches: give it write permission for "
                f'both, or set task.mode = "live"; it answered: {words}'
            )
        code = None if failure.code is None else self.clean(failure.code)
        return BatchTrouble(msgspec.structs.replace(failure, fault=fault, message=words, code=code), gone=gone)

    def _failed(self, error: Exception) -> BatchTrouble:
        """Return what a call failed of that no whole reply came to."""
        cause = error.__cause__ if isinstance(error, OpenAIError) else error
        words = self.clean(dead_ends.innermost(cause or error)) or type(cause or error).__name__
        part: Part | None = None
        if isinstance(cause, TimeoutError | httpx2.TimeoutException):
            fault, words = faults.TIMEOUT, "no whole reply in time"
            if isinstance(cause, httpx2.ConnectTimeout):
                part, words = dead_ends.part_of([words], self._url, connected=False), "no connection in time"
        elif isinstance(cause, httpx2.HTTPError):
            connected = not isinstance(cause, httpx2.ConnectError | httpx2.ProxyError)
            part = dead_ends.part_of([type(cause).__name__, words], self._url, connected=connected)
            fault, words = faults.CONNECTION, f"connection failed: {words}"
        elif isinstance(cause, OSError):
            raise cause  # of the file that is uploaded: those of the network are the client's own by now
        else:
            fault, words = faults.BAD_REPLY, f"the openai package could not read the reply: {words}"
        return BatchTrouble(Failure(fault=fault, message=words, part=part))
