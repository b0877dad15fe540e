"""Results become the outcomes that live replies would have become; what has none is left to the next try."""

import asyncio
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

import rowmill.worker.batch.shards
from rowmill.core.amounts import Spent
from rowmill.core.errors import DefectError
from rowmill.core.wire import Reply
from rowmill.store.output_lines import failure_line, result_line
from rowmill.store.run_directory import RunDirectory
from rowmill.transport import faults
from tests.worker.batch.run_on_disk import (
    SCHEMA,
    Part,
    RunOnDisk,
    answered,
    completion,
    question,
    refused,
    replied,
    run,
    texts,
    unasked,
    written,
)


def n_of(line: dict[str, Any]) -> int:
    """Return which row a line asks about first."""
    text = next(each["content"] for each in line["body"]["messages"] if each["role"] == "user")
    return int(json.loads(text)[0]["prompt"].split()[1] if text.startswith("[") else text.split()[1])


def answers(part: Part) -> list[dict[str, Any]]:
    """Answer every line of a part, as plain text."""
    return [answered(line["custom_id"], completion(f"to {question(line)}")) for line in part.lines]


# Answers


def test_every_row_gets_the_bytes_that_the_live_path_writes(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(95), shard_rows=30)
        process = disk.process()
        part = await process.build()
        lines = answers(part)
        bodies = {line["custom_id"]: json.dumps(line["response"]["body"]).encode() for line in lines}
        Random(1).shuffle(lines)
        lines[40] = refused(lines[40]["custom_id"], 400, "bad  row", "invalid_value")
        wrong = int(lines[40]["custom_id"][1:])
        output = written(tmp_path / "output", lines[:40] + lines[60:])
        errors = written(tmp_path / "errors", lines[40:60])
        found = await process.collect(part, errors, output)
        assert (found.answered, found.failed, found.left) == (94, 1, 0)
        assert (found.spent, found.wasted) == (Spent(94, 940, 0, 658), Spent())
        assert (found.unknown, found.closed) == (0, None)
        assert found.faults == {"invalid_request": 1}
        expected = []
        for row in range(95):
            request = disk.task.build(json.dumps(texts(95)[row]).encode())
            if row == wrong:
                body = json.dumps(refused("", 400, "bad  row", "invalid_value")["response"]["body"]).encode()
                failure = faults.classify(Reply(400, body, lambda _: None))
                assert failure is not None
                expected.append(failure_line(row, request.id, failure, b""))
            else:
                expected.append(result_line(row, request.id, disk.task.parse(bodies[f"r{row}"]), b""))
        assert disk.output() == expected
        assert sorted(process.sealed) == [0, 1, 2, 3]
        assert sum(totals.requests for totals in process.sealed.values()) == 95

    run(story())


@pytest.mark.parametrize("packed", [1, 4])
def test_a_usage_that_no_request_can_have_counts_as_what_the_others_cost(tmp_path: Path, packed: int) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(8), schema=SCHEMA, rows_per_request=packed)
        process = disk.process()
        part = await process.build()
        lines = []
        for number, line in enumerate(part.lines):
            n = n_of(line)
            rows = [{"id": str(place), "answer": {"n": n + place}} for place in range(1, packed + 1)]
            tokens = (10**11, 10**11) if number == 1 else (10, 7)
            lines.append(
                answered(line["custom_id"], completion({"answers": rows} if packed > 1 else {"n": n}, tokens=tokens))
            )
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert (found.answered, found.odd_usage) == (8, 1)
        assert found.spent == Spent(8 // packed, 80 // packed, 0, 56 // packed)
        assert sum(record["usage"][0] for record in disk.records().values()) == 80 // packed

    run(story())


@pytest.mark.parametrize("place", ["build", "parse", "result", "reply", "classify"])
def test_a_defect_is_the_failure_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(8), schema=SCHEMA)
        process = disk.process()
        holder: Any = {"result": process.shards.writer, "reply": process.shards.writer, "classify": faults}.get(
            place, disk.task
        )
        real = getattr(holder, place)

        def broken(*arguments: Any) -> Any:
            for each in arguments:
                index, text = getattr(each, "index", None), getattr(each, "body", each)
                if index == 3 or (isinstance(text, bytes) and (b"question 3" in text or b'\\"n\\": 3' in text)):
                    raise KeyError("x")
            return real(*arguments)

        monkeypatch.setattr(holder, place, broken)
        part = await process.build()
        lines = []
        for line in part.lines:
            n = n_of(line)
            lines.append(answered(line["custom_id"], completion("no" if place == "reply" and n == 3 else {"n": n})))
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert found.answered == 7
        failed = {row: record["line"]["error"] for row, record in disk.records().items() if record["failed"]}
        assert [(row, error["class"]) for row, error in failed.items()] == [(3, "internal_error")]
        assert "KeyError at test_collect.py" in failed[3]["message"]

    run(story())


