"""A usage that no request can have is taken as an estimate: it ends no budget, and spoils no figure."""

import json
from typing import Any

import pytest

from tests.worker.live.conftest import Start, Wire, reply, run
from tests.worker.live.test_second_asks import SCHEMA, Model, answers, task


def using(**usage: Any) -> bytes:
    body = json.loads(reply().body)
    body["usage"] = usage
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**11, "completion_tokens": 2},
        {"prompt_tokens": 3, "completion_tokens": 10**11},
        {"prompt_tokens": 10**30, "completion_tokens": 2},
        {"prompt_tokens": -5, "completion_tokens": 2},
        {"prompt_tokens": float("nan"), "completion_tokens": 2},
        {"prompt_tokens": "many", "completion_tokens": "more"},
        {},
    ],
    ids=str,
)
def test_an_absurd_usage_counts_as_what_the_request_may_have_taken(work: Start, usage: dict[str, Any]) -> None:
    async def story() -> None:
        wire = Wire(lambda row, _: reply(body=using(**usage)) if row == 1 else reply())
        async with work(3, wire, concurrency=1) as at:
            at.feed()
            await at.done()
            report = at.providers[0].report
            assert report.answered == 3
            assert report.odd_usage == (usage != {}), "none at all is not odd"
            assert 6 <= report.prompt_tokens < 200
            assert 4 <= report.completion_tokens < 200

    run(story())


def test_a_large_usage_that_can_be_is_believed(work: Start) -> None:
    async def story() -> None:
        body = using(prompt_tokens=60_000, completion_tokens=100_000)
        async with work(1, Wire(lambda *_: reply(body=body))) as at:
            at.feed()
            await at.done()
            report = at.providers[0].report
            assert (report.prompt_tokens, report.completion_tokens) == (60_000, 100_000)

    run(story())


def test_the_rows_of_a_pack_share_its_estimate(work: Start) -> None:
    async def story() -> None:
        absurd = reply(body=using(prompt_tokens=10**11, completion_tokens=10**11))
        content = json.dumps(answers([0, 1, 2, 3]))
        body = json.loads(absurd.body)
        body["choices"][0]["message"]["content"] = content
        model = Model(lambda *_: reply(body=json.dumps(body).encode()))
        async with work(4, model, task=task(schema=SCHEMA, rows_per_request=4)) as at:
            at.feed()
            at.dispatcher.feeder.fed()
            await at.done()
            report = at.providers[0].report
            usages = [record["usage"] for record in (await at.outcomes()).values()]
            assert report.odd_usage == 1
            assert 4 <= report.prompt_tokens == sum(usage[0] for usage in usages) < 1000
            assert report.completion_tokens == sum(usage[1] for usage in usages) < 1000

    run(story())


@pytest.mark.parametrize("content", ["no JSON", None])
def test_a_reply_that_is_no_answer_costs_what_it_can_have_cost(work: Start, content: str | None) -> None:
    async def story() -> None:
        body = json.loads(using(prompt_tokens=10**11, completion_tokens=2))
        body["choices"][0]["message"]["content"] = content
        model = Model(lambda rows, nth: reply(body=json.dumps(body).encode()) if nth == 1 else answers(rows))
        async with work(1, model, task=task(schema=SCHEMA)) as at:
            at.feed()
            await at.done()
            report = at.providers[0].report
            assert report.odd_usage == 1
            assert report.prompt_tokens < 1000
            assert report.wasted.prompt_tokens < 1000
            assert (await at.outcomes())[0]["usage"][0] < 1000

    run(story())
