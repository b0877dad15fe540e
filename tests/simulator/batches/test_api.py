"""The routes: files up and down, batches made, listed and looked at, and every refusal."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
import uvloop

if TYPE_CHECKING:
    from tests.simulator.batches.conftest import Api, Observed

    Serve = Callable[..., AbstractAsyncContextManager[Api]]


def test_a_round_trip_in_another_order_with_the_bodies_of_the_live_route(serve: "Serve") -> None:
    async def exchange() -> None:
        # Bodies with spaces, escapes and members in any order: the reply is made from the bytes as they stand.
        bodies = [
            b'{ "model":"sim-small", "messages": [ {"role":"user","content":"r\\u00e4w %d"} ] , "max_tokens":9}' % row
            for row in range(700)
        ]
        wrong = b'{"model":"sim-small","messages":[]}'
        data = b"".join(
            b'{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":%b}\n' % (row, body)
            for row, body in enumerate([*bodies, wrong])
        )
        async with serve(batch_s=0.1) as api:
            file = await api.upload(data)
            assert (file.bytes, file.filename, file.purpose) == (len(data), "part.jsonl", "batch")
            assert (await api.client.files.retrieve(file.id)) == file
            assert (await api.client.files.content(file.id)).content == data
            batch = await api.create(file.id, rowmill_run="a", rowmill_part="0", rowmill_try="1")
            assert batch.status == "validating"
            assert batch.expires_at == batch.created_at + 86_400
            done = await api.over(batch)
            assert done.status == "completed"
            assert done.metadata == {"rowmill_run": "a", "rowmill_part": "0", "rowmill_try": "1"}
            counts = done.request_counts
            assert counts is not None
            assert (counts.total, counts.completed, counts.failed) == (701, 700, 1)
            output = await api.content(done.output_file_id)
            assert len(output) == 700
            assert [line["custom_id"] for line in output] != [f"r{row}" for row in range(700)]
            assert len({line["id"] for line in output}) == 700
            by_row = {line["custom_id"]: line for line in output}
            for row in (0, 5, 699):
                live = await api.client.post("/chat/completions", content=bodies[row], cast_to=object)
                assert by_row[f"r{row}"]["response"]["body"] == live
                assert by_row[f"r{row}"]["response"]["status_code"] == 200
                assert by_row[f"r{row}"]["error"] is None
            (error,) = await api.content(done.error_file_id)
            assert (error["custom_id"], error["response"]["status_code"]) == ("r700", 400)
            assert "too short" in error["response"]["body"]["error"]["message"]
            usage = done.usage
            assert usage is not None
            figures = await api.figures()
            assert (
                usage.output_tokens
                == figures["batches"]["completion_tokens"]
                == sum(line["response"]["body"]["usage"]["completion_tokens"] for line in output)
            )
            assert figures["repeated_after_success"] == 3  # the live ones above
            assert figures["distinct"] == 701
            assert figures["batches"]["by_status"] == {"completed": 1}

    uvloop.run(exchange())


def test_lists_are_paged_by_the_last_id(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve() as api:
            files = [await api.upload(api.lines(1), f"{row}.jsonl") for row in range(7)]
            batches = [await api.create(file.id) for file in files]
            page = await api.client.batches.list(limit=3)
            assert [batch.id for batch in page.data] == [batch.id for batch in batches[:3:-1]]
            assert page.has_more
            assert [batch.id async for batch in page] == [batch.id for batch in reversed(batches)]
            await asyncio.gather(*(api.over(batch) for batch in batches))
            inputs = [file.id async for file in api.client.files.list(purpose="batch", limit=2, order="asc")]
            assert inputs == [file.id for file in files]
            assert len([file async for file in api.client.files.list(limit=5)]) == 14
            for refused in (api.client.batches.list(limit=0), api.client.batches.list(after="batch_x")):
                with pytest.raises(openai.BadRequestError):
                    await refused

    uvloop.run(exchange())


def test_what_is_unknown_wrong_or_deleted_is_refused(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve() as api:
            client = api.client
            file = await api.upload(api.lines(1))
            other = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
            for refused, asked in (
                (openai.NotFoundError, client.files.retrieve("file-x")),
                (openai.NotFoundError, client.files.content("file-x")),
                (openai.NotFoundError, client.files.delete("file-x")),
                (openai.NotFoundError, client.batches.retrieve("batch_x")),
                (openai.NotFoundError, client.batches.cancel("batch_x")),
                (openai.BadRequestError, api.create("file-x")),
                (openai.BadRequestError, api.create(other.id)),
                (openai.BadRequestError, api.create(file.id, key="x" * 513)),
                (openai.BadRequestError, client.files.create(file=("a.txt", b"x"), purpose="batch")),
            ):
                with pytest.raises(refused):
                    await asked
            for endpoint, window in (("/v1/images", "24h"), ("/v1/embeddings", "1h")):
                with pytest.raises(openai.BadRequestError, match="Supported values"):
                    await client.batches.create(
                        input_file_id=file.id,
                        endpoint=endpoint,  # type: ignore[arg-type]  # it is wrong
                        completion_window=window,  # type: ignore[arg-type]  # the same
                    )
            done = await api.over(await api.create(file.id))
            with pytest.raises(openai.ConflictError, match="completed"):
                await client.batches.cancel(done.id)
            assert (await client.files.delete(file.id)).deleted
            with pytest.raises(openai.NotFoundError):
                await client.files.retrieve(file.id)
            with pytest.raises(openai.BadRequestError):
                await api.create(file.id)
            with pytest.raises(openai.NotFoundError):
                await client.post("/batches/x/y/z", cast_to=object)

    uvloop.run(exchange())


async def _post(port: int, content_type: str, body: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/files HTTP/1.1\r\nHost: s\r\nContent-Length: {len(body)}\r\nContent-Type: {content_type}\r\n\r\n"
    writer.write(head.encode() + body)
    status = int((await reader.readline()).split()[1])
    writer.transport.abort()
    return status


def _part(name: str, content: str, **extra: str) -> str:
    more = "".join(f'; {key}="{value}"' for key, value in extra.items())
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'


def test_a_form_that_is_none_is_refused(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve() as api:
            form = "multipart/form-data; boundary=b"
            file, purpose = _part("file", "x", filename="a.jsonl"), _part("purpose", "batch")
            expiry = _part("expires_after[seconds]", "5")
            for content_type, parts, status in (
                ("application/json", "{}", 400),
                ("multipart/form-data", file + purpose + "--b--", 400),
                (form, "no form", 400),
                (form, "--b--", 400),
                (form, purpose + "--b--", 400),
                (form, file + "--b--", 400),
                (form, file + _part("purpose", "b" * 5000) + "--b--", 400),
                (form, file + purpose + expiry + "--b--", 400),
                (form, file + purpose + "--b--", 200),
            ):
                assert await _post(api.port, content_type, parts.encode()) == status, parts
            assert (await api.figures())["batches"]["files"] == 1
            kept = await api.client.files.create(
                file=("a.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
            )
            assert kept.expires_at == kept.created_at + 3600

    uvloop.run(exchange())


def test_keys_providers_and_a_provider_without_a_batch_api(serve: "Serve", connect: Callable[..., Any]) -> None:
    async def exchange() -> None:
        async with serve() as api:
            batch = await api.start(api.lines(1))
            async with connect(api.port, prefix="/east") as east:
                with pytest.raises(openai.NotFoundError):
                    await east.batches.retrieve(batch.id)
                assert [file.id async for file in east.files.list()] == []
            async with connect(api.port, key="invalid") as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.batches.list()
            async with connect(api.port, key="nofiles") as client:
                with pytest.raises(openai.PermissionDeniedError, match=r"Missing scopes: api\.files\.write"):
                    await client.files.create(file=("a.jsonl", b"x"), purpose="batch")
                with pytest.raises(openai.PermissionDeniedError, match=r"api\.files\.read"):
                    await client.files.list()
                assert (await client.batches.list()).data
        async with serve(batches=False) as api:
            for asked in (api.upload(b"x"), api.client.batches.list(), api.client.batches.retrieve("batch_x")):
                with pytest.raises(openai.NotFoundError, match="Invalid URL"):
                    await asked

    uvloop.run(exchange())


def test_the_script_of_uploads(serve: "Serve") -> None:
    async def exchange() -> None:
        script = ("upload_lost", "upload_500", "upload_403", "upload_slow:0.05", "ok")
        async with serve(upload_script=script) as api:
            data = api.lines(2)
            with pytest.raises(openai.APIConnectionError):
                await api.upload(data, "lost.jsonl")
            with pytest.raises(openai.InternalServerError):
                await api.upload(data, "500.jsonl")
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await api.upload(data, "403.jsonl")
            assert (caught.value.type, caught.value.code) == ("invalid_request_error", None)
            with pytest.raises(openai.APITimeoutError):
                await api.client.with_options(timeout=0.02).files.create(file=("slow.jsonl", data), purpose="batch")
            await api.upload(data, "lost.jsonl")
            names = [file.filename async for file in api.client.files.list()]
            assert names == ["lost.jsonl", "slow.jsonl", "lost.jsonl"]
            figures = (await api.figures())["batches"]
            assert (figures["files"], figures["files_twice"]) == (3, 1)

    uvloop.run(exchange())


def test_the_script_of_creations(serve: "Serve", observed: "Observed") -> None:
    async def exchange() -> None:
        script = ("create_lost", "create_500", "create_late:0.2", "gone")
        async with serve(batch_script=script) as api:
            file = (await api.upload(api.lines(2))).id
            attempt = {"rowmill_run": "a", "rowmill_part": "0", "rowmill_try": "1"}

            async def listed() -> list[str]:
                return [(batch.metadata or {})["name"] async for batch in api.client.batches.list()]

            with pytest.raises(openai.APIConnectionError):
                await api.create(file, name="lost", **attempt)
            with pytest.raises(openai.InternalServerError):
                await api.create(file, name="500", **attempt)
            with pytest.raises(openai.APIConnectionError):
                await api.create(file, name="late", **attempt)
            assert await listed() == ["lost"]
            gone = await api.create(file, name="gone")
            for asked in (api.client.batches.retrieve(gone.id), api.client.batches.cancel(gone.id)):
                with pytest.raises(openai.NotFoundError):
                    await asked
            await observed(listed, lambda names: names == ["late", "lost"])
            for batch in (await api.client.batches.list()).data:
                assert (await api.over(batch)).status == "completed"
            figures = await api.figures()
            assert (figures["batches"]["created"], figures["batches"]["same_try"]) == (3, 1)
            assert (figures["repeated_after_success"], figures["answered_twice"]) == (2, 2)

    uvloop.run(exchange())


async def _read_through(api: "Api", file_id: str) -> None:
    async with api.client.files.with_streaming_response.content(file_id) as answer:
        async for _ in answer.iter_bytes():
            pass


def test_the_content_of_an_output_fails_as_scripted_and_then_no_more(serve: "Serve") -> None:
    async def exchange() -> None:
        async with serve(batch_script=("content_502", "content_cut")) as api:
            done = await api.result(api.lines(300))
            for _ in range(2):
                with pytest.raises(openai.InternalServerError) as caught:
                    await api.content(done.output_file_id)
                assert caught.value.status_code == 502
                assert caught.value.response.headers["content-type"].startswith("text/html")
            assert len(await api.content(done.output_file_id)) == 300
            done = await api.result(api.lines(300))
            with pytest.raises(httpx2.ReadError):
                await _read_through(api, done.output_file_id or "")
            assert len(await api.content(done.output_file_id)) == 300

    uvloop.run(exchange())


def test_an_upload_that_breaks_off_leaves_nothing(serve: "Serve", observed: "Observed", tmp_path: Path) -> None:
    async def stored() -> list[Path]:
        return list(tmp_path.glob("default/files/*"))  # noqa: ASYNC240 - nothing else runs in this loop but the server

    async def exchange() -> None:
        async with serve(state=str(tmp_path)) as api:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            head = b"POST /v1/files HTTP/1.1\r\nHost: s\r\nContent-Length: 9999\r\n"
            form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nhalf of it'
            writer.write(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + form)
            await observed(stored, lambda files: len(files) == 1)
            writer.transport.abort()
            await observed(stored, lambda files: not files)
            del reader
            assert [file.id async for file in api.client.files.list()] == []
            assert (await api.figures())["batches"]["files"] == 0

    uvloop.run(exchange())