@pytest.mark.parametrize("place", ["build", "pack", "parse"])
def test_a_defect_that_every_row_meets_ends_the_run_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(150), schema=SCHEMA, rows_per_request=4 if place == "pack" else 1)
        process = disk.process()
        part = await process.build() if place == "parse" else None

        def broken(*_: Any) -> Any:
            raise KeyError("x")

        monkeypatch.setattr(disk.task, place, broken)
        with pytest.raises(DefectError, match=r"the same error on 100 rows, one after the other: .*KeyError at"):
            await (process.collect(part, written(tmp_path / "output", answers(part))) if part else process.build())

    run(story())


def test_what_the_output_includes_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, [{"id": 1, "text": "question 0", "more": [1]}])
        process = disk.process(include=("input", "meta"))
        part = await process.build()
        await process.collect(part, written(tmp_path / "output", answers(part)))
        line = disk.records()[0]["line"]
        assert line["input"] == {"id": 1, "text": "question 0", "more": [1]}
        assert {**line["meta"], "ms": 0} == {"provider": "main", "attempts": 1, "requests": 1, "ms": 0}

    run(story())


def test_replies_are_kept_whole_where_the_output_is_that_of_a_batch(tmp_path: Path) -> None:
    async def story() -> None:
        row = {
            "custom_id": "own",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": []},
        }
        disk = RunOnDisk(tmp_path, [row], model=None, prompt=None, id=None, whole_reply=True)
        process = disk.process()
        part = await process.build()
        body = completion("a")
        await process.collect(part, written(tmp_path / "output", [answered("r0", body)]))
        record = disk.records()[0]
        assert (record["line"]["id"], record["line"]["output"], record["usage"]) == ("own", body, [10, 7])

    run(story())


