"""The provider's files and batches, through the openai package.

Its exceptions become a `BatchTrouble` in `batch_trouble`. Replies are read by `batch_states`, not by the package, whose
models let anything through and whose parser hands an HTML page on as text.

**What is retried.** Reading (a batch, a list, a file) and cancelling can be done twice without harm, and is: with
exponential waits and full jitter, for at most `retry_s` altogether. A second upload or a second batch costs storage
or money, so `upload` and `create` are tried once; they may have worked all the same, so the caller looks for what they
made (`find_upload`, `find`) before trying again.

**Memory.** A file goes up from the disk in pieces of 64 KiB: of a path or bytes the package and httpx2 would hold the
whole, of an open file they do not. It comes down to the disk in pieces of 1 MiB.

**Time.** Neither way has one fixed limit: 200 MB over a slow line takes an hour. A transfer may take what it would at
`_SLOWEST` bytes a second, so a server that drips a byte a second is still left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import aiofiles
import httpx2
from openai import omit

from rowmill.core import private_files
from rowmill.core.wire import Endpoint, Failure
from rowmill.transport import connect_timeout_s, dead_ends, faults
from rowmill.transport.batch_retry import CallRetryPolicy
from rowmill.transport.batch_states import (
    BatchProblem,
    BatchState,
    Page,
    StoredFile,
    file_of,
    object_of,
    page_of,
    state_of,
)
from rowmill.transport.batch_trouble import BatchTrouble, ErrorMapping
from rowmill.transport.openai_client import configured_client
from rowmill.transport.results_size import ResultsSize

__all__ = ["BatchApi", "BatchProblem", "BatchState", "BatchTrouble"]

_SLOWEST = 32 * 1024.0  # bytes a second: a quarter of a megabit, 200 MB in under two hours
_REACH_S = 5.5  # for what is asked only to see who is there
_PIECE_BYTES = 1 << 20  # aiofiles costs about 0.1 ms a write, whatever its size
_CLOCK_SKEW_S = 600.0  # by which the provider's clock may be wrong, or ours
_PAGE = 100  # batches in a page of their list: the most that OpenAI gives
_CANNOT_CANCEL = frozenset({400, 409, 422})

T = TypeVar("T")
_Read = Callable[[dict[str, Any]], T]


class BatchApi:
    """Files and batches of one provider. Owns its connections; belongs to one event loop.

    Every method raises BatchTrouble. No message of one holds a secret of the endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        rng: Random,
        publish: Callable[[Path, Path], None],
        retry_s: float = 60.0,
        known: bool = True,
        **http: Any,
    ) -> None:
        """Make the client; `http` goes to its httpx2 client.

        publish: brings a whole temporary file (the first path) to the disk and gives it its name (the second), as
            `store.durable` does. It may block, and is called in a thread.
        retry_s: what is retried is given up after so many seconds.
        known: it has answered before; where nobody ever did, what says that nobody is there is given up at once.
        url: where files go, as it may be shown.
        """
        self._client = configured_client(endpoint, **http)
        self.url = dead_ends.url_of(endpoint, "files")
        self._heard = known
        self._errors = ErrorMapping(endpoint)
        self._read_state = partial(state_of, clean=self._errors.clean)
        self._timeout_s = endpoint.timeout_s
        self._rng = rng
        self._publish = publish
        self._retry_s = retry_s

    async def upload(self, path: Path, name: str) -> str:
        """Upload the file at `path` and return its id. One try; OSError where it cannot be read.

        name: its name at the provider, which must end in ".jsonl": OpenAI refuses others.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        limit_s = max(self._timeout_s, self._retry_s) + size / _SLOWEST
        file = await asyncio.to_thread(path.open, "rb")
        try:
            named = (name, file, "application/jsonl")
            create = self._client.files.with_raw_response.create
            stored = await self._once(create(file=named, purpose="batch", timeout=_timeout(limit_s)), limit_s, file_of)
        finally:
            file.close()
        return stored.id

    async def find_upload(self, name: str, size: int) -> str | None:
        """Return the id of the newest file for batches of this name and size in bytes; None where there is none."""
        found: list[StoredFile] = []
        after = ""
        while True:
            page = await self._page(self._client.files, file_of, after, purpose="batch", order="desc")
            found += [file for file in page.items if _is_upload(file, name, size)]
            # All pages are read: a server may know neither of the two filters.
            if not page.more or page.items[-1].id == after:
                return max(found, key=lambda file: file.created_at).id if found else None
            after = page.items[-1].id

    async def create(self, file_id: str, api_url: str, metadata: Mapping[str, str]) -> BatchState:
        """Create a batch of an uploaded file for an API such as "/v1/chat/completions". One try.

        `gone` means the file here.
        """
        api: Any = api_url  # the package names the APIs that OpenAI has: other servers have others
        request = self._client.batches.with_raw_response.create(
            input_file_id=file_id,
            endpoint=api,
            completion_window="24h",
            metadata=dict(metadata),
            timeout=_timeout(self._timeout_s),
        )
        try:
            return await self._once(request, self._timeout_s, self._read_state, about=file_id)
        except BatchTrouble as trouble:
            if trouble.failure.fault is faults.INVALID_REQUEST:  # what OpenAI says also of a file that is no more
                trouble.gone = trouble.gone or await self._is_gone(file_id)
            raise

    async def find(self, metadata: Mapping[str, str], *, since: float) -> list[BatchState]:
        """Return the batches whose metadata has all of this, newest first; none that are older than `since`.

        since: Unix time. Ten minutes are allowed for clocks that differ.
        """
        oldest = since - _CLOCK_SKEW_S
        found: list[BatchState] = []
        after, before = "", inf
        newest_first = True  # as OpenAI does; of a server that does not, all pages are read
        while True:
            page = await self._page(self._client.batches, self._read_state, after, limit=_PAGE)
            for batch in page.items:
                newest_first = newest_first and batch.created_at <= before
                before = batch.created_at
                if not 0.0 < before < oldest and metadata.items() <= batch.metadata.items():  # 0.0: it does not say
                    found.append(batch)
            if not page.more or page.items[-1].id == after or (newest_first and 0.0 < before < oldest):
                return sorted(found, key=lambda batch: batch.created_at, reverse=True)
            after = page.items[-1].id

    async def retrieve(self, batch_id: str) -> BatchState:
        """Return how a batch stands."""
        return await self._retried(lambda retry: self._state(batch_id, retry))

    async def cancel(self, batch_id: str) -> BatchState:
        """Cancel a batch and return how it stands then. One that is over already is no trouble."""

        async def attempt(retry: CallRetryPolicy) -> BatchState:
            request = self._client.batches.with_raw_response.cancel(batch_id, timeout=_timeout(retry.try_s))
            try:
                return await self._about_batch(batch_id, request, retry)
            except BatchTrouble as trouble:
                if trouble.failure.status in _CANNOT_CANCEL:
                    state = await self._state(batch_id, retry)
                    if state.over or state.status == "cancelling":
                        return state
                raise

        return await self._retried(attempt)

    async def download(self, file_id: str, path: Path, *, requests: int, rows: int) -> int:
        """Bring the results of so many requests for so many rows to `path`, whole and durably; return their bytes.

        A file that is longer than they can be is given up, and is as good as gone. Raise OSError where it cannot be
        written. What a download that failed has left lies beside it, under a name of its own, and is overwritten by
        the next.
        """
        temporary = path.with_name(f".{path.name}.tmp")

        async def attempt(retry: CallRetryPolicy) -> int:
            # Opened before the deadline begins: one that passes while a thread opens the file would leave it open.
            async with (
                aiofiles.open(temporary, "wb", opener=private_files.make_file) as target,
                self._errors.limited(retry.ends, one=f"file {file_id}") as deadline,
            ):
                content = self._client.files.with_streaming_response.content
                async with content(file_id, timeout=_timeout(retry.try_s)) as streamed:
                    response = streamed.http_response
                    size, counted = 0, ResultsSize(requests, rows)
                    async for piece in response.aiter_bytes(_PIECE_BYTES):
                        if (too_much := counted.take(piece)) is not None:
                            await target.truncate(0)
                            message = f"file {file_id} has {too_much}, and was not read to its end"
                            raise BatchTrouble(Failure(fault=faults.TABLE["not_found"], message=message), gone=True)
                        await target.write(piece)
                        size += len(piece)
                        retry.ends += len(piece) / _SLOWEST  # something came of it
                        deadline.reschedule(retry.ends)
            if response.headers.get("content-type", "").startswith("text/html"):
                raise self._errors.unreadable(f"an HTML page of {size} bytes for the content of file {file_id}")
            expected, arrived = _length_of(response), response.num_bytes_downloaded
            if expected is None:
                expected, arrived = await self._size(file_id, retry), size
            if expected is not None and arrived != expected:
                message = f"the content of file {file_id} is cut: {arrived} of {expected} bytes came"
                raise BatchTrouble(Failure(fault=faults.CONNECTION, message=message))
            return size

        size = await self._retried(attempt)
        await asyncio.to_thread(self._publish, temporary, path)
        return size

    async def reach(self) -> None:
        """Ask for something small, once, to see who is there."""
        request = self._client.batches.with_raw_response.list(limit=1, timeout=_timeout(_REACH_S))
        await self._once(request, _REACH_S, partial(page_of, read=self._read_state))

    async def close(self) -> None:
        """Close the client and its connections."""
        await self._client.close()

    async def _state(self, batch_id: str, retry: CallRetryPolicy) -> BatchState:
        request = self._client.batches.with_raw_response.retrieve(batch_id, timeout=_timeout(retry.try_s))
        return await self._about_batch(batch_id, request, retry)

    async def _about_batch(self, batch_id: str, request: Awaitable[Any], retry: CallRetryPolicy) -> BatchState:
        read = partial(self._read_state, asked=batch_id)
        return await self._call(request, retry.try_ends, read, one=f"batch {batch_id}")

    async def _described(self, file_id: str, retry: CallRetryPolicy) -> StoredFile:
        request = self._client.files.with_raw_response.retrieve(file_id, timeout=_timeout(retry.try_s))
        return await self._call(request, retry.try_ends, file_of, one=f"file {file_id}")

    async def _size(self, file_id: str, retry: CallRetryPolicy) -> int | None:
        """Return the bytes that a file has, as its description says; None where it does not."""
        try:
            return (await self._described(file_id, retry)).bytes or None
        except BatchTrouble as trouble:
            if trouble.failure.fault.retryable:
                raise
            return None  # a server that gives contents only

    async def _is_gone(self, file_id: str) -> bool:
        try:
            await self._retried(lambda retry: self._described(file_id, retry))
        except BatchTrouble as trouble:
            return trouble.gone
        return False

    async def _page(self, resource: Any, read: _Read[T], after: str, **query: Any) -> Page[T]:
        async def attempt(retry: CallRetryPolicy) -> Page[T]:
            ask = resource.with_raw_response.list
            request = ask(after=after or omit, timeout=_timeout(retry.try_s), **query)
            return await self._call(request, retry.try_ends, partial(page_of, read=read))

        return await self._retried(attempt)

    async def _retried(self, attempt: Callable[[CallRetryPolicy], Awaitable[T]]) -> T:
        return await CallRetryPolicy(self._retry_s, self._rng, worth=self._worth).run(attempt)

    def _worth(self, failure: Failure) -> bool:
        """Whether another try may help. What has never been there is the caller's to wait for."""
        return failure.fault.retryable and (self._heard or not faults.dead_end(failure))

    async def _once(self, request: Awaitable[Any], limit_s: float, read: _Read[T], *, about: str = "") -> T:
        return await self._call(request, asyncio.get_running_loop().time() + limit_s, read, about=about)

    async def _call(
        self, request: Awaitable[Any], until: float, read: _Read[T], *, one: str = "", about: str = ""
    ) -> T:
        """Return what `read` makes of a 2xx reply; the other arguments are those of `ErrorMapping.limited`."""
        async with self._errors.limited(until, one=one, about=about):
            response: httpx2.Response = (await request).http_response
            result = read(object_of(response.content))
            self._heard = True
            return result


def _timeout(limit_s: float) -> httpx2.Timeout:
    """Return the limits of single operations. The whole call has one of its own, which the package does not know."""
    return httpx2.Timeout(limit_s, connect=connect_timeout_s(limit_s))


def _is_upload(file: StoredFile, name: str, size: int) -> bool:
    is_input = file.purpose in ("batch", "") and file.status != "error"
    return is_input and file.filename == name and file.bytes == size


def _length_of(response: httpx2.Response) -> int | None:
    """Return the bytes that a reply said it would have on the wire."""
    with suppress(ValueError, KeyError):
        return int(response.headers["content-length"])
    return None
