"""What becomes of a row: whatever the wire does to it, it ends with one outcome that says what happened."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.amounts import Spent
from rowmill.core.leases import Share
from rowmill.core.wire import FaultClass
from rowmill.flow import retry
from rowmill.flow.limits import silence
from rowmill.ipc.messages import Closed
from rowmill.transport import faults
from tests.lives import examples
from tests.worker.live.conftest import SECRET, Result, Start, Wire, at_work, failure, reply, run

REFUSAL = json.dumps({"choices": [{"message": {"content": None, "refusal": f"No. {SECRET}"}}]}).encode()


def error(status: int, code: str | None = None, message: str = "no") -> bytes:
    return json.dumps({"error": {"message": message, "type": None, "code": code, "status": status}}).encode()


# Results


def test_a_result_is_recorded_with_what_it_took(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            if row == 1 and nth <= 2:
                return failure(faults.TIMEOUT)
            if row == 2 and nth <= 4:
                return reply(429, error(429))
            return reply()

        async with work(3, Wire(rule)) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [(records[row]["attempts"], records[row]["requests"]) for row in range(3)] == [
                (1, 1),
                (3, 3),
                (1, 5),
            ]
            for row in range(3):
                assert records[row]["provider"] == "main"
                assert not records[row]["failed"]
                assert records[row]["usage"] == [3, 2]
                line = records[row]["line"]
                assert (line["index"], line["id"], line["output"], line["error"]) == (row, f"r{row}", "done", None)
            totals = at.shard.checkpoint.acknowledged
            assert (totals.rows, totals.failed, totals.requests, totals.prompt_tokens) == (3, 0, 9, 9)
            counters = at.dispatcher.count()
            assert (counters.requests, counters.replies, counters.retries) == (9, 7, 6)
            assert counters.faults == {"timeout": 2, "rate_limited": 4}

    run(story())


@pytest.mark.parametrize("status", [200, 201, 202])
def test_every_2xx_is_for_the_task_to_judge(work: Start, status: int) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: reply(status))) as at:
            at.feed()
            await at.done()
            assert not (await at.outcomes())[0]["failed"]

    run(story())


@pytest.mark.parametrize("include", [(), ("input",), ("meta",), ("input", "meta")])
def test_the_line_holds_what_was_asked_for(work: Start, include: tuple[str, ...]) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            if row == 1:
                return reply(500, b"")
            return failure(faults.TIMEOUT) if nth == 1 else reply()

        async with work(2, Wire(rule), include=include, attempts=3) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            for row, (attempts, requests) in enumerate([(2, 2), (3, 3)]):
                line = records[row]["line"]
                assert ("input" in line) == ("input" in include)
                assert ("meta" in line) == ("meta" in include)
                if "input" in include:
                    assert line["input"] == {"id": f"r{row}", "text": f"row {row} "}
                if "meta" in include:
                    meta = line["meta"]
                    assert (meta["provider"], meta["attempts"], meta["requests"]) == ("main", attempts, requests)
                    assert meta["attempts"] == records[row]["attempts"], "one number, wherever it is told"
                    assert meta["ms"] >= 0

    run(story())


# Failures of a row


def test_the_attempts_run_out(work: Start) -> None:
    async def story() -> None:
        async with work(2, Wire(lambda row, _: reply(500, error(500)) if row else reply()), attempts=4) as at:
            at.feed()
            await at.done()
            record = (await at.outcomes())[1]
            assert record["failed"]
            assert (record["attempts"], record["requests"]) == (4, 4)
            assert record["line"]["output"] is None
            assert record["line"]["id"] == "r1"
            assert record["line"]["error"] == {"class": "server_error", "code": None, "status": 500, "message": "no"}
            assert at.dispatcher.count().retries == 3
            assert at.dispatcher.count().maybe_billed_twice == 3

    run(story())


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (error(400, "invalid_value"), "invalid_request"),
        (error(400, "context_length_exceeded"), "context_length"),
        (error(400, "content_filter"), "content_filter"),
    ],
)
def test_what_no_retry_can_help_costs_one_request_and_one_row(work: Start, body: bytes, fault: str) -> None:
    """One failed row neither stops the others nor takes them along."""

    async def story() -> None:
        async with work(20, Wire(lambda row, _: reply(400, body) if row == 7 else reply())) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [row for row in range(20) if records[row]["failed"]] == [7]
            assert records[7]["line"]["error"]["class"] == fault
            assert records[7]["requests"] == 1
            assert at.wire.tries[7] == 1

    run(story())


def test_a_refusal_is_the_rows_failure_in_the_models_words(work: Start) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: reply(200, REFUSAL))) as at:
            at.feed()
            await at.done()
            assert at.wire.tries[0] == 1
            assert (await at.outcomes())[0]["line"]["error"] == {
                "class": "content_filter",
                "code": "refusal",
                "status": 200,
                "message": "No. [redacted]",
            }

    run(story())


def test_a_refusal_is_billed_as_any_reply_and_counts_as_no_answer(work: Start) -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 20}}
    body = json.dumps({**json.loads(REFUSAL), "usage": usage}).encode()

    async def story() -> None:
        async with work(1, Wire(lambda *_: reply(200, body))) as at:
            at.feed()
            await at.done()
            (provider,) = at.providers
            report = provider.report
            assert (report.prompt_tokens, report.completion_tokens, report.cached_tokens) == (30, 7, 20)
            assert report.wasted == Spent(1, 30, 20, 7)
            assert report.answered == 0

    run(story())


def test_a_row_that_is_no_row_costs_no_request(work: Start) -> None:
    async def story() -> None:
        async with work(4, Wire(lambda *_: reply()), concurrency=1) as at:
            at.dispatcher.feeder.feed(at.shard, 0, [b"", b'{"id":7}', b'{"id":"last","text":"row 2 "}', b"\xff"])
            await at.done()
            records = await at.outcomes()
            assert at.wire.rows == [2]
            assert [records[row]["line"]["id"] for row in range(4)] == [None, 7, "last", None]
            errors = [records[row]["line"]["error"] for row in (0, 1, 3)]
            assert [told["class"] for told in errors] == ["invalid_row"] * 3
            assert errors[0]["message"] == "the line is blank"
            assert errors[1]["message"] == "the row has no column 'text'"
            assert [(records[row]["attempts"], records[row]["requests"]) for row in (0, 1, 3)] == [(1, 0)] * 3
            assert at.in_flight_rows() == []

    run(story())


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", reply().body[:60], b'{"choices":[]}', b"\xff"])
def test_a_reply_that_is_none_is_asked_for_again_and_never_stored(work: Start, body: bytes) -> None:
    async def story() -> None:
        async with work(2, Wire(lambda row, nth: reply(200, body) if row == 1 or nth < 3 else reply())) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert records[0]["line"]["output"] == "done"
            assert records[1]["line"]["error"]["class"] == "bad_reply"
            assert records[1]["line"]["error"]["status"] == 200
            assert (records[0]["attempts"], records[1]["attempts"]) == (3, 3)
            assert at.dispatcher.count().maybe_billed_twice == 4, "the work was done, and is done again"

    run(story())


# Retries


def test_a_429_is_seen_as_what_it_is_and_spends_no_attempt(work: Start) -> None:
    """A client that raises on every status but 200 never comes to its branch for 429."""

    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(429, error(429)) if row and nth <= 20 else reply()

        async with work(2, Wire(rule), concurrency=1, attempts=1) as at:
            at.feed()
            await at.done()
            record = (await at.outcomes())[1]
            assert (record["failed"], record["attempts"], record["requests"]) == (False, 1, 21)
            assert at.dispatcher.count().faults == {"rate_limited": 20}

    run(story())


def test_no_429_is_the_rows_own_as_long_as_nothing_was_ever_answered(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only some of its tries are free where others are answered; here it is the provider that comes to an end."""
    monkeypatch.setattr(retry, "_FREE_TRIES", 5)
    monkeypatch.setattr(silence, "_NO_WAIT_S", 0.0)

    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(429, b"", retry_after_ms="2") if nth <= 7 else reply()

        async with work(1, Wire(rule), concurrency=1, attempts=1) as at:
            at.feed()
            await at.done()
            record = (await at.outcomes())[0]
            assert (record["failed"], record["attempts"], record["requests"]) == (False, 1, 8)

    run(story())


