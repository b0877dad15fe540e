"""Several providers in one worker: who gets a row, who gets it next, and what a provider in trouble is spared."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from rowmill.core.leases import Lease, Share
from rowmill.core.wire import Failure
from rowmill.flow.retry import RetryBudget
from rowmill.transport import faults
from rowmill.worker.job import Job
from rowmill.worker.live.provider import Provider
from tests.worker.live.conftest import TASK, Result, Start, Wire, Work, failure, reply, run

CONTEXT = json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}}).encode()
WRONG = json.dumps({"error": {"message": "no such parameter", "code": "unknown_parameter"}}).encode()


class Wires:
    """A wire for each provider, made in the order of the providers."""

    def __init__(self, *rules: Callable[[int, int], Result | Awaitable[Result]]) -> None:
        self.wires = [Wire(rule) for rule in rules]

    def sent(self) -> list[int]:
        return [len(wire.sent) for wire in self.wires]

    def providers(self, **more: list[object]) -> Callable[[Wire], list[Provider]]:
        """Make the providers a, b, c, ...; `weight=[1, 2]` gives each its own."""

        def make(_wire: Wire) -> list[Provider]:
            return [
                Provider(
                    number,
                    "abcdef"[number],
                    wire,
                    **{name: values[number] for name, values in more.items()},  # type: ignore[arg-type]  # by name
                )
                for number, wire in enumerate(self.wires)
            ]

        return make


def fine(_row: int, _nth: int) -> Result:
    return reply()


# Who gets a row


def test_rows_go_to_the_providers_by_weight(work: Start) -> None:
    async def story() -> None:
        wires = Wires(fine, fine, fine)
        async with work(800, providers=wires.providers(weight=[1.0, 2.0, 5.0])) as at:
            at.feed()
            await at.done()
            assert [round(count / 100) for count in wires.sent()] == [1, 2, 5]
            providers = Counter(record["provider"] for record in (await at.outcomes()).values())
            assert dict(zip("abc", wires.sent(), strict=True)) == providers

    run(story())


def test_a_provider_with_room_is_used_whatever_the_weights(work: Start) -> None:
    async def story() -> None:
        async def slow(_row: int, _nth: int) -> Result:
            await asyncio.sleep(0.004)
            return reply()

        wires = Wires(slow, fine)
        async with work(300, providers=wires.providers(weight=[1.0, 1000.0])) as at:
            at.lease(4, 1, requests=Share(100.0, 5.0))
            at.feed()
            await at.done()
            assert wires.sent()[0] > 200, "the other one's limit is no reason to wait"
            assert wires.sent()[1] >= 20, "and neither is the other one's small weight"

    run(story())


def test_a_provider_that_was_out_does_not_make_up_for_it(work: Start) -> None:
    async def story() -> None:
        wires = Wires(fine, fine)
        async with work(1200, providers=wires.providers(weight=[1.0, 1.0])) as at:
            at.lease(0, 1)
            at.feed(0, 1000)
            await at.until(lambda: at.recorded == 1000)
            assert wires.sent() == [1000, 0]
            at.lease(4, 1)
            at.feed(1000, 200)
            await at.done()
            assert wires.sent()[0] == pytest.approx(1100, abs=3)

    run(story())


def test_each_is_asked_for_its_own_model(work: Start) -> None:
    async def story() -> None:
        wires = Wires(fine, fine)
        async with work(40, providers=wires.providers(rewrite=[None, TASK.asking("other")])) as at:
            at.feed()
            await at.done()
            bodies = [[json.loads(body) for _, body in wire.sent] for wire in wires.wires]
            assert {body["model"] for body in bodies[0]} == {"m"}
            assert {body["model"] for body in bodies[1]} == {"other"}
            assert all(body["messages"][0]["content"].startswith("row ") for sent in bodies for body in sent)

    run(story())


# A row that fails


def test_a_row_that_failed_at_one_is_tried_at_another_and_does_not_wait_long(
    work: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(500, b""), fine)
        async with work(10, providers=wires.providers(), scale=1.0, attempts=6) as at:
            waits: list[float] = []
            retry = at.dispatcher.backlog.retry

            def kept(job: Job, due: float, *, put_off: bool = False) -> None:
                waits.append(due - time.monotonic())
                retry(job, due, put_off=put_off)

            monkeypatch.setattr(at.dispatcher.backlog, "retry", kept)
            at.feed()
            await at.done()
            assert 0 < max(waits) < 0.9, "a second of backoff would spare the wrong provider"
            records = await at.outcomes()
            assert not any(record["failed"] for record in records.values())
            assert {record["provider"] for record in records.values()} == {"b"}
            assert all(record["requests"] <= 2 for record in records.values())

    run(story())


@pytest.mark.parametrize("end", ["answered elsewhere", "failed elsewhere"])
def test_no_provider_remembers_a_row_that_has_come_to_its_end_elsewhere(work: Start, end: str) -> None:
    """Millions of rows may fail once: what is kept of each would grow, and be looked through for every answer."""

    async def story() -> None:
        def elsewhere(row: int, _nth: int) -> Result:
            return reply(400, WRONG) if end == "failed elsewhere" and row % 3 == 0 else reply()

        # Never in a row: nothing that is odd of the provider itself.
        wires = Wires(lambda row, _: failure(faults.CONNECTION) if row % 3 == 0 else reply(), elsewhere)
        made = wires.providers()(Wire())
        async with work(120, providers=lambda _: made) as at:
            at.feed()
            await at.done()
            assert sum(row % 3 == 0 for row in wires.wires[0].rows) > 10
            records = await at.outcomes()
            assert {records[row]["failed"] for row in range(0, 120, 3)} == {end == "failed elsewhere"}
            assert [dict(each.standing._singled.rows) for each in made] == [{}, {}]

    run(story())


def test_a_row_whose_key_was_refused_once_in_a_while_is_forgotten_once_it_is_answered(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda row, nth: reply(401, b"") if row % 20 == 10 and nth == 1 else reply())
        made = wires.providers()(Wire())
        async with work(120, providers=lambda _: made) as at:
            at.feed()
            await at.done()
            assert sum(wires.sent()) == 126
            assert not any(record["failed"] for record in (await at.outcomes()).values())
            assert made[0].standing._doubt._before == set()

    run(story())


def test_a_429_pauses_its_provider_and_not_the_others(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(429, b"", retry_after="600"), fine)
        async with work(50, providers=wires.providers(), scale=1.0) as at:
            at.feed()
            await at.done()
            assert wires.sent()[0] <= 4, "what was in flight when it was seen"
            assert {each.provider for each in at.told.refused} == {0}

    run(story())


def test_what_a_provider_refuses_for_good_goes_to_its_fallback(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda row, _: reply(400, CONTEXT) if row % 5 == 0 else reply(), fine)
        make = wires.providers(
            weight=[1.0, 0.0], fallback=[(1,), ()], fallback_on=[("context_length",), ("context_length",)]
        )
        async with work(50, providers=make) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert not any(record["failed"] for record in records.values())
            assert [row for row in range(50) if records[row]["provider"] == "b"] == list(range(0, 50, 5))
            assert wires.sent() == [50, 10], "a fallback gets no first choices"

    run(story())


def test_fallbacks_are_asked_in_turn_and_the_last_ones_failure_is_the_rows(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(400, CONTEXT), lambda *_: reply(400, CONTEXT), lambda *_: reply(400, WRONG))
        on = ("context_length",)
        make = wires.providers(weight=[1.0, 0.0, 0.0], fallback=[(1, 2), (0,), ()], fallback_on=[on, on, on])
        async with work(4, providers=make) as at:
            at.feed()
            await at.done()
            assert wires.sent() == [4, 4, 4]
            records = await at.outcomes()
            assert {record["line"]["error"]["class"] for record in records.values()} == {"invalid_request"}
            assert {record["provider"] for record in records.values()} == {"c"}

    run(story())


def test_a_retry_of_a_fallback_stays_with_it(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(400, CONTEXT), lambda _, nth: failure(faults.TIMEOUT) if nth == 1 else reply())
        on = ("context_length",)
        make = wires.providers(weight=[1.0, 0.0], fallback=[(1,), ()], fallback_on=[on, on])
        async with work(3, providers=make) as at:
            at.feed()
            await at.done()
            assert wires.sent() == [3, 6]

    run(story())


def test_rows_wait_for_their_fallback_while_others_go_on(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda row, _: reply(400, CONTEXT) if row < 3 else reply(), fine)
        make = wires.providers(weight=[1.0, 0.0], fallback=[(1,), ()], fallback_on=[("context_length",), ()])
        async with work(20, providers=make) as at:
            at.lease(0, 1)
            at.feed()
            await at.until(lambda: at.recorded == 17)
            at.lease(1, 1)
            await at.done()
            assert wires.sent() == [20, 3]

    run(story())


# A provider that is done with


def test_when_one_is_closed_its_rows_go_to_the_others_and_none_has_failed(work: Start) -> None:
    async def story() -> None:
        quota = json.dumps({"error": {"code": "insufficient_quota", "message": "no credit"}}).encode()
        wires = Wires(lambda *_: reply(429, quota), fine)
        async with work(60, providers=wires.providers()) as at:
            at.feed()
            await at.done()
            assert [each.provider for each in at.told.closed] == [0], "said once"
            assert wires.sent()[0] <= 4
            assert not any(record["failed"] for record in (await at.outcomes()).values())

    run(story())


def test_a_closed_first_choice_sends_its_rows_to_the_fallback(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda *_: reply(401, b"{}"), fine)
        async with work(30, providers=wires.providers(weight=[1.0, 0.0], fallback=[(1,), ()])) as at:
            at.feed()
            await at.done()
            assert wires.sent()[1] == 30

    run(story())


def test_rows_that_only_a_closed_fallback_was_left_for_have_failed_as_they_did_first(work: Start) -> None:
    async def story() -> None:
        wires = Wires(lambda row, _: reply(400, CONTEXT) if row < 5 else reply(), lambda *_: reply(401, b"{}"))
        make = wires.providers(weight=[1.0, 0.0], fallback=[(1,), ()], fallback_on=[("context_length",), ()])
        async with work(20, providers=make, concurrency=1) as at:
            at.feed()
            await at.done()
            records = await at.outcomes()
            assert [row for row in range(20) if records[row]["failed"]] == [0, 1, 2, 3, 4]
            assert {records[row]["line"]["error"]["class"] for row in range(5)} == {"context_length"}

    run(story())


def test_one_permanent_error_on_a_long_streak_of_rows_closes_the_provider(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Result:
            return reply(400, WRONG) if row >= 40 and row != 55 else reply()

        async with work(400, Wire(rule), concurrency=1, streak=30) as at:
            at.feed()
            await at.until(lambda: at.told.closed)
            assert "the same error on 30 rows" in at.told.closed[0].reason
            await at.settled()
            assert len(at.wire.sent) < 100, "almost nothing more is sent; one good reply between does not hide it"
            assert at.recorded == len(at.wire.sent)

    run(story())


def test_errors_of_many_kinds_and_errors_between_good_rows_close_nothing(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, _nth: int) -> Result:
            if row % 10 == 0:
                return reply()
            return reply(400, WRONG if row % 2 else CONTEXT)

        async with work(400, Wire(rule), streak=30) as at:
            at.feed()
            await at.done()
            assert at.told.closed == []

    run(story())


def test_rows_whose_tries_are_used_up_close_nothing_however_many_fail_alike(work: Start) -> None:
    """What another try may help is trouble of the moment: the breaker's business, and no error of every row."""

    async def story() -> None:
        # Sixteen failures: fewer than make a worker stop by itself.
        async with work(8, Wire(lambda *_: reply(500, b"")), streak=5, attempts=2) as at:
            at.feed()
            await at.done()
            assert all(record["line"]["error"]["class"] == "server_error" for record in (await at.outcomes()).values())
            assert len(at.wire.sent) == 16
            assert at.told.closed == []

    run(story())


