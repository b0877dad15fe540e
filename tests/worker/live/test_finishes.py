"""Replies that end as they should not: asked for once more, with more room where they were cut off, or failed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from rowmill.budget.credit import Credit
from rowmill.core import config as configuration
from rowmill.core.amounts import Amount
from rowmill.core.config import Config, TaskConfig
from rowmill.tasks.chat import Chat
from rowmill.tasks.plain import PlainTask
from rowmill.tasks.structured import StructuredTask, with_format
from rowmill.transport import faults
from rowmill.worker.finish_rules import FinishRules
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.reservations import Reservations
from tests.worker.live.conftest import SECRET, Result, Start, Wire, failure, reply, run

CAPPED = TaskConfig(model="m", prompt="{text}", params={"max_tokens": 100})
TASK = PlainTask(Chat(), CAPPED, "id")


def config(on_finish: list[str], fails: list[str] | None = None, **retry: Any) -> Config:
    document = {
        "input": {"path": "in.jsonl"}, "output": {"path": "o.jsonl"},
        "task": {"model": "m", "prompt": "{a}", "params": {"max_tokens": 100}, "fail_on_finish": fails or []},
        "retry": {"on_finish": on_finish, **retry},
    }  # fmt: skip
    return configuration.parse(document, "test")


def rules(on_finish: list[str], fails: list[str] | None = None, **retry: Any) -> FinishRules:
    found = FinishRules.of_config(config(on_finish, fails, **retry))
    assert found is not None
    return found


def ends(finish_reason: str, content: str = "cut", tokens: int = 2) -> Result:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 3, "completion_tokens": tokens}
    return reply(200, json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode())


def growing(wire: Wire) -> list[Provider]:
    return [Provider(0, "main", wire, secrets=(SECRET,), most_output=100, grows=True)]


def caps(wire: Wire) -> list[int]:
    return [json.loads(body)["max_tokens"] for _, body in wire.sent]


def by_cap(rule: Callable[[int, int], Result]) -> Wire:
    wire = Wire()
    wire.rule = lambda _row, nth: rule(nth, caps(wire)[-1])
    return wire


def test_a_reply_that_is_cut_off_is_asked_for_once_more_with_more_room(work: Start) -> None:
    """Both are paid: the row's record counts both, what the first has cost bought nothing."""
    wire = by_cap(lambda _nth, cap: ends("length", tokens=cap) if cap < 200 else ends("stop", "whole", 150))

    async def story() -> None:
        async with work(3, wire, providers=growing, task=TASK, rules=rules(["length"])) as at:
            at.feed()
            await at.done()
            for record in (await at.outcomes()).values():
                assert (record["line"]["output"], record["line"]["finish_reason"]) == ("whole", "stop")
                assert (record["usage"], record["requests"], record["attempts"]) == ([6, 250], 2, 2)
            assert sorted(caps(wire)) == [100] * 3 + [200] * 3
            assert at.providers[0].sums.wasted.completion_tokens == 300
            assert at.dispatcher.counters.reasked == 3
            assert {note.text for note in at.told.notes} == {
                "replies that are cut off are asked for once more, with room for more tokens (retry.on_finish)"
            }

    run(story())


def test_it_grows_once_and_by_the_factor(work: Start) -> None:
    wire = by_cap(lambda _nth, cap: ends("length", f"cut at {cap}"))

    async def story() -> None:
        found = rules(["length"], max_tokens_factor=1.5)
        async with work(2, wire, providers=growing, task=TASK, rules=found) as at:
            at.feed()
            await at.done()
            for record in (await at.outcomes()).values():
                assert (record["line"]["output"], record["line"]["finish_reason"]) == ("cut at 150", "length")
                assert record["line"]["error"] is None
            assert sorted(caps(wire)) == [100, 100, 150, 150]

    run(story())


def test_a_reason_that_counts_as_a_failure_fails_the_row_and_keeps_its_reply(work: Start) -> None:
    wire = Wire(lambda row, _nth: ends("content_filter" if row else "SAFETY", "half of it"))

    async def story() -> None:
        async with work(2, wire, rules=rules([], ["content_filter"])) as at:
            at.feed()
            await at.done()
            for record in (await at.outcomes()).values():
                error = record["line"]["error"]
                assert record["failed"]
                assert (error["class"], error["code"], error["reply"]) == (
                    "finish_reason", "content_filter", "half of it",
                )  # fmt: skip
                assert error["message"].startswith("the reply ended with finish_reason content_filter")
            assert len(wire.sent) == 2
            assert at.providers[0].sums.wasted.requests == 2

    run(story())


def test_both_together_ask_once_more_and_then_fail(work: Start) -> None:
    wire = by_cap(lambda _nth, cap: ends("max_tokens", str(cap)))

    async def story() -> None:
        async with work(1, wire, providers=growing, task=TASK, rules=rules(["length"], ["length"])) as at:
            at.feed()
            await at.done()
            (record,) = (await at.outcomes()).values()
            assert (record["line"]["error"]["code"], record["line"]["error"]["reply"]) == ("length", "200")
            assert (record["usage"], len(wire.sent)) == ([6, 4], 2)  # of both

    run(story())


def test_another_reason_is_asked_for_as_it_was(work: Start) -> None:
    wire = Wire(lambda _row, nth: ends("weird" if nth == 1 else "stop", str(nth)))

    async def story() -> None:
        async with work(2, wire, rules=rules(["weird"])) as at:
            at.feed()
            await at.done()
            assert {record["line"]["output"] for record in (await at.outcomes()).values()} == {"2"}
            assert len({body for _, body in wire.sent}) == 2

    run(story())


