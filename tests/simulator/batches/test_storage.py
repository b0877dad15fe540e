"""Files and batches outlive the process where `state` says so, vanish where it does not, and never fill the memory."""

import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
import uvloop

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator import app
from rowmill.simulator.batches.objects import BatchObject, Entry, FileObject, Stored, move
from rowmill.simulator.batches.storage import Archive, Storage
from rowmill.simulator.process import SimulatorProcess

if TYPE_CHECKING:
    from tests.simulator.batches.conftest import Api, Observed

    Serve = Callable[..., AbstractAsyncContextManager[Api]]
    Connect = Callable[..., openai.AsyncOpenAI]


def test_a_new_server_goes_on_where_the_old_one_was(serve: "Serve", tmp_path: Path) -> None:
    async def exchange() -> None:
        settings: dict[str, Any] = {
            "state": str(tmp_path),
            "batch_s": 0.4,
            "batch_script": ("ok", "ok", "stuck:0.5", "create_500", "gone", "expired"),
            "prefix": "/east",
        }
        async with serve(**settings) as api:
            file = await api.upload(api.lines(400))
            first = await api.create(file.id, rowmill_run="a", rowmill_part="0", rowmill_try="1")
            done = await api.over(first)
            working = await api.create(file.id, rowmill_run="a", rowmill_part="1", rowmill_try="1")
            stuck = await api.create(file.id)
            with pytest.raises(openai.InternalServerError):
                await api.create(file.id)
            gone = await api.create(file.id)
            await api.until(stuck.id, lambda now: now.status == "in_progress")
            await api.client.batches.cancel(stuck.id)
            before = await api.content(done.output_file_id)
        async with serve(**settings) as api:
            assert (await api.client.files.retrieve(file.id)) == file
            assert (await api.client.batches.retrieve(first.id)) == done
            assert await api.content(done.output_file_id) == before
            with pytest.raises(openai.NotFoundError):
                await api.client.batches.retrieve(gone.id)
            ended = await api.over(working)
            assert ended.status == "completed"
            assert ended.request_counts == done.request_counts
            assert len(await api.content(ended.output_file_id)) == 400
            cancelled = await api.over(stuck)
            assert cancelled.status == "cancelled"
            assert cancelled.request_counts is not None
            completed = cancelled.request_counts.completed
            assert len(await api.content(cancelled.output_file_id)) == completed < 400
            assert len(await api.content(cancelled.error_file_id)) == 400 - completed
            expired = await api.over(await api.create(file.id, rowmill_run="a", rowmill_part="1", rowmill_try="1"))
            assert expired.status == "expired"
            figures = await api.figures()
            assert figures["batches"]["files"] == 1
            assert (figures["batches"]["created"], figures["batches"]["same_try"]) == (5, 1)
            assert figures["batches"]["by_status"] == {"cancelled": 1, "completed": 2, "expired": 1}
            assert figures["repeated_after_success"] == 400 + completed + 240
            assert len(list((tmp_path / "east/files").iterdir())) == 1 + 1 + 1 + 1 + (completed > 0) + 2

    uvloop.run(exchange())


def test_a_killed_process_loses_nothing_and_its_successor_waits_for_the_lock(
    connect: "Connect", observed: "Observed", tmp_path: Path
) -> None:
    def process() -> SimulatorProcess:
        simulator = SimulatorProcess(SimulatorSettings(latency_ms=0, batch_s=0.5, state=str(tmp_path)))
        simulator.start()
        return simulator

    data = b"".join(
        json.dumps(
            {
                "custom_id": f"r{row}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "m", "input": f"{row}"},
            }
        ).encode()
        + b"\n"
        for row in range(100)
    )

    async def begin(port: int) -> str:
        async with connect(port) as client:
            file = await client.files.create(file=("a.jsonl", data), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
            )
            await observed(lambda: client.batches.retrieve(batch.id), lambda now: now.status == "in_progress")
            return batch.id

    async def end(port: int, batch_id: str) -> int:
        async with connect(port) as client:
            batch = await observed(lambda: client.batches.retrieve(batch_id), lambda now: now.status == "completed")
            return len((await client.files.content(batch.output_file_id or "")).text.splitlines())

    first, second = process(), process()
    batch_id = ""
    try:
        # Whichever of them came first has the state; the other one waits.
        readers = {first: second, second: first}
        ready = next(each for each in _polled(readers) if each is not None)
        batch_id = uvloop.run(begin(ready.wait_ready()))
        os.kill(ready.pid or 0, signal.SIGKILL)
        assert uvloop.run(end(readers[ready].wait_ready(), batch_id)) == 100
    finally:
        first.stop()
        second.stop()