def test_a_table_gives_the_same_lines(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

    async def story() -> None:
        pq.write_table(pa.Table.from_pylist(texts(30)), tmp_path / "in.parquet")
        outputs = []
        for folder, path in (("a", None), ("b", tmp_path / "in.parquet")):
            (tmp_path / folder).mkdir()
            disk = RunOnDisk(tmp_path / folder, texts(30), path=path)
            process = disk.process()
            part = await process.build()
            await process.collect(part, written(tmp_path / folder / "output", answers(part)))
            outputs.append(disk.output())
        assert outputs[0] == outputs[1]
        assert len(outputs[0]) == 30

    run(story())


# Rows that are left


def test_only_what_has_no_result_is_asked_again(tmp_path: Path) -> None:
    """An expired batch at 60%: the finished rows count, the others are the next try's, and no attempt is spent."""

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(50))
        process = disk.process()
        part = await process.build()
        lines = answers(part)
        errors = written(tmp_path / "errors", [unasked(line["custom_id"]) for line in lines[30:]])
        found = await process.collect(part, written(tmp_path / "output", lines[:30]), errors, completed=False, most=1)
        assert (found.answered, found.left, found.expired, found.tried, found.missing) == (30, 20, 20, 0, 0)
        assert found.spent == Spent(30, 300, 0, 210)
        following = await process.build()
        assert following.ids == [f"r{row}" for row in range(30, 50)]
        found = await process.collect(following, written(tmp_path / "output", answers(following)), number=2)
        assert (found.answered, found.left) == (20, 0)
        assert disk.records()[40]["requests"] == 2
        assert disk.records()[40]["attempts"] == 1

    run(story())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (None, "server_error"),
        (refused("r1", 500, "broken"), "server_error"),
        (refused("r1", 408), "timeout"),
        (replied("r1", 502, "<html>"), "server_error"),
        (replied("r1", 0, None), "server_error"),
        ({"custom_id": "r1", "response": None, "error": {"code": "request_timeout", "message": "x"}}, "server_error"),
        (answered("r1", None), "bad_reply"),
        (answered("r1", {"choices": []}), "bad_reply"),
        (b'{"custom_id": "r1", "response": {"status_code": 200, "body": {"a": "\xff"}}}', "bad_reply"),
    ],
)
def test_a_row_that_came_to_nothing_is_tried_again_until_its_attempts_are_used_up(
    tmp_path: Path, line: Any, fault: str
) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3))
        process = disk.process()
        part = await process.build()
        lines = [each for each in answers(part) if each["custom_id"] != "r1"]
        output = written(tmp_path / "output", lines + [line] * (line is not None))
        found = await process.collect(part, output, earlier=[3], number=2, most=3)
        assert (found.answered, found.left, found.tried, found.missing) == (2, 1, 1, line is None)
        assert 1 not in disk.records()
        part = await process.build()
        assert part.ids == ["r1"]
        output = written(tmp_path / "output", [line] * (line is not None))
        found = await process.collect(part, output, earlier=[3, 3], number=3, most=3)
        assert (found.failed, found.left) == (1, 0)
        record = disk.records()[1]
        assert (record["line"]["error"]["class"], record["attempts"], record["requests"]) == (fault, 3, 3)
        if line is None:
            assert record["line"]["error"]["message"] == "the batch brought no result for this row"

    run(story())


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limit_exceeded"), (503, None), (429, "slow_down")])
def test_a_refusal_spends_no_attempt_but_not_for_ever(tmp_path: Path, status: int, code: str | None) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1))
        process = disk.process()
        part = await process.build()
        output = written(tmp_path / "output", [refused("r0", status, "later", code)])
        for number in range(1, 22):
            found = await process.collect(part, output, number=number, earlier=[1] * (number - 1), most=2)
            assert (found.left, found.tried) == (1, 0)
        found = await process.collect(part, output, number=22, earlier=[1] * 21, most=2)
        assert (found.left, found.failed) == (0, 1)

    run(story())


def test_tries_that_had_no_room_for_a_row_do_not_count_against_it(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4))
        process = disk.process()
        part = await process.build()
        output = written(tmp_path / "output", [refused(f"r{row}", 500, "broken") for row in range(4)])
        found = await process.collect(part, output, number=40, earlier=[0] * 30 + [1, 1, 2, 3], most=3)
        # The first row was in four tries, the next one in two, and so on.
        assert (found.failed, found.left, found.tried) == (2, 2, 2)
        assert {row: record["attempts"] for row, record in disk.records().items()} == {0: 5, 1: 3}

    run(story())


def test_a_batch_that_was_broken_off_has_tried_nothing_that_it_has_no_result_for(tmp_path: Path) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(4)).process()
        part = await process.build()
        lines = [answers(part)[0], unasked("r1", "batch_cancelled")]
        found = await process.collect(part, written(tmp_path / "output", lines), completed=False, most=1)
        assert (found.answered, found.left, found.expired, found.missing, found.failed) == (1, 3, 1, 0, 0)

    run(story())