# A provider that fails


def tripped(at: Work) -> bool:
    return bool(at.told.tripped)


def test_a_worker_stops_by_itself_when_nothing_but_failures_come(work: Start) -> None:
    async def story() -> None:
        async with work(500, Wire(lambda *_: reply(503, b"")), concurrency=4, scale=1000.0) as at:
            at.feed()
            await at.until(lambda: tripped(at))
            await at.settled()
            assert 20 <= len(at.wire.sent) <= 20 + 4
            assert len(at.told.tripped) == 1
            at.lease(4)  # from before the supervisor knew
            await at.settled()
            assert len(at.wire.sent) <= 20 + 4
            for probes in (1, 2, 3):
                sent = len(at.wire.sent)
                at.lease(1, failing=True)
                await at.until(lambda sent=sent: len(at.wire.sent) > sent)  # type: ignore[misc]  # bound for the loop
                await at.settled()
                assert len(at.wire.sent) == sent + 1, f"probe {probes}: one for each lease, however fast it fails"

    run(story())


def test_a_good_reply_between_is_no_persistent_failure(work: Start) -> None:
    async def story() -> None:
        async with work(60, Wire(lambda row, nth: reply(503, b"") if row % 10 and nth == 1 else reply())) as at:
            at.feed()
            await at.done()
            assert not tripped(at)

    run(story())


