"""The requests of one provider's `/v1/files` and `/v1/batches`, and the batches at work.

No limit and no fault of live requests applies here. A handler whose client left is cancelled: what it did before stays.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Annotated, Any

import msgspec
from aiohttp import web

from rowmill.simulator.batches import words
from rowmill.simulator.batches.objects import BATCH_LIFE_S, FILE_LIFE_S, BatchObject, Entry, FileObject, Stored
from rowmill.simulator.batches.paging import page
from rowmill.simulator.batches.run import Run
from rowmill.simulator.batches.storage import Storage, new_id
from rowmill.simulator.batches.upload import receive
from rowmill.simulator.exchange import JSON, Exchange
from rowmill.simulator.faults import CATALOGUE
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.replies.reply import RequestError, encode, read
from rowmill.simulator.routes import ROUTES, of_url

_NO_FILES_KEY = "Bearer nofiles"  # a key that begins so has no permission for files
_WINDOW = "24h"
_BAD_GATEWAYS = 2  # times that a content answers 502

_Key = Annotated[str, msgspec.Meta(max_length=64)]
_Value = Annotated[str, msgspec.Meta(max_length=512)]


class _Create(msgspec.Struct):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Annotated[dict[_Key, _Value], msgspec.Meta(max_length=16)] | None = None


_decoder = msgspec.json.Decoder(_Create)


class BatchEndpoints:
    """Mutable state: the storage, the runs, and how often contents have failed."""

    def __init__(self, provider: SimulatedProvider, storage: Storage, work_lock: asyncio.Lock) -> None:
        """Go on with what an earlier process left. `work_lock` is shared by all providers."""
        self._provider = provider
        self._storage = storage
        self._work_lock = work_lock
        self._failed_contents: dict[str, int] = {}
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._remember()

    async def close(self) -> None:
        """Stop all work; a new process can go on with it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def handle(self, exchange: Exchange, what: str) -> web.StreamResponse:
        """Answer one request; `what` is its path below `/v1/`. Raises `RequestError`."""
        request = exchange.request
        if what.startswith("files") and request.headers.get("Authorization", "").startswith(_NO_FILES_KEY):
            raise _forbidden("read" if request.method == "GET" else "write")
        match (request.method, *what.split("/")):
            case ("POST", "files"):
                return await self._upload(exchange)
            case ("GET", "files"):
                return self._list_files(request.query)
            case ("GET", "files", file_id):
                return _json(self._file(file_id).file)
            case ("DELETE", "files", file_id):
                self._storage.drop(self._file(file_id).file.id)
                return _json({"id": file_id, "object": "file", "deleted": True})
            case ("GET", "files", file_id, "content"):
                return await self._content(exchange, self._file(file_id))
            case ("POST", "batches"):
                return await self._create(exchange)
            case ("GET", "batches"):
                return self._list_batches(request.query)
            case ("GET", "batches", batch_id):
                for statistics in self._provider.counted_in:
                    statistics.batches.retrieved += 1
                return _json(self._entry(batch_id).batch)
            case ("POST", "batches", batch_id, "cancel"):
                return _json(self._cancel(self._entry(batch_id)))
        raise RequestError(404, f"Invalid URL ({request.method} /v1/{what})")

    # Files

    async def _upload(self, exchange: Exchange) -> web.StreamResponse:
        with closing(self._storage.writing()) as writing:
            form = await receive(exchange.request, writing)
            script = words.upload_script(_item(self._provider.settings.upload_script, self._storage.next_upload()))
            if script.answer == "403":
                raise _forbidden("write")
            if script.answer == "500":
                raise _server_error()
            life = FILE_LIFE_S if form.life_s is None and form.purpose == "batch" else form.life_s
            file = self._storage.keep(writing, form.filename, form.purpose, life_s=life, digest=writing.digest)
        for statistics in self._provider.counted_in:
            statistics.batches.uploaded(file.filename, writing.digest)
        if script.slow_s:
            await asyncio.sleep(script.slow_s)
        if script.answer == "lost":
            return exchange.reset()
        return _json(file)

    def _list_files(self, query: Mapping[str, str]) -> web.Response:
        now = time.time()
        purpose = query.get("purpose")
        files = [
            stored.file
            for stored in self._storage.files.values()
            if purpose in (None, stored.file.purpose) and not _gone(stored.file, now)
        ]
        return _json(page(files, query, most=10_000, usual=10_000))

    def _file(self, file_id: str, *, status: int = 404, param: str = "id") -> Stored:
        stored = self._storage.files.get(file_id)
        if stored is None or _gone(stored.file, time.time()):
            raise RequestError(status, f"No such File object: {file_id}", param=param)
        return stored

    async def _content(self, exchange: Exchange, stored: Stored) -> web.StreamResponse:
        file = stored.file
        failed = self._failed_contents.get(file.id, 0)
        if failed < {"502": _BAD_GATEWAYS, "cut": 1}.get(stored.content, 0):
            self._failed_contents[file.id] = failed + 1
            if stored.content == "cut":
                return await exchange.cut(self._storage.path(file.id), file.bytes)
            refused = CATALOGUE["502"]
            return web.Response(body=refused.body, status=refused.status, content_type=refused.content_type)
        return web.FileResponse(self._storage.path(file.id), headers={"Content-Type": "application/octet-stream"})

    # Batches

    async def _create(self, exchange: Exchange) -> web.StreamResponse:
        wanted = read(_decoder, await exchange.request.content.read())
        self._require_possible(wanted)
        now = time.time()
        number = self._storage.next_batch()
        word = _item(self._provider.settings.batch_script, number)
        script = words.batch_script(word)
        if script.answer == "500":
            raise _server_error()
        born = now + script.late_s
        batch = BatchObject(
            id=new_id("batch_"),
            endpoint=wanted.endpoint,
            input_file_id=wanted.input_file_id,
            completion_window=wanted.completion_window,
            created_at=int(born),
            expires_at=int(born) + BATCH_LIFE_S,
            metadata=wanted.metadata,
        )
        entry = Entry(number=number, word=word, born=born, batch=batch)
        self._storage.save(entry)
        for statistics in self._provider.counted_in:
            statistics.batches.made(batch.metadata)
        self._begin(entry)
        return exchange.reset() if script.answer == "lost" else _json(batch)

    def _require_possible(self, wanted: _Create) -> None:
        if of_url(wanted.endpoint) is None:
            known = ", ".join(f"'/v1{path}'" for path in ROUTES)
            message = f"Invalid value: '{wanted.endpoint}'. Supported values are: {known}."
            raise RequestError(400, message, code="invalid_value", param="endpoint")
        if wanted.completion_window != _WINDOW:
            message = f"Invalid value: '{wanted.completion_window}'. Supported values are: '{_WINDOW}'."
            raise RequestError(400, message, code="invalid_value", param="completion_window")
        stored = self._file(wanted.input_file_id, status=400, param="input_file_id")
        if stored.file.purpose != "batch":
            message = f"The file's purpose is '{stored.file.purpose}', but it must be 'batch'."
            raise RequestError(400, message, param="input_file_id")

    def _list_batches(self, query: Mapping[str, str]) -> web.Response:
        now = time.time()
        entries = [entry for entry in self._storage.entries.values() if not _hidden(entry, now)]
        entries.sort(key=lambda entry: entry.born)
        return _json(page([entry.batch for entry in entries], query, most=100, usual=20))

    def _entry(self, batch_id: str) -> Entry:
        entry = self._storage.entries.get(batch_id)
        if entry is None or _hidden(entry, time.time()):
            raise RequestError(404, f"No batch found with id '{batch_id}'.")
        return entry

    def _cancel(self, entry: Entry) -> BatchObject:
        if entry.batch.over:
            raise RequestError(409, f"Cannot cancel a batch with status '{entry.batch.status}'.")
        if entry.batch.status != "cancelling":
            self._runs[entry.batch.id].cancel(time.time())
        return entry.batch

    # Work

    def _begin(self, entry: Entry) -> None:
        if words.batch_script(entry.word).gone:
            return
        run = Run(entry, self._storage, self._provider, work_lock=self._work_lock, enqueued=self._enqueued)
        self._runs[entry.batch.id] = run
        task = asyncio.create_task(run.go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._runs.pop(entry.batch.id))

    def _enqueued(self) -> int:
        return sum(run.entry.prompt_tokens for run in self._runs.values() if not run.entry.batch.over)

    def _remember(self) -> None:
        """Count what an earlier process did, and go on with what it had not finished."""
        for stored in self._storage.files.values():
            if stored.digest:
                for statistics in self._provider.counted_in:
                    statistics.batches.uploaded(stored.file.filename, stored.digest)
        for entry in self._storage.entries.values():
            batch = entry.batch
            for statistics in self._provider.counted_in:
                statistics.batches.made(batch.metadata)
            if not batch.over:
                self._begin(entry)
                continue
            keys = self._storage.keys(batch.id)
            for statistics in self._provider.counted_in:
                for key in keys:  # what had a valid reply
                    statistics.line(key, success=True)
                statistics.batches.remember(batch.status, batch.request_counts, batch.usage)


def _item(script: Sequence[str], number: int) -> str:
    return script[number] if number < len(script) else "ok"


def _gone(file: FileObject, now: float) -> bool:
    return file.expires_at is not None and file.expires_at <= now


def _hidden(entry: Entry, now: float) -> bool:
    return entry.born > now or words.batch_script(entry.word).gone


def _json(told: Any) -> web.Response:
    return web.Response(body=encode(told), content_type=JSON)


def _forbidden(what: str) -> RequestError:
    scope = f"api.files.{what}"
    return RequestError(403, f"You have insufficient permissions for this operation. Missing scopes: {scope}")


def _server_error() -> RequestError:
    return RequestError(500, "The server had an error while processing your request.", kind="server_error")
