"""The connections by themselves: how fast it grows, who gets what, and what grows old."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rowmill.core.wire import Failure, Reply
from rowmill.transport.http1 import NoReply, NoRoomHere, Unreachable, connections
from rowmill.transport.http1.connection import CLOSED, IDLE, Connection
from rowmill.transport.http1.connections import Connections
from tests.transport.http1.talk import run


class Wire:
    """A transport that goes nowhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.socket: socket.socket | None = None

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            asyncio.get_running_loop().call_soon(connection.connection_lost, None)

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.socket

    def get_write_buffer_size(self) -> int:
        return 0


class World:
    """A server that lets connections come when a test says, each told by its number."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Exception | None]] = []
        self.all = Connections(self.dial, 5.0)

    async def dial(self, home: Connections) -> Connection:
        coming: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(coming)
        try:
            error = await coming
        finally:
            self.waiting.remove(coming)
        if error is not None:
            raise error
        connection = Connection(home)
        connection.connection_made(Wire(connection))
        return connection

    def ask(self, deadline: float = 1e12) -> "asyncio.Task[Connection | NoReply]":
        return asyncio.ensure_future(self.all.connection(deadline))

    async def let(self, count: int, error: Exception | None = None) -> None:
        """Let so many of them come, or fail."""
        for coming in self.waiting[:count]:
            coming.set_result(error)
        await settled()


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def within(work: Callable[[World], Awaitable[Any]]) -> None:
    async def whole() -> None:
        world = World()
        await work(world)
        await world.all.close()
        await settled()
        assert not world.waiting

    run(whole())


def test_as_many_connections_are_opened_as_there_are_and_no_more_than_are_wanted() -> None:
    async def work(world: World) -> None:
        asked = [world.ask() for _ in range(100)]
        seen = []
        while not all(each.done() for each in asked):
            await settled()
            seen.append(len(world.waiting))
            await world.let(len(world.waiting))
        assert seen == [16, 16, 32, 36]
        assert len({id(each.result()) for each in asked}) == 100

    within(work)


def test_what_is_still_opened_goes_on_while_others_have_just_been_opened() -> None:
    async def work(world: World) -> None:
        asked = [world.ask() for _ in range(8)]
        await settled()
        left = world.waiting[6:]
        for coming in world.waiting[:6]:
            coming.set_result(None)
        for _ in range(6):
            await asyncio.sleep(0)
            world.all._open_fewer()  # as deadlines are looked at, in any turn
        assert world.waiting == left
        await world.let(2)
        assert all(each.done() for each in asked)

    within(work)


def test_a_connection_that_is_free_serves_who_has_waited_longest() -> None:
    async def work(world: World) -> None:
        first = world.ask()
        await settled()
        await world.let(1)
        connection = first.result()
        assert isinstance(connection, Connection)
        second, third = world.ask(), world.ask()
        await settled()
        world.all.free(connection)
        await settled()
        assert second.result() is connection
        assert not third.done()
        third.cancel()

    within(work)


def test_the_one_used_last_is_used_first_and_what_nobody_uses_grows_old() -> None:
    async def work(world: World) -> None:
        asked = [world.ask() for _ in range(3)]
        await settled()
        await world.let(3)
        connections = [each.result() for each in asked]
        for each in connections:
            assert isinstance(each, Connection)
            world.all.free(each)
        home = world.all
        assert home.idle == connections
        home._sift()
        used = home.idle.pop()
        used.ask(b"", 1e12, asyncio.get_running_loop().create_future())
        home._sift()
        assert [each.state for each in connections if isinstance(each, Connection)] == [CLOSED, CLOSED, "asked"]
        assert home.idle == []
        used.abort()

    within(work)


def test_each_failure_is_that_of_one_request_and_what_is_late_is_late_for_all_that_have_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(connections, "monotonic", lambda: clock)

    async def work(world: World) -> None:
        nonlocal clock
        asked = [world.ask() for _ in range(20)]
        await settled()
        await world.let(2, Unreachable("nobody", "connection"))
        told = [each.result() for each in asked if each.done()]
        assert [isinstance(each, NoReply) and each.words for each in told] == ["nobody"] * 2
        clock += 3
        late = [world.ask() for _ in range(4)]
        clock += 2
        await settled()
        await world.let(1, TimeoutError())
        ends = [each.result() for each in asked[2:]]
        assert {each.end for each in ends if isinstance(each, NoReply)} == {"unconnected"}
        assert not any(each.done() for each in late)
        await settled()
        assert len(world.waiting) == 4, "and no more are opened than are wanted"
        await world.let(4)
        assert all(isinstance(each.result(), Connection) and each.result().state is IDLE for each in late)  # type: ignore[union-attr]

    within(work)


def test_one_that_waits_for_a_connection_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(connections, "monotonic", lambda: clock)

    async def work(world: World) -> None:
        nonlocal clock
        first, second = world.ask(101.0), world.ask(102.0)
        await settled()
        clock = 101.0
        world.all.watch()
        await settled()
        found = first.result()
        assert isinstance(found, NoReply)
        assert (found.end, found.taken) == ("unconnected", False)
        assert not second.done()
        assert len(world.waiting) == 1
        second.cancel()
        await settled()

    within(work)


FULL = NoRoomHere("no port is free", "connection")


def test_where_this_machine_has_no_room_requests_wait_for_the_connections_that_there_are() -> None:
    async def work(world: World) -> None:
        asked = [world.ask() for _ in range(4)]
        await settled()
        await world.let(1)
        await world.let(3, FULL)
        assert [each.done() for each in asked] == [True, False, False, False]
        assert not world.waiting, "room is looked for later"
        connection = asked[0].result()
        assert isinstance(connection, Connection)
        world.all.free(connection)
        await settled()
        assert asked[1].result() is connection
        world.all._look_for_room()
        await settled()
        assert len(world.waiting) == 2
        await world.let(2)
        assert all(isinstance(each.result(), Connection) for each in asked)

    within(work)


def test_where_it_has_none_until_the_end_each_request_says_so_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(connections, "monotonic", lambda: clock)

    async def work(world: World) -> None:
        nonlocal clock
        first, second = world.ask(), world.ask(101.0)
        await settled()
        await world.let(1)
        assert first.done()
        await world.let(1, FULL)
        assert world.all.watching
        clock = 101.0
        world.all._watch()
        await settled()
        found = second.result()
        assert isinstance(found, NoReply)
        assert (found.end, found.words) == ("unconnected", "no connection in time: no port is free")

    within(work)


def test_where_it_never_had_any_the_request_fails_at_once() -> None:
    async def work(world: World) -> None:
        asked = world.ask()
        await settled()
        await world.let(1, FULL)
        found = asked.result()
        assert isinstance(found, NoReply)
        assert (found.end, found.words, found.part) == ("broken", "no port is free", "connection")

    within(work)


def test_a_defect_in_opening_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        asked = world.ask()
        await settled()
        await world.let(1, ValueError("a defect"))
        assert [str(each["exception"]) for each in told] == ["a defect"]
        found = asked.result()
        assert isinstance(found, NoReply)
        assert (found.words, found.taken) == ("a defect: ValueError", False)

    within(work)


def test_a_connection_that_is_found_lost_with_a_reply_is_free_for_nobody() -> None:
    """Sending the rest of a request failed: its reply is still there to be read, and nothing can follow it."""
    idle: list[int] = []

    async def work(world: World) -> None:
        class Waiter:
            def done(self) -> bool:
                return False

            def set_result(self, result: Reply | Failure | NoReply) -> None:
                assert isinstance(result, Reply)
                assert result.body == b"{}"
                idle.append(len(world.all.idle))

        asked = world.ask()
        await settled()
        await world.let(1)
        connection = asked.result()
        assert isinstance(connection, Connection)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            theirs.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection._transport.socket = ours
            connection.ask(b"", 1e12, Waiter())
            connection.connection_lost(BrokenPipeError(32, "Broken pipe"))
        assert connection.state is CLOSED

    within(work)
    assert idle == [0]