def test_a_probe_that_fails_spends_no_attempt(work: Start) -> None:
    async def story() -> None:
        def rule(_row: int, nth: int) -> Result:
            return failure(faults.TIMEOUT) if nth < 9 else reply()

        async with work(1, Wire(rule), attempts=2) as at:
            at.feed()
            while not at.recorded:
                at.lease(1, failing=True)
                await at.settled()
            assert not (await at.outcomes())[0]["failed"]
            assert at.wire.tries[0] == 9

    run(story())


def test_nothing_is_sent_on_a_lease_that_has_expired(work: Start) -> None:
    async def story() -> None:
        async with work(50, Wire(fine), concurrency=2) as at:
            at.dispatcher.apply([Lease(0, 1 << 20, time.monotonic() - 0.001, 2)])
            at.feed()
            await at.settled()
            assert at.wire.sent == []
            at.dispatcher.apply([Lease(0, (1 << 20) + 1, time.monotonic() + 60.0, 2)])
            await at.done()

    run(story())


def test_fewer_slots_let_what_is_out_come_home_and_more_start_at_once(work: Start) -> None:
    async def story() -> None:
        async with work(50, concurrency=8) as at:
            at.lease(2)
            at.feed()
            await at.until(lambda: at.wire.in_flight == 2)
            at.lease(8)
            await at.until(lambda: at.wire.in_flight == 8)
            at.lease(1)
            for left in range(7, 0, -1):
                at.wire.answer(next(iter(at.wire.open)))
                await at.settled()
                assert at.wire.in_flight == left
            at.wire.answer(next(iter(at.wire.open)))
            await at.until(lambda: at.wire.in_flight == 1)

    run(story())


