"""Refusals that may be the row's or the provider's: what becomes of other rows tells, and nobody fails for the key."""

import json
from math import inf
from typing import Any

import pytest

from rowmill.core.leases import Lease
from rowmill.core.wire import Failure, Reply
from rowmill.ipc.messages import Closed
from rowmill.transport import faults
from rowmill.worker.live.provider import Provider
from tests.worker.live.conftest import SECRET, Result, Start, Wire, reply, run
from tests.worker.live.test_providers import Wires, fine


def error(code: str | None, message: str = "no") -> bytes:
    return json.dumps({"error": {"message": message, "code": code}}).encode()


REFUSALS = [(401, "invalid_api_key", "auth"), (403, None, "forbidden"), (404, "model_not_found", "not_found")]


@pytest.mark.parametrize(("status", "code", "fault"), REFUSALS)
def test_a_provider_that_never_answered_is_closed_after_few_rows_and_none_has_failed(
    work: Start, status: int, code: str | None, fault: str
) -> None:
    async def story() -> None:
        wire = Wire(lambda *_: reply(status, error(code, f"bad key {SECRET}")))
        async with work(200, wire, concurrency=16) as at:
            at.feed()
            await at.until(lambda: at.told.closed)
            await at.settled()
            assert at.told.closed == [Closed(0, f"{fault} (HTTP {status}, bad key [redacted])")]
            assert len(wire.sent) <= 16, "what was on its way, and no more"
            assert await at.dispatcher.drained(5.0) == 0
            assert await at.outcomes() == {}, "a resume sends them again"

    run(story())


@pytest.mark.parametrize(("status", "code", "fault"), REFUSALS)
def test_one_row_that_is_refused_alone_closes_it_soon(work: Start, status: int, code: str | None, fault: str) -> None:
    async def story() -> None:
        async with work(1, Wire(lambda *_: reply(status, error(code)))) as at:
            at.feed()
            await at.until(lambda: at.told.closed)
            assert len(at.wire.sent) == 3
            assert await at.outcomes() == {}

    run(story())


@pytest.mark.parametrize("status", [401, 403, 404, 308])
@pytest.mark.parametrize("bad", [0, 7, 39])
def test_a_row_that_is_refused_while_others_are_answered_fails_alone(work: Start, status: int, bad: int) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Result:
            return reply(status, error(None)) if row == bad else reply()

        async with work(40, Wire(rule), concurrency=4) as at:
            at.feed()
            await at.done()
            assert at.told.closed == []
            failed = {row: record for row, record in (await at.outcomes()).items() if record["failed"]}
            assert list(failed) == [bad]
            assert failed[bad]["line"]["error"]["status"] == status

    run(story())


def test_one_401_between_answers_is_tried_again_and_answered(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(401, error("invalid_api_key")) if row == 20 and nth == 1 else reply()

        async with work(60, Wire(rule), concurrency=4) as at:
            at.feed()
            await at.done()
            assert not any(record["failed"] for record in (await at.outcomes()).values())
            assert at.wire.rows.count(20) == 2

    run(story())


@pytest.mark.parametrize("status", [403, 404])
def test_400_blocked_rows_in_the_middle_of_a_file_are_400_failed_rows(work: Start, status: int) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Result:
            return reply(status, b"<html>Forbidden</html>") if 40 <= row < 440 else reply()

        async with work(480, Wire(rule), concurrency=8, streak=25) as at:
            at.feed()
            await at.done()
            assert at.told.closed == []
            assert [row for row, record in sorted((await at.outcomes()).items()) if record["failed"]] == list(
                range(40, 440)
            )
            assert len(at.wire.sent) == 480, "each of them was asked once"

    run(story())


def test_a_key_that_is_withdrawn_in_mid_run_closes_it_and_fails_nobody(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Result:
            return reply() if row < 40 else reply(401, error("invalid_api_key"))

        async with work(400, Wire(rule), concurrency=8, streak=25) as at:
            at.feed()
            await at.until(lambda: at.told.closed)
            await at.settled()
            assert sorted(await at.outcomes()) == list(range(40))
            assert len(at.wire.sent) <= 40 + 16

    run(story())


def test_with_several_providers_one_row_closes_none(work: Start) -> None:
    async def story() -> None:
        def refuses(row: int, _nth: int) -> Result:
            return reply(401, error("invalid_api_key")) if row == 3 else reply()

        wires = Wires(refuses, refuses)
        async with work(40, providers=wires.providers(), concurrency=4) as at:
            at.feed()
            await at.done()
            assert at.told.closed == []
            assert [row for row, record in (await at.outcomes()).items() if record["failed"]] == [3]

    run(story())


def test_a_provider_whose_key_is_wrong_leaves_its_rows_to_the_other(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(401, error("invalid_api_key")), fine)
        async with work(100, providers=wires.providers(), concurrency=4) as at:
            at.feed()
            await at.done()
            assert [each.provider for each in at.told.closed] == [0]
            assert not any(record["failed"] for record in (await at.outcomes()).values())
            assert len(wires.sent()) == 2
            assert wires.sent()[0] <= 8 + 4

    run(story())


def failing(status: int) -> Failure:
    failure = faults.classify(Reply(status, b"", lambda _: None))
    assert failure is not None
    return failure


def test_what_a_gateway_says_is_no_word_of_a_row_until_somebody_has_answered_in_the_run() -> None:
    wire: Any = Wire(lambda *_: reply())
    provider = Provider(0, "main", wire, url="http://h.example/v1/chat/completions")
    assert provider.standing.is_not_there(failing(502))
    assert not provider.standing.is_not_there(failing(500)), "that may be the row's"
    provider.apply(Lease(0, 1, inf, 1, known=True), 0.0)
    assert not provider.standing.is_not_there(failing(502))


def test_silence_is_told_of_a_provider_from_which_nothing_has_come() -> None:
    wire: Any = Wire(lambda *_: reply())
    provider = Provider(0, "main", wire, url="http://h.example/v1/chat/completions")
    assert not provider.silence(8.0, 600.0), "nothing was sent"
    provider.in_flight = provider.sent = 2
    assert "main: no answer yet from http://h.example/v1/chat/completions after 8 s" in provider.silence(8.0, 600.0)
    provider.in_flight = 1
    assert not provider.silence(8.0, 600.0), "something has come back"


def test_why_rows_failed_before_any_answer_is_told_while_it_is_the_same_for_all() -> None:
    wire: Any = Wire(lambda *_: reply())
    provider = Provider(0, "main", wire)
    provider.standing.refused(failing(400))
    provider.standing.refused(failing(400))
    assert "HTTP 400" in provider.taken(rows_wait=False, paced=False).refusal
    provider.standing.refused(failing(422))
    assert not provider.taken(rows_wait=False, paced=False).refusal