def test_rows_that_were_not_asked_for_in_the_try_are_left_without_a_mark(tmp_path: Path) -> None:
    """The part's file had no room for them, or their failures were taken back after it was sent."""

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(6))
        process = disk.process()
        part = await process.build(requests=4)
        lines = answers(part)
        found = await process.collect(part, written(tmp_path / "output", lines[1:3]), most=1, end_row=6)
        assert (found.answered, found.failed, found.missing, found.left) == (2, 2, 2, 2)
        assert sorted(disk.records()) == [0, 1, 2, 3]
        found = await process.collect(part, written(tmp_path / "output", lines), most=1, end_row=6)
        assert (found.failed, found.left) == (0, 2)  # no result is missing, whether the file is there or not
        part.path.unlink()
        found = await process.collect(part, written(tmp_path / "output", lines), most=1, end_row=6)
        assert (found.failed, found.left) == (0, 2)

    run(story())


# Failures


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (400, "context_length_exceeded", "context_length"),
        (400, "content_filter", "content_filter"),
        (422, None, "invalid_request"),
        (413, None, "too_large"),
    ],
)
def test_what_is_the_row_s_own_fault_is_final(tmp_path: Path, status: int, code: str | None, fault: str) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(2))
        process = disk.process()
        part = await process.build()
        lines = [answers(part)[0], refused("r1", status, "with sk-secret", code)]
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert (found.failed, found.left, found.faults) == (1, 0, {fault: 1})
        record = disk.records()[1]
        error = record["line"]["error"]
        assert (error["class"], error["code"], error["status"]) == (fault, code, status)
        assert (error["message"], record["attempts"], record["provider"]) == ("with [redacted]", 1, "main")

    run(story())


@pytest.mark.parametrize(("status", "code"), [(401, None), (404, "model_not_found"), (429, "insufficient_quota")])
def test_what_would_fail_every_row_fails_none(tmp_path: Path, status: int, code: str | None) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3))
        process = disk.process()
        part = await process.build()
        lines = [answers(part)[0], refused("r1", status, "first", code), refused("r2", status, "second", code)]
        found = await process.collect(part, written(tmp_path / "output", lines), most=1)
        assert (found.answered, found.failed, found.left, found.tried) == (1, 0, 2, 0)
        assert found.closed is not None
        assert found.closed.message == "first"
        assert list(disk.records()) == [0]

    run(story())


def test_a_model_that_declines_has_failed_the_row_and_is_paid(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1))
        process = disk.process()
        part = await process.build()
        body = completion(None)
        body["choices"][0]["message"] = {"content": None, "refusal": "I will not"}
        found = await process.collect(part, written(tmp_path / "output", [answered("r0", body)]))
        assert (found.failed, found.spent, found.wasted) == (1, Spent(1, 10, 0, 7), Spent(1, 10, 0, 7))
        error = disk.records()[0]["line"]["error"]
        assert (error["class"], error["code"], error["message"]) == ("content_filter", "refusal", "I will not")

    run(story())


def test_a_row_that_cannot_become_a_request_fails_also_here(tmp_path: Path) -> None:
    """Its failure was taken back after the part's file was written."""

    async def story() -> None:
        disk = RunOnDisk(tmp_path, [*texts(1), b"no row"])
        process = disk.process()
        part = await process.build()
        later = disk.process(retry_failed=True)
        found = await later.collect(part, written(tmp_path / "output", answers(part)), end_row=2)
        assert (found.answered, found.failed, found.left) == (1, 1, 0)
        assert disk.records()[1]["line"]["error"]["class"] == "invalid_row"

    run(story())


# What it cost


def test_everything_that_was_answered_is_paid_for(tmp_path: Path) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(5), schema=SCHEMA).process()
        part = await process.build()
        lines = [
            answered("r0", completion({"n": 0}, tokens=(100, 1), cached=60)),
            answered("r1", completion("wrong", tokens=(200, 2), cached=30)),
            answered("r2", {"choices": [], "usage": {"input_tokens": 300, "output_tokens": 3}}),
            answered("r77", completion({"n": 7}, tokens=(400, 4))),
            answered("their-own", {"no": "usage"}),
            refused("r3", 500),
            refused("other", 500),
        ]
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert found.spent == Spent(5, 1000, 90, 10)
        assert found.wasted == Spent(4, 900, 30, 9)
        assert (found.unknown, found.answered, found.left, found.missing) == (3, 1, 4, 1)

    run(story())