# The retry budget


def test_retries_wait_for_their_budget_and_new_rows_do_not(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(500, b"") if nth == 1 and row < 120 and row % 2 else reply()

        budget = RetryBudget(0.0, 20.0, time.monotonic())  # twenty at once, then twenty a second
        async with work(300, Wire(rule), budget=budget, scale=0.0) as at:
            began = time.monotonic()
            at.feed()
            await at.until(lambda: at.recorded >= 240 and at.dispatcher.backlog.budget_short)
            assert at.dispatcher.backlog.waiting > 0, "all others are done while some are held back"
            await at.done()
            assert time.monotonic() - began > 1.5, "sixty retries, of which twenty are free"

    run(story())


@pytest.mark.timed
def test_a_retry_at_the_time_that_the_server_named_is_not_held_up_by_the_budget(work: Start) -> None:
    async def story() -> None:
        def rule(row: int, nth: int) -> Result:
            return reply(429, b"", retry_after_ms="20") if nth == 1 and row < 60 else reply()

        budget = RetryBudget(0.0, 1.0, time.monotonic())
        async with work(100, Wire(rule), budget=budget, concurrency=60, scale=1.0) as at:
            began = time.monotonic()
            at.feed()
            await at.done()
            assert time.monotonic() - began < 5, "fifty of them would have waited a second each"
            assert not at.dispatcher.backlog.budget_short

    run(story())


def test_replies_from_before_the_failures_do_not_hide_them(work: Start) -> None:
    async def story() -> None:
        async with work(200, concurrency=32, scale=1000.0) as at:
            at.feed()
            await at.until(lambda: at.wire.in_flight == 32)
            slow = list(at.wire.open)[:10]
            while not tripped(at):
                assert at.recorded < 10
                for row in [row for row in at.wire.open if row not in slow][:5]:
                    at.wire.answer(row, reply(503, b""))
                if slow:
                    at.wire.answer(slow.pop())
                await at.settled()
            assert len(at.wire.sent) <= 32 + 30

    run(story())


def test_where_hardly_a_row_is_left_that_has_not_failed_every_try_counts_and_no_streak_stops_the_worker(
    work: Start,
) -> None:
    async def story() -> None:
        broken = json.dumps({"error": {"message": "no such voice", "type": "server_error"}}).encode()
        async with work(30, Wire(lambda *_: reply(500, broken)), concurrency=30, attempts=3, scale=0.0) as at:
            at.providers[0].standing.proven = True
            at.lease(4, failing=True)
            at.feed()
            await at.settled()
            report = at.providers[0].taken(rows_wait=True, paced=False, last=True)
            assert report.last, "a server that answers so may mean the row"
            assert not at.providers[0].taken(rows_wait=True, paced=False).last
            at.lease(30, last=True, proven=True)
            await at.done()
            assert not tripped(at)
            assert {each["attempts"] for each in (await at.outcomes()).values()} == {3}
            assert max(at.wire.tries.values()) <= 4, "but for what was a probe"
            assert at.providers[0].taken(rows_wait=False, paced=False, none=True).last

    run(story())


def test_a_probe_is_a_row_that_has_not_failed_and_far_from_those_that_have(work: Start) -> None:
    async def story() -> None:
        rule = Wire(lambda row, _: reply(500, b"") if row < 10 else reply())
        async with work(40, rule, concurrency=1, attempts=2, scale=1000.0) as at:
            at.lease(1, failing=True)
            at.feed()
            await at.until(lambda: at.wire.rows == [0])
            await at.settled()
            at.lease(1, failing=True)
            await at.until(lambda: len(at.wire.rows) > 2)
            assert at.wire.rows[:3] == [0, 39, 38]

    run(story())


@pytest.mark.parametrize(
    ("found", "own"),
    [
        (failure(faults.TABLE["server_error"], status=500), True),
        (failure(faults.BAD_REPLY, status=200), True),
        (failure(faults.TIMEOUT), True),
        (failure(faults.CONNECTION, part="http"), True),
        (failure(faults.CONNECTION, part="connection"), False),
        (failure(faults.TABLE["server_error"], status=502), False),
        (failure(faults.TABLE["overloaded"], status=503), False),
    ],
)
def test_what_may_be_of_a_row_is_what_comes_of_looking_at_it(found: Failure, own: bool) -> None:
    assert faults.may_be_of_row(found) is own