def _polled(simulators: Any) -> Any:
    for _ in range(1000):
        for simulator in simulators:
            try:
                simulator.wait_ready(0.01)
            except TimeoutError:
                yield None
            else:
                yield simulator


def test_a_state_that_stays_in_use_or_cannot_be_written_is_refused(
    serve: "Serve", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_CLAIM_S", 0.1)

    async def exchange() -> None:
        async with serve(state=str(tmp_path / "state")):
            with pytest.raises(OSError, match="another simulator uses this directory"):
                async with serve(state=str(tmp_path / "state")):
                    pass
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="exists"):
            async with serve(state=str(tmp_path / "file")):
                pass

    uvloop.run(exchange())


def test_without_a_state_nothing_is_left_and_nothing_is_made_for_nothing(
    serve: "Serve", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def made(pattern: str) -> list[Path]:
        return list(tmp_path.glob(pattern))

    async def exchange() -> None:
        async with serve(batch_s=60.0) as api:
            await api.client.models.list()
            assert not made("*")
            await api.start(api.lines(5))
            assert made("rowmill-simulator-*/default/files/*")

    uvloop.run(exchange())
    assert not made("*")


def _stored(file_id: str) -> Stored:
    return Stored(file=FileObject(id=file_id, bytes=1, created_at=1, filename="a.jsonl", purpose="batch"))


@pytest.mark.parametrize("torn", [b"", b'{"file":{"fi', b"\xff\x00", b'{"batches":"x"}\n'])
def test_a_torn_last_line_of_the_journal_costs_nothing_else(tmp_path: Path, torn: bytes) -> None:
    storage = Storage(tmp_path)
    for name in ("one", "two"):
        storage.path(name).write_bytes(b"x")
        storage.add(_stored(name))
    storage.path("unfinished").write_bytes(b"x")
    storage.drop("one")
    assert (storage.next_batch(), storage.next_batch(), storage.next_upload()) == (0, 1, 0)
    storage.close()
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(torn)
    for uploads in (1, 2):
        storage = Storage(tmp_path)
        assert (set(storage.files), storage.batches, storage.uploads) == ({"two"}, 2, uploads)
        assert [path.name for path in (tmp_path / "files").iterdir()] == ["two"]
        storage.next_upload()
        storage.close()


def test_the_last_word_about_a_batch_counts(tmp_path: Path) -> None:
    batch = BatchObject(
        id="b", endpoint="/v1/embeddings", input_file_id="f", completion_window="24h", created_at=1, expires_at=2
    )
    entry = Entry(number=0, word="ok", born=1.5, batch=batch)
    storage = Storage(tmp_path)
    storage.save(entry)
    move(batch, "in_progress", 3.7)
    storage.save(entry)
    storage.close()
    again = Storage(tmp_path)
    assert again.entries == {"b": entry}
    assert (again.entries["b"].batch.status, again.entries["b"].batch.in_progress_at) == ("in_progress", 3)
    again.close()
    with pytest.raises(ValueError, match="in_progress cannot become completed"):
        move(batch, "completed", 4)


def test_an_archive_without_a_state_is_always_free() -> None:
    archives = [Archive(None), Archive(None)]
    assert all(archive.claim() for archive in archives)
    for archive in archives:
        archive.close()


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory of a process from /proc")
def test_a_file_never_lies_in_memory_up_or_down(connect: "Connect", observed: "Observed") -> None:
    """Of 30 MB sent, worked on and fetched, the peak grows by the buffers only."""
    simulator = SimulatorProcess(SimulatorSettings(latency_ms=0, batch_s=0))
    simulator.start()

    async def exchange(port: int, rows: int) -> int:
        text = "long text " * 3000
        line = '{"custom_id":"r%d","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"%s"}}\n'
        data = "".join(line % (row, text) for row in range(rows)).encode()
        async with connect(port) as client:
            file = await client.files.create(file=("a.jsonl", data), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
            )
            done = await observed(lambda: client.batches.retrieve(batch.id), lambda now: now.status == "completed")
            for file_id in (file.id, done.output_file_id or ""):
                async with client.files.with_streaming_response.content(file_id) as answer:
                    async for _ in answer.iter_bytes():
                        pass
        return len(data)

    try:
        port = simulator.wait_ready()
        assert simulator.pid is not None
        uvloop.run(exchange(port, 1))  # everything is loaded now
        before = _peak_kb(simulator.pid)
        sent = uvloop.run(exchange(port, 1000))
        assert sent > 29_000_000
        assert _peak_kb(simulator.pid) - before < 16_000
    finally:
        simulator.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