# Replies that are no valid answers


def test_a_reply_without_an_answer_is_tried_again_once_and_kept_with_what_the_output_includes(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(2), parts=("reasoning", "message"))
        process = disk.process(include=("reasoning", "message"))
        part = await process.build()
        thought = {"content": None, "reasoning_content": "hm"}
        empty = {"choices": [{"message": thought, "finish_reason": "stop"}], "model": "m"}
        lines = [refused("r0", 500, "no"), answered("r1", completion("a"))]
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert (found.answered, found.left, found.failed, found.once) == (1, 1, 0, [])
        part = await process.build()
        output = written(tmp_path / "output", [answered("r0", empty)])
        found = await process.collect(part, output, number=2, earlier=[10])
        assert (found.left, found.once) == (1, [0]), "what failed before was of another kind"
        part = await process.build()
        found = await process.collect(part, output, number=3, earlier=[10, 10], once=found.once)
        assert (found.left, found.failed, found.faults) == (0, 1, {"empty_reply": 1})
        failed, good = (disk.records()[row]["line"] for row in (0, 1))
        assert (failed["error"]["class"], failed["error"]["reply"]) == ("empty_reply", "hm")
        assert (failed["reasoning"], failed["message"]) == ("hm", thought)
        assert (good["output"], good["reasoning"], good["message"]["content"]) == ("a", None, "a")

    run(story())


def test_a_row_is_shown_what_was_wrong_in_the_next_try_until_it_is_right(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3), schema=SCHEMA)
        process = disk.process()
        part = await process.build()
        lines = [answered(line["custom_id"], completion({"n": n_of(line)})) for line in part.lines]
        lines[1] = answered("r1", completion("no"))
        found = await process.collect(part, written(tmp_path / "output", lines))
        assert (found.answered, found.left, found.reasked, found.tried) == (2, 1, 1, 0)
        part = await process.build()
        assert [each["role"] for each in part.lines[0]["body"]["messages"]] == ["user", "assistant", "user"]
        found = await process.collect(
            part, written(tmp_path / "output", [answered("r1", completion({"n": 1}))]), number=2, earlier=[3]
        )
        record = disk.records()[1]
        assert record["line"]["output"] == {"n": 1}
        assert (record["attempts"], record["requests"], record["usage"]) == (2, 2, [20, 14])

    run(story())


def test_a_row_that_is_never_right_fails_with_its_last_reply(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1), schema=SCHEMA)
        process = disk.process()
        for number in (1, 2, 3):
            part = await process.build()
            output = written(tmp_path / "output", [answered("r0", completion(f"no {number}"))])
            found = await process.collect(part, output, number=number, earlier=[10] * (number - 1))
            assert (found.left, found.failed) == ((1, 0) if number < 3 else (0, 1))
        record = disk.records()[0]
        assert (record["line"]["error"]["class"], record["line"]["error"]["reply"]) == ("invalid_output", "no 3")
        assert (record["attempts"], record["requests"], record["usage"]) == (3, 3, [30, 21])

    run(story())


def test_a_reply_is_stored_once_however_often_it_is_collected(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1), schema=SCHEMA)
        for number, texts_of_try in ((1, ["no"]), (2, ["no"])):
            part = await disk.process().build()
            output = written(tmp_path / "output", [answered("r0", completion(text)) for text in texts_of_try])
            for _ in range(3):
                found = await disk.process().collect(part, output, number=number)
                assert (found.left, found.failed, found.spent) == (1, 0, Spent(1, 10, 0, 7))
            assert [each["requests"] for each in disk.replies(0)] == list(range(1, number + 1))

    run(story())