def test_503_spends_no_attempt_and_500_does(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(503 if row == 0 else 500, b"") if nth <= 3 else reply()

        async with work(2, Wire(rule), attempts=3) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [records[row]["failed"] for row in (0, 1)] == [False, True]

    run(story())


def test_retry_after_is_read_from_every_failure_and_not_from_the_first_only(work: Start) -> None:
    async def story() -> None:
        asked = [0, 300, 700, 200]  # milliseconds

        def rule(_row: int, nth: int) -> Result:
            return reply(429, b"{}", retry_after_ms=f"{asked[nth]}") if nth < 4 else reply()

        async with work(1, Wire(rule), scale=1.0) as at:
            at.feed()
            await at.done()
            assert len(at.retry.waits) == 3
            for wait, floor in zip(at.retry.waits, asked[1:], strict=True):
                assert floor <= wait * 1000 <= floor * 1.25
            for nth in (1, 2, 3):
                assert at.wire.times[nth] - at.wire.times[nth - 1] >= asked[nth] / 1000 - 0.002

    run(story())


def test_every_try_sends_the_same_bytes(work: Start) -> None:
    async def story() -> None:
        async with work(3, Wire(lambda _, nth: failure(faults.CONNECTION) if nth < 3 else reply())) as at:
            at.feed()
            await at.done()
            for row in range(3):
                assert len({body for sent, body in at.wire.sent if sent == row}) == 1
                assert at.wire.tries[row] == 3

    run(story())


def test_only_retries_of_what_may_have_been_done_are_counted_as_billed_twice(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            if nth > 1:
                return reply()
            results: list[Result] = [
                failure(faults.CONNECTION, maybe_billed=True),
                failure(faults.CONNECTION),
                reply(429, b""),
                reply(502, b"<html>"),
            ]
            return results[row]

        async with work(4, Wire(rule)) as at:
            at.feed()
            await at.done()
            assert at.dispatcher.count().maybe_billed_twice == 2
            assert at.dispatcher.count().retries == 4

    run(story())


# The provider


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (429, "insufficient_quota", "quota_exhausted"),
        (402, "insufficient_quota", "quota_exhausted"),
    ],
)
def test_what_would_fail_every_row_closes_the_provider_and_fails_none(
    work: Start, status: int, code: str | None, fault: str
) -> None:
    async def story() -> None:
        async with work(50, concurrency=3) as at:
            at.feed()
            await at.until(lambda: at.wire.in_flight == 3)
            at.wire.answer(1, reply(status, error(status, code, f"bad key {SECRET}")))
            await at.until(lambda: at.told.closed)
            at.wire.answer(0)
            at.wire.answer(2, failure(faults.TIMEOUT))
            await at.settled()
            assert at.wire.rows == [0, 1, 2], "no request after it was seen"
            assert at.told.closed == [Closed(0, f"{fault} (HTTP {status}, bad key [redacted])")]
            assert await at.dispatcher.drained(5.0) == 0
            assert list(await at.outcomes()) == [0], "the others are not failed: a resume sends them again"

    run(story())


