"""Rows that are asked more than once: replies that are no valid answers, and packs that come back damaged."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config.sections import InputConfig, TaskConfig
from rowmill.core.wire import Reply
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task
from rowmill.transport import faults
from tests.worker.live.conftest import Result, Start, Wire, Work, at_work, failure, run

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
Say = Callable[[list[int], int], Any]


def task(**more: Any) -> Task:
    return open_task(TaskConfig(model="m", prompt="{text}", **more), InputConfig(path="in.jsonl", id="id"))


def completion(content: Any) -> Reply:
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 7}
    return Reply(200, json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode(), lambda _: None)


class Model(Wire):
    """A wire to a model: `say` gives the content, or the whole result, for these rows at their nth request."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.say = say
        self.asked: list[list[int]] = []
        self.bodies: list[dict[str, Any]] = []

    async def send(self, body: bytes) -> Result:
        request = json.loads(body)
        rows = [row_of(prompt) for prompt in prompts(request)]
        self.asked.append(rows)
        self.bodies.append(request)
        for row in rows:
            self.tries[row] += 1
        said = self.say(rows, self.tries[rows[0]])
        return said if isinstance(said, Result) else completion(said)


def prompts(request: dict[str, Any]) -> list[str]:
    """Return what a request asks: the prompts of a pack, or the first message of a conversation about one row."""
    question = next(message["content"] for message in request["messages"] if message["role"] == "user")
    try:
        return [entry["prompt"] for entry in json.loads(question)]
    except json.JSONDecodeError:
        return [question]


def row_of(prompt: str) -> int:
    return int(prompt.split()[1])


def answers(rows: list[int]) -> dict[str, Any]:
    """Answer a pack rightly, or a single row."""
    if len(rows) == 1:
        return {"n": rows[0]}
    return {"answers": [{"id": str(place), "answer": {"n": row}} for place, row in enumerate(rows, 1)]}


async def results(at: Work) -> dict[int, Any]:
    """Return the output of every row, or the class of its failure."""
    lines = {row: record["line"] for row, record in (await at.outcomes()).items()}
    return {row: line["output"] if line["error"] is None else line["error"]["class"] for row, line in lines.items()}


# One row a request


def test_a_row_is_shown_what_was_wrong_until_its_reply_is_valid(work: Start) -> None:
    async def story() -> None:
        model = Model(lambda rows, nth: {"n": "one"} if rows == [1] and nth < 3 else answers(rows))
        async with work(3, model, task=task(schema=SCHEMA)) as at:
            at.feed()
            await at.done()
            assert await results(at) == {row: {"n": row} for row in range(3)}
            (last,) = [body for body, rows in zip(model.bodies, model.asked, strict=True) if rows == [1]][2:]
            assert [message["role"] for message in last["messages"]] == ["user", "assistant", "user"]
            assert "/n" in last["messages"][2]["content"]
            record = (await at.outcomes())[1]
            assert (record["attempts"], record["requests"], record["usage"]) == (3, 3, [30, 21])
            counters = at.dispatcher.count()
            assert (counters.requests, counters.reasked, counters.retries) == (5, 2, 2)
            assert counters.faults == {}

    run(story())


def test_a_row_that_is_never_valid_fails_with_its_last_reply(work: Start) -> None:
    async def story() -> None:
        async with work(
            2, Model(lambda rows, nth: f"no {nth}" if rows == [1] else answers(rows)), task=task(schema=SCHEMA)
        ) as at:
            at.feed()
            await at.done()
            assert await results(at) == {0: {"n": 0}, 1: "invalid_output"}
            record = (await at.outcomes())[1]
            assert record["line"]["error"]["reply"] == "no 3"
            assert (record["attempts"], record["requests"], record["usage"]) == (3, 3, [30, 21])
            assert not at.told.closed

    run(story())


def test_what_was_replied_before_a_kill_is_not_asked_for_again(tmp_path: Path) -> None:
    async def killed() -> None:
        hanging = Model(lambda rows, nth: "no" if nth == 1 else failure(faults.RATE_LIMITED, retry_after=500.0))
        async with at_work(tmp_path)(1, hanging, task=task(schema=SCHEMA)) as at:
            at.feed()
            await at.until(lambda: len(hanging.asked) == 2)
            await at.shard.checkpoint.commit()

    async def resumed() -> None:
        model = Model(lambda rows, nth: answers(rows))
        async with at_work(tmp_path)(1, model, task=task(schema=SCHEMA)) as at:
            at.feed()
            await at.done()
            (body,) = model.bodies
            assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
            record = (await at.outcomes())[0]
            assert (record["attempts"], record["usage"]) == (2, [20, 14])

    run(killed())
    run(resumed())


# Several rows a request


