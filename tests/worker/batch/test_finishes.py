"""By batches a row whose reply ended too soon is asked once more in the next try, with more room."""

import json
from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.amounts import Spent
from rowmill.core.config import TaskConfig
from rowmill.core.request_form import RequestForm
from rowmill.tasks.forms import RequestFormer
from rowmill.worker.finish_rules import FinishRules
from tests.worker.batch.run_on_disk import SCHEMA, Part, RunOnDisk, answered, completion, refused, run, texts, written


def rules(on_finish: list[str], fails: list[str] | None = None) -> FinishRules:
    document = {
        "input": {"path": "in.jsonl"}, "output": {"path": "o.jsonl"}, "retry": {"on_finish": on_finish},
        "task": {"model": "m", "prompt": "{a}", "params": {"max_tokens": 100}, "fail_on_finish": fails or []},
    }  # fmt: skip
    found = FinishRules.of_config(configuration.parse(document, "test"))
    assert found is not None
    return found


def ends(custom_id: str, reason: str, content: str) -> dict[str, Any]:
    body = completion(content)
    body["choices"][0]["finish_reason"] = reason
    return answered(custom_id, body)


def caps(part: Part) -> list[int]:
    return [line["body"]["max_tokens"] for line in part.lines]


def replies(part: Part, path: Path, reason: str, content: str) -> Path:
    return written(path, [ends(each, reason, content) for each in part.ids])


@pytest.mark.parametrize("fails", [False, True])
def test_a_cut_reply_is_asked_for_in_the_next_try_with_more_room_and_once(tmp_path: Path, *, fails: bool) -> None:
    """A collection that was killed stores nothing twice; each process knows of the first reply by what is stored."""
    finish = rules(["length"], ["length"] * fails)

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(3), params={"max_tokens": 100})
        first = await disk.process().build(finish=finish)
        assert caps(first) == [100] * 3
        lines = [ends(each, "length" if place else "stop", "first") for place, each in enumerate(first.ids)]
        for _ in range(2):
            found = await disk.process().collect(first, written(tmp_path / "1", lines), finish=finish)
            assert (found.left, found.reasked) == (2, 2)
            assert (found.spent, found.wasted) == (Spent(3, 30, 0, 21), Spent(2, 20, 0, 14))
        assert [len(disk.replies(row)) for row in range(3)] == [0, 1, 1]
        process = disk.process()
        second = await process.build(name="second.jsonl", finish=finish)
        assert (second.ids, caps(second)) == (["r1", "r2"], [200, 200])
        lines = [ends("r1", "stop", "whole"), ends("r2", "length", "cut again")]
        found = await process.collect(second, written(tmp_path / "2", lines), number=2, earlier=[3], finish=finish)
        assert (found.left, found.failed) == (0, int(fails))
        again = await process.collect(second, tmp_path / "2", number=2, earlier=[3], finish=finish)
        for each in (found, again):  # one that was killed has counted nothing: the next counts all
            assert (each.spent, each.wasted) == (Spent(2, 20, 0, 14), Spent(1, 10, 0, 7) if fails else Spent())
        records = disk.records()
        said = [records[row]["line"]["output"] for row in range(2)]
        assert said == ["first", "whole"]
        assert [records[row]["usage"] for row in range(3)] == [[10, 7], [20, 14], [20, 14]]
        if fails:
            assert records[2]["line"]["error"]["class"] == "finish_reason"
            assert records[2]["line"]["error"]["reply"] == "cut again"
        else:
            assert (records[2]["line"]["output"], records[2]["line"]["finish_reason"]) == ("cut again", "length")

    run(story())


def test_a_row_whose_second_try_is_refused_ends_with_its_first_reply(tmp_path: Path) -> None:
    finish = rules(["length"])

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1), params={"max_tokens": 100})
        process = disk.process()
        first = await process.build(finish=finish)
        await process.collect(first, replies(first, tmp_path / "1", "length", "first"), finish=finish)
        second = await process.build(name="second.jsonl", finish=finish)
        path = written(tmp_path / "2", [refused("r0", 400, "max_tokens is too large")])
        found = await process.collect(second, path, number=2, earlier=[1], finish=finish)
        assert (found.left, found.failed, found.answered) == (0, 0, 1)
        (record,) = disk.records().values()
        assert (record["line"]["output"], record["line"]["finish_reason"]) == ("first", "length")
        assert record["usage"] == [10, 7]

    run(story())


def test_a_cut_reply_that_does_not_fit_the_schema_gets_more_room_first(tmp_path: Path) -> None:
    finish = rules(["length"])

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1), params={"max_tokens": 100}, schema=SCHEMA)
        process = disk.process()
        first = await process.build(finish=finish)
        await process.collect(first, replies(first, tmp_path / "1", "length", "{"), finish=finish)
        second = await process.build(name="second.jsonl", finish=finish)
        assert (caps(second), len(second.lines[0]["body"]["messages"])) == ([200], 1)
        await process.collect(second, replies(second, tmp_path / "2", "stop", "{}"), number=2, finish=finish)
        third = await process.build(name="third.jsonl", finish=finish)
        assert (caps(third), len(third.lines[0]["body"]["messages"])) == ([200], 3)

    run(story())


def test_a_reason_that_counts_as_a_failure_fails_its_row(tmp_path: Path) -> None:
    finish = rules([], ["content_filter"])

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1))
        process = disk.process()
        part = await process.build(finish=finish)
        found = await process.collect(part, replies(part, tmp_path / "1", "content_filter", "half"), finish=finish)
        assert (found.failed, found.left) == (1, 0)
        (record,) = disk.records().values()
        assert (record["line"]["error"]["code"], record["usage"]) == ("content_filter", [10, 7])

    run(story())


def test_the_form_of_requests_is_as_the_configuration_says_it(tmp_path: Path) -> None:
    former = RequestFormer(TaskConfig(model="m", prompt="{text}", schema=SCHEMA), RequestForm(schema="tool"))

    async def story() -> None:
        disk = RunOnDisk(tmp_path, texts(1), schema=SCHEMA)
        process = disk.process()
        part = await process.build(rewrite=former.form)
        (line,) = part.lines
        (tool,) = line["body"]["tools"]
        assert tool["function"]["parameters"] == SCHEMA
        value = json.dumps({"n": 1})
        body = completion("")
        call = {"id": "c", "type": "function", "function": {"name": tool["function"]["name"], "arguments": value}}
        body["choices"][0]["message"] = {"content": None, "tool_calls": [call]}
        found = await process.collect(part, written(tmp_path / "1", [answered("r0", body)]), former=former)
        assert found.left + found.failed + found.answered == 1
        (record,) = disk.records().values()
        assert record["line"]["output"] == {"n": 1}

    run(story())