@pytest.mark.parametrize("status", [400, 500, 418])
def test_no_failure_that_is_recorded_shows_the_key(work: Start, status: int) -> None:
    async def story() -> None:
        async with work(
            1, Wire(lambda *_: reply(status, error(status, None, f"key {SECRET} is no key"))), attempts=1
        ) as at:
            at.feed()
            await at.done()
            told = (await at.outcomes())[0]["line"]["error"]
            assert told["message"] == "key [redacted] is no key"
            assert SECRET.encode() not in at.shard.checkpoint.path.read_bytes()

    run(story())


# Anything at all

RETRYABLE = [line for line in faults.TABLE.values() if line.retryable]
RESULTS: list[Callable[[], Result]] = [
    reply,
    lambda: reply(200, b""),
    lambda: reply(200, REFUSAL),
    lambda: reply(429, b"", retry_after_ms="2"),
    lambda: reply(503, b"x"),
    lambda: reply(500, b""),
    lambda: reply(400, error(400)),
    *(partial(failure, fault, maybe_billed=True) for fault in RETRYABLE),
]


@settings(max_examples=examples(120), deadline=None)
@given(
    script=st.lists(st.lists(st.sampled_from(RESULTS), max_size=4), min_size=1, max_size=40),
    concurrency=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    suspects=st.sets(st.integers(0, 39), max_size=4),
    quarantined=st.sets(st.integers(0, 39), max_size=2),
    requests=st.none() | st.just(Share(3000.0, 750.0)),
    tokens=st.none() | st.just(Share(40_000.0, 10_000.0)),
    bites=st.integers(1, 15),
)
def test_every_row_gets_one_outcome_whatever_the_wire_does_and_in_whatever_order(  # noqa: PLR0917 - drawn by name
    script: list[list[Callable[[], Result]]],
    concurrency: int,
    seed: int,
    suspects: set[int],
    quarantined: set[int],
    requests: Share | None,
    tokens: Share | None,
    bites: int,
) -> None:
    """It also ends: a slot that sleeps through its wake-up would leave rows behind."""
    rng = Random(seed)

    async def rule(row: int, nth: int) -> Result:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0 if rng.random() < 0.8 else 0.001)
        steps = script[row]
        return steps[nth - 1]() if nth <= len(steps) else reply()

    async def story(folder: Path) -> None:
        async with at_work(folder)(
            len(script),
            Wire(rule),
            concurrency=concurrency,
            requests=requests,
            tokens=tokens,
            suspects=tuple(suspects),
            quarantined=tuple(quarantined),
        ) as at:
            first = 0
            while first < at.rows:
                count = min(bites, at.rows - first)
                at.feed(first, count)
                first += count
                await asyncio.sleep(rng.choice([0, 0, 0.0005]))
            await at.done()
            records = await at.outcomes()
            assert sorted(records) == list(range(at.rows))
            assert at.wire.in_flight_max <= concurrency
            assert at.dispatcher.in_flight == at.dispatcher.backlog.waiting == 0
            assert at.in_flight_rows() == []
            for row, record in records.items():
                assert record["requests"] == at.wire.tries[row]
                assert record["line"]["index"] == row
                if row in quarantined:
                    assert record["line"]["error"]["class"] == "poison_row"
                else:
                    assert record["attempts"] <= 3
            counters = at.dispatcher.count()
            assert counters.requests == len(at.wire.sent)
            assert counters.retries == counters.requests - len(set(at.wire.rows))

    with tempfile.TemporaryDirectory() as folder:
        run(story(Path(folder)))


@pytest.mark.parametrize("fault", RETRYABLE, ids=lambda fault: fault.name)
def test_every_class_of_the_table_that_can_be_tried_again_is(work: Start, fault: FaultClass) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda _, nth: failure(fault) if nth == 1 else reply())) as at:
            at.feed()
            await at.done()
            record = (await at.outcomes())[0]
            assert not record["failed"]
            assert record["attempts"] == 1 + fault.spends_attempt

    run(story())