@pytest.mark.parametrize("rows", [1, 4, 10])
def test_rows_go_out_together_and_each_has_its_own_answer(work: Start, rows: int) -> None:
    async def story() -> None:
        model = Model(lambda rows, _nth: answers(rows))
        async with work(rows, model, task=task(schema=SCHEMA, rows_per_request=4)) as at:
            at.feed()
            at.dispatcher.feeder.fed()
            await at.done()
            assert await results(at) == {row: {"n": row} for row in range(rows)}
            assert sorted(map(len, model.asked), reverse=True) == [4] * (rows // 4) + [rows % 4] * (rows % 4 > 0)
            totals = at.shard.checkpoint.acknowledged
            requests = len(model.asked)
            assert (totals.requests, totals.prompt_tokens, totals.completion_tokens) == (
                requests,
                requests * 10,
                requests * 7,
            )

    run(story())


def test_wrong_rows_of_a_pack_are_asked_again_in_smaller_ones_down_to_single_rows(work: Start) -> None:
    async def story() -> None:
        def say(rows: list[int], _nth: int) -> Any:
            said = answers(rows)
            if len(rows) > 1:
                said["answers"] = [each for each in said["answers"] if each["answer"]["n"] not in (1, 5)]
            return said

        model = Model(say)
        async with work(8, model, task=task(schema=SCHEMA, rows_per_request=8)) as at:
            at.feed()
            await at.done()
            assert await results(at) == {row: {"n": row} for row in range(8)}
            assert model.asked == [list(range(8)), [1, 5], [1], [5]] or model.asked == [
                list(range(8)),
                [1, 5],
                [5],
                [1],
            ]
            assert at.dispatcher.count().reasked == 3
            assert at.shard.checkpoint.acknowledged.requests == 4

    run(story())


def test_one_row_that_the_provider_refuses_costs_one_row(work: Start) -> None:
    async def story() -> None:
        refused = failure(faults.CONTENT_FILTER, status=400)
        model = Model(lambda rows, _nth: refused if 6 in rows else answers(rows))
        async with work(16, model, task=task(schema=SCHEMA, rows_per_request=8)) as at:
            at.feed()
            await at.done()
            assert await results(at) == {row: "content_filter" if row == 6 else {"n": row} for row in range(16)}
            assert [len(rows) for rows in model.asked if 6 in rows] == [8, 4, 2, 1]

    run(story())


def test_a_row_that_cannot_be_built_leaves_its_pack(work: Start) -> None:
    async def story() -> None:
        model = Model(lambda rows, _nth: answers(rows))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4)) as at:
            lines = [b'{"id":"r%d","text":"row %d"}' % (row, row) for row in range(4)]
            lines[0] = b"{}"
            at.dispatcher.feeder.feed(at.shard, 0, lines)
            await at.done()
            assert await results(at) == {0: "invalid_row", **{row: {"n": row} for row in (1, 2, 3)}}
            assert model.asked == [[1, 2, 3]]

    run(story())


def test_a_suspect_is_sent_in_no_pack(work: Start) -> None:
    async def story() -> None:
        model = Model(lambda rows, _nth: answers(rows))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4), suspects=(2,)) as at:
            at.feed()
            at.dispatcher.feeder.fed()
            await at.done()
            assert sorted(model.asked) == [[0, 1, 3], [2]]

    run(story())


def test_a_pack_that_fails_is_tried_again_whole(work: Start) -> None:
    async def story() -> None:
        model = Model(lambda rows, nth: failure(faults.TIMEOUT) if nth < 3 else answers(rows))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4)) as at:
            at.feed()
            await at.done()
            assert model.asked == [[0, 1, 2, 3]] * 3
            records = await at.outcomes()
            assert [records[row]["requests"] for row in range(4)] == [3, 0, 0, 0]
            assert [records[row]["attempts"] for row in range(4)] == [3, 3, 3, 3]

    run(story())


def test_a_pack_whose_tries_are_used_up_fails_every_row(work: Start) -> None:
    async def story() -> None:
        async with work(
            4, Model(lambda *_: failure(faults.TIMEOUT)), task=task(schema=SCHEMA, rows_per_request=4)
        ) as at:
            at.feed()
            await at.done()
            assert await results(at) == dict.fromkeys(range(4), "timeout")
            assert at.shard.checkpoint.acknowledged.requests == 3

    run(story())


def test_a_pack_that_nobody_can_read_has_half_its_tries_again_in_each_half(work: Start) -> None:
    async def story() -> None:
        model = Model(lambda *_: failure(faults.BAD_REPLY, status=200))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4), attempts=4) as at:
            at.feed()
            await at.done()
            assert await results(at) == dict.fromkeys(range(4), "bad_reply")
            tries = Counter(tuple(rows) for rows in model.asked)
            assert tries == {(0, 1, 2, 3): 4, (0, 1): 2, (2, 3): 2, (0,): 2, (1,): 2, (2,): 2, (3,): 2}
            assert at.shard.checkpoint.acknowledged.requests == 16

    run(story())


DAMAGES = ("ok", "ok", "missing", "prose", "twice", "wrong", "empty", "refused", "timeout")


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), size=st.integers(2, 5), seed=st.integers(0, 1000))
def test_whatever_comes_back_every_row_ends_once_and_with_no_other_rows_answer(rows: int, size: int, seed: int) -> None:
    dice = Random(seed)

    def say(asked: list[int], _nth: int) -> Any:
        said = answers(asked)
        damage = dice.choice(DAMAGES)
        if damage == "prose":
            return f"Here: {json.dumps(said)}"
        if damage == "empty":
            return ""
        if damage == "refused":
            return failure(faults.INVALID_REQUEST, status=400)
        if damage == "timeout":
            return failure(faults.TIMEOUT)
        if "answers" not in said:
            return {"n": "x"} if damage in ("missing", "twice", "wrong") else said
        if damage == "missing":
            said["answers"].pop()
        elif damage == "twice":
            said["answers"].append({**said["answers"][0], "answer": {"n": 999}})
        elif damage == "wrong":
            said["answers"][0]["answer"] = {"n": "x"}
        return said

    async def story(folder: Path) -> None:
        async with at_work(folder)(rows, Model(say), task=task(schema=SCHEMA, rows_per_request=size)) as at:
            at.feed()
            at.dispatcher.feeder.fed()
            await at.done()
            found = await results(at)
            assert all(
                found[row] in ({"n": row}, "invalid_output", "invalid_request", "timeout") for row in range(rows)
            )
            assert at.shard.checkpoint.acknowledged.requests == at.dispatcher.count().requests

    with tempfile.TemporaryDirectory() as folder:
        run(story(Path(folder)))