# Packs


def pack_reply(part: Part, *, wrong: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Answer packs and single rows; the wrong ones with what does not fit the schema."""
    lines = []
    for line in part.lines:
        first, count = n_of(line), int((line["custom_id"].partition("x")[2]) or 1)
        values = [{"n": "?"} if row in wrong else {"n": row} for row in range(first, first + count)]
        packed = {"answers": [{"id": str(place), "answer": value} for place, value in enumerate(values, 1)]}
        lines.append(answered(line["custom_id"], completion(packed if count > 1 else values[0])))
    return lines


def test_rows_of_a_pack_have_their_answers_and_share_what_it_cost(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(10), schema=SCHEMA, rows_per_request=4, shard_rows=9)
        process = disk.process()
        part = await process.build()
        assert part.ids == ["r0x4", "r4x4", "r8", "r9"]
        lines = pack_reply(part)
        found = await process.collect(part, written(tmp_path / "output", lines[::-1]))
        assert (found.answered, found.packed) == (10, 8)
        assert found.spent == Spent(4, 40, 0, 28)
        records = disk.records()
        assert [records[row]["line"]["output"] for row in range(10)] == [{"n": row} for row in range(10)]
        assert [records[row]["requests"] for row in range(10)] == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1]
        assert [records[row]["usage"] for row in range(4)] == [[3, 2], [3, 2], [2, 2], [2, 1]]
        body = json.dumps(lines[0]["response"]["body"]).encode()
        expected = []
        for row, answer in enumerate(disk.task.unpack(body, 4)):
            assert not isinstance(answer, Exception)
            expected.append(result_line(row, b'"row-%d"' % row, answer, b""))
        assert disk.output()[:4] == expected

    run(story())


def test_a_row_that_is_wrong_in_a_pack_is_asked_alone(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(8), schema=SCHEMA, rows_per_request=4)
        process = disk.process()
        part = await process.build()
        found = await process.collect(part, written(tmp_path / "output", pack_reply(part, wrong=(0, 2))))
        assert (found.answered, found.left, found.reasked) == (6, 2, 2)
        assert found.wasted == Spent(0, 5, 0, 4)
        assert [disk.records()[row]["requests"] for row in (1, 3)] == [1, 0]
        for number in (2, 3, 4):
            part = await process.build()
            assert part.ids == (["r0", "r2"] if number == 2 else ["r2"])
            output = written(tmp_path / "output", pack_reply(part, wrong=(2,)))
            found = await process.collect(part, output, number=number, earlier=[10] * (number - 1))
        assert (found.failed, found.left) == (1, 0)
        assert disk.records()[2]["line"]["error"]["class"] == "invalid_output"
        assert len(disk.replies(2)) == 4  # one in the pack, and as many alone as there are asks

    run(story())


@pytest.mark.parametrize("line", [refused("r0x4", 400, "too long"), answered("r0x4", {"choices": []})])
def test_where_one_row_may_be_at_fault_all_are_asked_alone(tmp_path: Path, line: dict[str, Any]) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4), schema=SCHEMA, rows_per_request=4)
        part = await disk.process().build()
        for _ in range(2):
            found = await disk.process().collect(part, written(tmp_path / "output", [line]), most=1)
            assert (found.failed, found.left) == (0, 4)
        assert [len(disk.replies(row)) for row in range(4)] == [1] * 4
        process = disk.process()
        part = await process.build()
        assert part.ids == ["r0", "r1", "r2", "r3"]
        lines = [*pack_reply(part)[1:], refused("r0", 400, "too long")]
        found = await process.collect(part, written(tmp_path / "output", lines), number=2, earlier=[4])
        assert (found.answered, found.failed) == (3, 1)
        assert disk.records()[1]["usage"] == [10, 7]

    run(story())


@pytest.mark.parametrize("most", [1, 2])
def test_a_pack_that_came_to_nothing_is_tried_again_whole(tmp_path: Path, most: int) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(7), api="embeddings", rows_per_request=4)
        process = disk.process()
        part = await process.build(url="/v1/embeddings")
        data = [{"index": place, "embedding": "AACAPw=="} for place in (2, 0, 1)]
        lines = [refused("r0x4", 500), answered("r4x3", {"data": data, "model": "e", "usage": {"prompt_tokens": 6}})]
        found = await process.collect(part, written(tmp_path / "output", lines), most=most)
        assert (found.answered, found.packed, found.faults) == (3, 3, {"server_error": 1})
        if most == 2:
            assert (found.left, found.tried) == (4, 4)
            assert (await process.build()).ids == ["r0x4"]
        else:
            assert (found.left, found.failed) == (0, 4)
            assert [disk.records()[row]["requests"] for row in range(4)] == [1, 0, 0, 0]

    run(story())


def test_ids_of_packs_that_cannot_be_are_nobody_s(tmp_path: Path) -> None:
    async def story() -> None:
        process = RunOnDisk(tmp_path, texts(4)).process()
        part = await process.build()
        lines = [answered(name, completion("?")) for name in ("r0x2", "r4", "r-1", "r3x9", "")]
        found = await process.collect(part, written(tmp_path / "output", lines + answers(part)))
        assert (found.answered, found.unknown) == (4, 4)

    run(story())


# Kills


class Killed:
    """A try with every kind of result, to be collected by processes that are killed."""

    def __init__(self, folder: Path) -> None:
        rows = [b"no row" if row == 20 else each for row, each in enumerate(texts(30))]
        self.disk = RunOnDisk(folder, rows, schema=SCHEMA, rows_per_request=4, shard_rows=9)

    async def sent(self) -> None:
        self.part = await self.disk.process().build()
        assert self.part.ids[:4] == ["r0x4", "r4x4", "r8", "r9x4"]
        lines = {line["custom_id"]: line for line in pack_reply(self.part, wrong=(1, 2, 8))}
        lines["r9x4"] = refused("r9x4", 400, "too long")
        lines["r13x4"] = refused("r13x4", 500)
        lines["r21x4"] = unasked("r21x4")
        lines["r17"] = refused("r17", 400, "bad")
        del lines["r18x2"]
        self.output = written(self.disk.folder / "output", reversed(lines.values()))

    async def collected(self, run_directory: Path) -> dict[str, Any]:
        """Collect to the end with what is in this directory; return all that must not depend on kills."""
        disk = self.disk
        disk.directory = RunDirectory(run_directory)
        found = await disk.process().collect(self.part, self.output)
        return {
            "records": {row: {**each, "ms": 0} for row, each in disk.records().items()},
            "replies": {row: disk.replies(row) for row in range(disk.rows)},
            "left": (found.left, found.reasked, found.expired, found.missing),
            "spent": (found.spent, found.wasted),
            "output": disk.output(),
        }


def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowmill.worker.batch.shards, "GROUP_BYTES", 1)
    monkeypatch.setattr(rowmill.worker.batch.shards, "_STEP_ROWS", 3)


def test_a_collection_that_is_killed_after_any_group_is_done_again_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _often(monkeypatch)

    async def story() -> None:
        killed = Killed(tmp_path)
        await killed.sent()
        run_directory = killed.disk.directory.path
        snapshots: list[Path] = []

        def copy() -> None:
            snapshots.append(tmp_path / f"snapshot-{len(snapshots)}")
            shutil.copytree(run_directory, snapshots[-1])

        process = killed.disk.process()
        process.on_synced = copy
        copy()
        found = await process.collect(killed.part, killed.output)
        assert (found.answered, found.failed, found.left) == (11, 1, 17)
        assert found.spent == Spent(5, 50, 0, 35)
        end = await killed.collected(run_directory)
        assert len(end["records"]) == 13
        assert len(end["output"]) == 3
        assert [len(end["replies"][row]) for row in (1, 2, 8, 9, 12)] == [1] * 5
        assert len(snapshots) >= 8
        for snapshot in snapshots:
            assert await killed.collected(snapshot) == end

    run(story())


def test_a_collection_that_is_killed_in_the_middle_of_a_pack_is_done_again_to_the_same_end(tmp_path: Path) -> None:
    async def story() -> None:
        killed = Killed(tmp_path)
        await killed.sent()
        run_directory = killed.disk.directory.path
        end = await killed.collected(run_directory)
        path = killed.disk.directory.checkpoint_path(killed.disk.shards[0])
        ends = [match.end() for match in re.finditer(rb"\n", path.read_bytes())]
        assert len(ends) >= 10
        for number, cut in enumerate(ends):
            torn = tmp_path / f"torn-{number}"
            shutil.copytree(run_directory, torn)
            os.truncate(torn / "checkpoints" / path.name, cut)
            assert await killed.collected(torn) == end

    run(story())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that was just being opened
@pytest.mark.parametrize("groups", [1, 2, 4, 6])
def test_a_collection_that_is_cancelled_is_done_again_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    _often(monkeypatch)

    async def story() -> None:
        killed = Killed(tmp_path)
        await killed.sent()
        shutil.copytree(killed.disk.directory.path, tmp_path / "whole")
        end = await killed.collected(tmp_path / "whole")
        killed.disk.directory = RunDirectory(tmp_path / "run")
        seen = 0

        def count() -> None:
            nonlocal seen
            seen += 1
            if seen == groups:
                task.cancel()

        process = killed.disk.process()
        process.on_synced = count
        task = asyncio.ensure_future(process.collect(killed.part, killed.output))
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert process.writer.pending_bytes == 0
        assert await killed.collected(tmp_path / "run") == end

    run(story())


def test_shards_that_were_sealed_before_the_kill_still_count_what_they_cost(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(30))
        part = await disk.process().build()
        lines = answers(part)
        first = await disk.process().collect(part, written(tmp_path / "output", lines), end_row=20)
        assert first.answered == 20
        process = disk.process()
        assert len(process.shards.added) == 1
        found = await process.collect(part, tmp_path / "output")
        assert (found.answered, found.left, found.spent) == (10, 0, Spent(30, 300, 0, 210))
        found = await disk.process().collect(part, tmp_path / "output")
        assert (found.answered, found.left, found.spent) == (0, 0, Spent(30, 300, 0, 210))

    run(story())


# rowmill retry


def test_failures_are_asked_again_once_in_a_session_that_is_killed_and_run_again(tmp_path: Path) -> None:
    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(4))
        part = await disk.process().build()
        bad = [refused(f"r{row}", 400, "bad") for row in (1, 2, 3)]
        await disk.process().collect(part, written(tmp_path / "output", answers(part)[:1] + bad))

        retrying = disk.process(retry_failed=True)
        for shard in disk.shards:
            disk.directory.sealed_path(shard).unlink()
        retrying = disk.process(retry_failed=True)
        await retrying.shards.seal_if_complete(disk.shards[0])
        part = await retrying.build(requests=2)
        assert part.ids == ["r1", "r2"]  # killed while the batch is on its way, r3 in no batch yet

        again = disk.process(retry_failed=True)
        await again.shards.seal_if_complete(disk.shards[0])
        lines = [answers(part)[0], refused("r2", 400, "still bad")]
        found = await again.collect(part, written(tmp_path / "output", lines), number=2, most=1, end_row=4)
        assert (found.answered, found.failed, found.left, found.missing) == (1, 1, 1, 0)
        following = await again.build()
        assert following.ids == ["r3"]
        found = await again.collect(following, written(tmp_path / "output", answers(following)), number=3)
        assert (found.answered, found.left) == (1, 0)
        assert {row: each["failed"] for row, each in disk.records().items()} == {0: False, 1: False, 2: True, 3: False}
        assert (await again.build()).ids == []

    run(story())
