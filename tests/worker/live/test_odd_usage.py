"""A usage that no request can have is taken as an estimate: it ends no budget, and spoils no figure."""

import json
from typing import Any

import pytest

from tests.worker.live.conftest import Start, Wire, reply, run


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
