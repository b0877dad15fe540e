"""Rows that go out on idle connections without a task, over real sockets: each has its own reply, whatever happens."""

import asyncio
import json
import re
from typing import Any

from rowmill.worker.live.provider import Provider
from tests.transport.http1.talk import Script, Talk, Talker, client
from tests.worker.live.conftest import Start, Work, run


def row_of(request: bytes) -> int:
    found = re.search(rb"row (\d+)", request)
    assert found is not None
    return int(found[1])


def answer(row: int) -> bytes:
    """Return a whole reply that names its row."""
    choice = {"index": 0, "message": {"role": "assistant", "content": f"answer {row}"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def echo(talk: Talk) -> None:
    while True:
        talk.say(answer(row_of(await talk.request())))


def at_server(
    work: Start, rows: int, script: Script, story: Any, *, timeout_s: float = 20.0, slots: int = 4, scale: float = 0.001
) -> Talker:
    """Run a story over rows that a server with this script is asked for."""
    server = Talker(script)

    async def whole() -> None:
        async with (
            server.serving() as url,
            client(url, timeout_s=timeout_s) as transport,
            work(rows, concurrency=slots, scale=scale, providers=lambda _: [Provider(0, "main", transport)]) as at,
        ):
            await story(at, server)
            assert at.dispatcher.in_flight == at.providers[0].in_flight == 0

    run(whole())
    return server


async def each_has_its_own(at: Work) -> None:
    await at.done()
    found = await at.outcomes()
    assert {row: each["line"]["output"] for row, each in found.items()} == {r: f"answer {r}" for r in range(at.rows)}


def test_every_row_has_its_own_reply_on_a_few_connections(work: Start) -> None:
    async def story(at: Work, _: Talker) -> None:
        at.feed()
        await each_has_its_own(at)
        await at.settled()
        assert at.in_flight_rows() == []

    server = at_server(work, 300, echo, story)
    assert server.connections < 16
    assert len(server.requests) == 300


def test_connections_that_are_closed_after_each_reply_cost_no_request_twice(work: Start) -> None:
    async def closing(talk: Talk) -> None:
        talk.say(answer(row_of(await talk.request())))
        talk.close()

    async def story(at: Work, _: Talker) -> None:
        at.feed()
        await each_has_its_own(at)

    server = at_server(work, 60, closing, story)
    assert len(server.requests) == 60


def test_what_comes_behind_a_reply_is_never_that_of_the_next_row(work: Start) -> None:
    async def talkative(talk: Talk) -> None:
        row = row_of(await talk.request())
        talk.say(answer(row) + answer(1000 + row))
        await talk.gone()

    async def story(at: Work, _: Talker) -> None:
        at.feed()
        await each_has_its_own(at)

    at_server(work, 40, talkative, story)


def test_a_request_that_is_late_is_told_and_those_after_it_have_their_deadlines(work: Start) -> None:
    """The first ones hang, all at once; those which take their slots at that moment hang as well."""
    hung: list[int] = []

    async def hanging(talk: Talk) -> None:
        while True:
            row = row_of(await talk.request())
            if row < 4 and hung.count(row) < 2:
                hung.append(row)
                await talk.gone()
                return
            talk.say(answer(row))

    async def story(at: Work, _: Talker) -> None:
        at.feed()
        await each_has_its_own(at)
        assert at.dispatcher.count().faults["timeout"] == 8

    at_server(work, 40, hanging, story, timeout_s=0.3)
    assert sorted(hung) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_those_that_begin_as_others_are_late_are_watched(work: Start) -> None:
    """One at a time: the second request goes out in the very call in which the time of the first one is over."""
    asked: list[int] = []

    async def hanging(talk: Talk) -> None:
        while True:
            row = row_of(await talk.request())
            asked.append(row)
            if row in (2, 3) and asked.count(row) == 1:
                await talk.gone()
                return
            talk.say(answer(row))

    async def story(at: Work, _: Talker) -> None:
        at.feed(0, 2)
        await at.until(lambda: at.recorded == 2)
        at.lease(1)
        at.feed(2)
        await at.until(lambda: at.dispatcher.count().faults.get("timeout") == 2)
        assert asked[2:] == [2, 3]

    at_server(work, 4, hanging, story, timeout_s=0.3, slots=2, scale=1e6)  # they are not tried again here


def test_a_worker_that_is_told_to_stop_closes_what_is_in_flight_at_once(work: Start) -> None:
    async def first_ones(talk: Talk) -> None:
        while True:
            row = row_of(await talk.request())
            if row >= 20:
                await talk.gone()
                return
            talk.say(answer(row))

    async def story(at: Work, server: Talker) -> None:
        at.feed()
        await server.until(lambda: len(server.requests) == 24)
        assert at.in_flight_rows() == [20, 21, 22, 23]
        assert await at.dispatcher.drained(0.0) == 4
        await server.until(lambda: server.open == 0)
        assert at.in_flight_rows() == []
        assert at.recorded == 20

    at_server(work, 100, first_ones, story)


def test_what_is_not_of_a_row_ends_the_slot_and_leaves_the_row_named(work: Start) -> None:
    error = MemoryError("of the run")

    def broken(*_: object) -> None:
        raise error

    async def story(at: Work, server: Talker) -> None:
        at.feed()
        await server.until(lambda: len(server.requests) == 4)
        for task in at.dispatcher._slots:
            coroutine: Any = task.get_coro()
            coroutine.cr_frame.f_locals["self"]._settle = broken
        talks[0].say(answer(row_of(server.requests[0])))
        ended = await asyncio.wait_for(asyncio.shield(at.dispatcher.ended), 20)
        assert ended.exception() is error
        assert at.in_flight_rows() == [0, 1, 2, 3]
        assert at.dispatcher.in_flight == 3
        at.dispatcher.ended = at.dispatcher._loop.create_future()
        await at.dispatcher.drained(0.0)

    talks: list[Talk] = []

    async def held(talk: Talk) -> None:
        talks.append(talk)
        await talk.request()
        await talk.gone()

    at_server(work, 200, held, story)
