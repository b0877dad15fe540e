"""Files of parts: which rows they ask for, how far they go, what their lines are."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zlib_ng.zlib_ng import crc32

from rowmill.core.amounts import Amount
from rowmill.core.errors import RunDirectoryError
from rowmill.worker.batch.custom_ids import rows_of
from rowmill.worker.batch.parts import PartWriter
from tests.worker.batch.run_on_disk import SCHEMA, Process, RunOnDisk, estimate, limits, question, run, texts


async def store(process: Process, row: int, *outputs: str, usage: tuple[int, int] = (10, 7)) -> None:
    """Store replies to a row that were no answers, one for each try."""
    (shard,) = [each for each, _, _ in process.shards.stretches(row, row + 1)]
    assert shard is not None
    async with process.shards.open(shard) as opened:
        for number, output in enumerate(outputs, 1):
            opened.checkpoint.append_reply(row, number, usage, "no number", json.dumps(output).encode())


async def end(process: Process, *rows: int) -> None:
    for row in rows:
        (shard,) = [each for each, _, _ in process.shards.stretches(row, row + 1)]
        assert shard is not None
        async with process.shards.open(shard) as opened:
            opened.checkpoint.append(row, 1, 1, 0, "main", b'{"index":%d}' % row)


def test_a_line_is_the_request_that_the_live_api_would_get(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(25))
        part = await disk.process().build()
        assert part.ids == [f"r{row}" for row in range(25)]
        lines = [json.dumps(row).encode() for row in texts(25)]
        for line, row in zip(part.lines, lines, strict=True):
            assert line["body"] == json.loads(disk.task.build(row).body)
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        built, data = part.built, part.path.read_bytes()
        assert (built.size, built.crc) == (len(data), crc32(data))
        assert (built.first_row, built.end_row, built.requests, built.rows) == (0, 25, 25, 25)
        requests = [disk.task.build(row) for row in lines]
        assert built.tokens == sum(request.tokens for request in requests)
        assert built.reserved == sum((estimate(request.tokens) for request in requests), Amount())
        assert built.full is None

    run(story())


def test_rows_with_an_outcome_are_not_asked_for_again(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(30))
        process = disk.process()
        await end(process, 3, *range(10, 20), 29)
        assert process.shards.sealed(disk.shards[1])
        part = await process.build()
        assert [rows_of(name) for name in part.ids] == [
            (row, 1) for row in range(29) if row != 3 and not 10 <= row < 20
        ]
        assert (part.built.end_row, part.built.full) == (30, None)
        again = await process.build(5, 9)
        assert (again.ids, again.built.first_row, again.built.end_row) == (["r5", "r6", "r7", "r8"], 5, 9)

    run(story())


def test_rows_that_cannot_be_requests_fail_at_once_as_live_ones_do(tmp_path: Path) -> None:
    async def story() -> None:
        rows = [*texts(2), b"no JSON", {"id": 3, "no": "text"}, b"", {"id": 5, "text": " "}]
        disk = RunOnDisk(tmp_path, rows)
        process = disk.process()
        part = await process.build()
        assert part.ids == ["r0", "r1"]
        records = disk.records()
        assert {row: each["line"]["error"]["message"][:15] for row, each in records.items()} == {
            2: "the line is no ", 3: "the row has no ", 4: "the line is bla", 5: "the prompt is e",
        }  # fmt: skip
        assert {
            (each["line"]["error"]["class"], each["attempts"], each["requests"], each["provider"])
            for each in records.values()
        } == {("invalid_row", 1, 0, "")}
        again = await process.build()
        assert (again.ids, disk.records()) == (["r0", "r1"], records)

    run(story())


# How far a part goes


@pytest.mark.parametrize(
    ("name", "limit", "requests"),
    [
        ("requests", {"requests": 4}, 4),
        ("size", {"size": 700}, 5),
        ("rows", {"rows": 5}, 5),
        ("tokens", {"tokens": 80}, 5),
        ("amount", {"amount": Amount(inf, 100, inf)}, 3),
        ("amount", {"amount": Amount(2, inf, inf)}, 2),
        ("amount", {"amount": Amount(inf, inf, 0.1)}, 3),
    ],
)
def test_a_part_ends_before_the_request_that_has_no_room(
    tmp_path: Path, name: str, limit: dict[str, Any], requests: int
) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(9), shard_rows=4).process()
        part = await process.build(**limit)
        assert (part.built.full, part.built.requests, part.built.end_row) == (name, requests, requests)
        assert part.built.need == estimate(part.built.tokens // requests)
        seen = part.ids
        while part.built.full is not None:
            part = await process.build(part.built.end_row, **limit)
            seen += part.ids
        assert seen == [f"r{row}" for row in range(9)]

    run(story())


def test_the_budget_may_cover_nothing_but_a_first_request_is_never_too_many_tokens(tmp_path: Path) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(3)).process()
        nothing = await process.build(amount=Amount(inf, 20, inf))
        assert (nothing.lines, nothing.built.full, nothing.built.end_row) == ([], "amount", 0)
        assert nothing.built.need.tokens > 20
        one = await process.build(tokens=0)
        assert (one.ids, one.built.full) == (["r0"], "tokens")

    run(story())


def test_a_row_that_is_larger_than_a_file_may_be_fails(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, [*texts(1), {"id": 1, "text": "x" * 2000}, {"id": 2, "text": "y"}])
        part = await disk.process().build(size=1000)
        assert part.ids == ["r0", "r2"]
        error = disk.records()[1]["line"]["error"]
        assert error["class"] == "invalid_request"
        assert error["message"].startswith("its request of 21")
        assert error["message"].endswith("bytes is larger than a batch's file may be")

    run(story())


@settings(max_examples=15, deadline=None)
@given(st.data(), st.integers(1, 30), st.integers(1, 4), st.sampled_from([300, 900, 1 << 20]))
def test_parts_ask_for_every_row_without_an_outcome_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int, packed: int, size: int
) -> None:
    """Whatever the shards, the packs and the limits are; and no request crosses a shard or a row that is done."""

    async def story() -> None:
        invalid = data.draw(st.sets(st.integers(0, rows - 1), max_size=rows - 1))  # one at least shows what the file is
        lines = [b"no row" if row in invalid else each for row, each in enumerate(texts(rows))]
        shard_rows = data.draw(st.integers(1, 12))
        disk = RunOnDisk(tmp_path_factory.mktemp("part"), lines, shard_rows=shard_rows, rows_per_request=packed)
        process = disk.process()
        done = data.draw(st.sets(st.integers(0, rows - 1)))
        await end(process, *done)
        first, asked = 0, []
        while first < rows:
            part = await process.build(first, requests=data.draw(st.integers(1, 9)), size=size)
            asked += [rows_of(name) for name in part.ids]
            assert part.built.size <= size
            assert part.built.end_row > first
            first = part.built.end_row
        found = [row for start, count in filter(None, asked) for row in range(start, start + count)]
        starts = {shard.first_row for shard in disk.shards}
        if size > 300:
            assert found == [row for row in range(rows) if row not in done | invalid]
        assert len(set(found)) == len(found)
        for start, count in filter(None, asked):
            assert count <= packed
            assert not starts & set(range(start + 1, start + count))

    run(story())


# Packs


def test_rows_that_share_a_request_are_neighbours(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, [*texts(6), b"no row", *texts(12)[7:]], shard_rows=10, rows_per_request=4)
        process = disk.process()
        await end(process, 2)
        await store(process, 8, "wrong")
        part = await process.build()
        assert part.ids == ["r0x2", "r3x3", "r7", "r8", "r9", "r10x2"]
        assert (part.built.requests, part.built.rows) == (6, 10)
        requests = [disk.task.build(json.dumps(row).encode()) for row in texts(12)]
        assert part.lines[1]["body"] == json.loads(disk.task.pack(requests[3:6]).body)
        assert part.lines[2]["body"] == json.loads(requests[7].body)

    run(story())


def test_embeddings_go_out_as_lists(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(5), api="embeddings", rows_per_request=2)
        part = await disk.process().build(url="/v1/embeddings", rows=4)
        assert [line["body"]["input"] for line in part.lines] == [
            ["question 0", "question 1"], ["question 2", "question 3"],
        ]  # fmt: skip
        assert (part.ids, part.built.full, part.built.rows) == (["r0x2", "r2x2"], "rows", 4)
        assert part.lines[0]["url"] == "/v1/embeddings"

    run(story())


def test_a_pack_that_is_larger_than_a_file_may_be_is_halved(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, [{"id": n, "text": "x" * 500} for n in range(5)], rows_per_request=5)
        part = await disk.process().build(size=2300)
        assert part.ids == ["r0x2"]  # a half of three is still too large, and has no room beside the first
        assert part.built.full == "size"
        assert part.built.end_row == 2

    run(story())


# Rows that were replied to


def test_a_row_is_shown_the_replies_that_were_no_answers(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3), schema=SCHEMA)
        process = disk.process()
        await store(process, 1, "first", "second")
        part = await process.build()
        assert [len(line["body"]["messages"]) for line in part.lines] == [1, 3, 1]
        _, shown, correction = part.lines[1]["body"]["messages"]
        assert shown == {"role": "assistant", "content": "second"}
        assert "no number" in correction["content"]

    run(story())


def test_a_row_that_was_asked_often_enough_fails_with_its_last_reply(tmp_path: Path) -> None:
    """As a kill leaves it, between the reply and the failure."""

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(2), schema=SCHEMA)
        process = disk.process()
        await store(process, 1, "first", "second", "third")
        part = await process.build()
        assert part.ids == ["r0"]
        record = disk.records()[1]
        assert (record["line"]["error"]["class"], record["line"]["error"]["reply"]) == ("invalid_output", "third")
        assert (record["attempts"], record["requests"], record["usage"]) == (3, 3, [30, 21])
        assert record["ms"] < 1000

    run(story())


def test_a_row_of_a_pack_is_asked_alone_and_then_shown_its_reply(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3), schema=SCHEMA, rows_per_request=3)
        process = disk.process()
        await store(process, 0, "in the pack")
        await store(process, 1, "in the pack", "alone")
        part = await process.build()
        assert part.ids == ["r0", "r1", "r2"]
        assert [len(line["body"]["messages"]) for line in part.lines] == [1, 3, 1]
        assert part.lines[1]["body"]["messages"][1]["content"] == "alone"

    run(story())


# Bodies


def test_a_provider_s_own_model_is_asked(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(2))
        part = await disk.process().build(rewrite=disk.task.asking("theirs"))
        assert [line["body"]["model"] for line in part.lines] == ["theirs", "theirs"]
        assert question(part.lines[1]) == "question 1"

    run(story())


def test_a_body_of_a_batch_file_goes_out_on_one_line(tmp_path: Path) -> None:
    async def story() -> None:
        body = b'{"model": "m",\r "messages": [ {"role": "user", "content": "a  b"} ]}'
        row = b'{"custom_id": "own", "method": "POST", "url": "/v1/chat/completions", "body": %b}' % body
        disk = RunOnDisk(tmp_path, [row], model=None, prompt=None, id=None)
        part = await disk.process().build()
        assert part.path.read_bytes().count(b"\n") == 1
        assert b"\r" not in part.path.read_bytes()
        assert part.lines[0]["custom_id"] == "r0"
        assert part.lines[0]["body"] == json.loads(body)

    run(story())


# The file


def test_a_file_that_a_killed_process_has_left_is_written_over(tmp_path: Path) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(50)).process()
        data = (await process.build()).path.read_bytes()
        (tmp_path / "part.jsonl").write_bytes(data[:-30] + b"x" * 10_000)
        assert (await process.build()).path.read_bytes() == data

    run(story())


def test_the_file_is_written_in_blocks(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, [{"id": n, "text": "x" * 5000} for n in range(600)], shard_rows=600)
        process = disk.process()
        held = []
        writer = PartWriter(process.shards, tmp_path / "part", limits(), url="/v1/x", estimate=estimate, asks=3)
        write = writer._write
        writer._write = lambda: held.append(writer._block_size) or write()  # type: ignore[method-assign,func-returns-value]  # listens
        built = await writer.build(0, None)
        assert built.size == (tmp_path / "part").stat().st_size > 3_000_000
        assert max(held) < (1 << 20) + 256 * 5200
        assert len(held) > 2
        assert crc32((tmp_path / "part").read_bytes()) == built.crc

    run(story())


def test_an_input_that_has_changed_is_found_before_its_part_is_sent(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(20), shard_rows=20)
        data = bytearray((tmp_path / "in.jsonl").read_bytes())
        data[-5] ^= 1
        (tmp_path / "in.jsonl").write_bytes(data)
        with pytest.raises(RunDirectoryError, match="changed while the run"):
            await disk.process().build(requests=3)

    run(story())


def test_a_range_is_built_of_the_shards_that_are_known(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(30))
        await end(disk.process(), *range(10, 20))
        process = disk.process()  # shard 1 is sealed, and not assigned any more

        def writer(**more: Any) -> PartWriter:
            return PartWriter(process.shards, tmp_path / "part", limits(**more), url="/v1/x", estimate=estimate, asks=3)

        built = await writer().build(5, 20)
        assert (built.first_row, built.end_row, built.requests, built.full) == (5, 20, 5, None)
        built = await writer().build(10, 20)
        assert (built.first_row, built.end_row, built.requests) == (10, 20, 0)
        built = await writer(requests=7).build(5, 30)
        assert (built.end_row, built.requests, built.full) == (22, 7, "requests")
        full = writer(requests=7)
        assert repr(full) == "<PartWriter 0 requests, 0 bytes, next row 0, full None>"
        built = await full.build(5, 30)
        assert repr(full) == f"<PartWriter 7 requests, {built.size} bytes, next row 22, full requests>"

    run(story())


def test_parquet_rows_become_the_same_lines(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

    async def story() -> None:
        pq.write_table(pa.Table.from_pylist(texts(40)), tmp_path / "in.parquet")
        files = []
        for folder, path in (("a", None), ("b", tmp_path / "in.parquet")):
            (tmp_path / folder).mkdir()
            process = RunOnDisk(tmp_path / folder, texts(40), path=path).process()
            files.append((await process.build(3, requests=20)).path.read_bytes())
        assert files[0] == files[1]

    run(story())