@pytest.mark.parametrize(
    ("refusal", "expected", "sent"),
    [
        (
            "max_tokens is too large: 200. This model supports at most 160 completion tokens.",
            "cut at 160",
            [100, 200, 160],
        ),
        ("max_tokens is too large", "cut at 100", [100, 200]),
    ],
)
def test_more_than_the_server_gives_is_not_asked_for_and_the_first_reply_stands(
    work: Start, refusal: str, expected: str, sent: list[int]
) -> None:
    """And the next rows go no further than is known by then."""
    refused = json.dumps({"error": {"message": refusal, "type": "invalid_request_error"}}).encode()
    wire = by_cap(lambda _nth, cap: ends("length", f"cut at {cap}") if cap < 200 else reply(400, refused))

    async def story() -> None:
        async with work(2, wire, providers=growing, task=TASK, rules=rules(["length"]), concurrency=1) as at:
            at.feed(0, 1)
            await at.until(lambda: at.recorded == 1)
            assert caps(wire) == sent
            at.feed(1, 1)
            await at.done()
            assert caps(wire)[len(sent) :] == [cap for cap in sent if cap != 200 or len(sent) == 2]
            for record in (await at.outcomes()).values():
                assert (record["line"]["output"], record["failed"]) == (expected, False)
                assert record["usage"] == ([6, 4] if len(sent) == 3 else [3, 2])

    run(story())


def test_a_row_whose_second_ask_fails_for_good_ends_with_its_first_reply(work: Start) -> None:
    wire = by_cap(lambda _nth, cap: failure(faults.TIMEOUT) if cap == 200 else ends("length"))

    async def story() -> None:
        async with work(1, wire, providers=growing, task=TASK, rules=rules(["length"])) as at:
            at.feed()
            await at.done()
            (record,) = (await at.outcomes()).values()
            assert (record["line"]["output"], record["line"]["error"]) == ("cut", None)
            assert record["usage"] == [3, 2]

    run(story())


def test_a_cut_reply_that_does_not_fit_the_schema_gets_more_room_before_it_is_shown_what_is_wrong(work: Start) -> None:
    schema = {"type": "object", "required": ["a"]}
    made = TaskConfig(model="m", prompt="{text}", params={"max_tokens": 100}, schema=schema)
    task = StructuredTask(PlainTask(Chat(), with_format(made), "id"), schema)

    def rule(_nth: int, cap: int) -> Result:
        if cap == 100:
            return ends("length", '{"a":')
        return ends("stop", '{"a":1}' if len(json.loads(wire.sent[-1][1])["messages"]) > 1 else "{}")

    wire = by_cap(rule)
    wire.send = numbered(wire)  # type: ignore[method-assign]  # a correction has no number

    async def story() -> None:
        async with work(1, wire, providers=growing, task=task, rules=rules(["length"])) as at:
            at.feed()
            await at.done()
            (record,) = (await at.outcomes()).values()
            assert record["line"]["output"] == {"a": 1}
            assert caps(wire) == [100, 200, 200]
            assert [len(json.loads(body)["messages"]) for _, body in wire.sent] == [1, 1, 3]
            assert (record["usage"], record["requests"]) == ([9, 6], 3)

    run(story())


def numbered(wire: Wire) -> Any:
    async def send(body: bytes) -> Result:
        wire.sent.append((0, body))
        assert wire.rule is not None
        result = wire.rule(0, len(wire.sent))
        assert isinstance(result, type(reply()) | type(failure(faults.TIMEOUT)))
        return result

    return send


def test_a_reply_that_was_stored_is_gone_on_from_and_does_not_grow_twice(work: Start) -> None:
    """What a killed worker has left of the row: its first reply, with which it ends if nothing better comes."""
    first = by_cap(lambda _nth, _cap: ends("length", "first"))

    async def killed() -> None:
        async with work(2, first, providers=growing, task=TASK, rules=rules(["length"])) as at:
            first.rule = lambda _row, nth: ends("length", "first") if nth == 1 else hang()
            at.feed()
            await at.until(lambda: len(first.sent) == 4)
            await at.shard.checkpoint.commit()

    def hang() -> Any:
        return asyncio.get_running_loop().create_future()

    run(killed())
    second = Wire()
    second.rule = lambda row, _nth: ends("length", "second") if row else failure(faults.TIMEOUT)

    async def resumed() -> None:
        async with work(2, second, providers=growing, task=TASK, rules=rules(["length"])) as at:
            replies = at.shard.checkpoint.replies
            assert {row: len(found) for row, found in replies.items()} == {0: 1, 1: 1}
            at.feed()
            await at.done()
            found = await at.outcomes()
            assert set(caps(second)) == {200}
            assert [found[row]["line"]["output"] for row in range(2)] == ["first", "second"]
            assert found[0]["line"]["finish_reason"] == "length"
            assert [found[row]["usage"] for row in range(2)] == [[3, 2], [6, 4]]

    run(resumed())


def test_a_budget_has_room_for_what_the_reply_may_have_now(work: Start) -> None:
    """Where the second ask is not covered it is not sent: the row waits, with its first reply stored."""
    wire = by_cap(lambda _nth, _cap: ends("length", tokens=100))
    told: list[Amount] = []
    reservations = Reservations(Credit(), [None], lambda _left, need: told.append(need))

    async def story() -> None:
        async with work(
            1, wire, providers=growing, task=TASK, rules=rules(["length"]), reservations=reservations
        ) as at:
            at.dispatcher.allow(Amount(10, 150, 0))
            at.feed()
            await at.until(lambda: told)
            assert caps(wire) == [100]
            assert at.recorded == 0
            at.dispatcher.allow(Amount(10, 400, 0))
            await at.done()
            assert caps(wire) == [100, 200]

    run(story())


def test_without_the_keys_nothing_is_looked_at() -> None:
    assert FinishRules.of_config(config([])) is None
