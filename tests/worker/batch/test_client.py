"""Asking the provider: what is asked again, for how long, and what ends the run."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.config.sections import BatchConfig
from rowmill.core.errors import ExitCode
from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.transport.batch_trouble import BatchTrouble
from rowmill.worker.batch.client import BatchClient, End, Gone
from tests.worker.batch.provider_in_memory import Life, trouble
from tests.worker.batch.virtual_time import START, VirtualClock
from tests.worker.batch.world import World


class Line:
    """A provider that does what is next in a script: an answer, or the name of what is wrong."""

    def __init__(self, clock: VirtualClock, *script: str) -> None:
        self.script = list(script)
        self.times: list[float] = []
        self.clock = clock

    async def __call__(self) -> str:
        self.times.append(self.clock.time() - START)
        await self.clock.sleep(0)
        word = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if word in ("connection", "rate_limited", "auth", "invalid_request", "not_found", "gone"):
            raise trouble("not_found" if word == "gone" else word, f"{word} it is", gone=word == "gone")
        return word


def asked(*script: str) -> tuple[BatchClient, Line, VirtualClock, list[str]]:
    clock, notes = VirtualClock(), list[str]()
    line = Line(clock, *script)
    client = BatchClient(
        line,  # type: ignore[arg-type]  # what is asked is given with each call
        provider="main",
        config=BatchConfig(poll_s=5.0, poll_max_s=60.0),
        clock=clock,
        note=notes.append,
    )
    return client, line, clock, notes


def test_what_can_be_asked_twice_is_asked_until_there_is_an_answer_ever_more_rarely() -> None:
    client, line, clock, notes = asked("yes", *["connection"] * 6, "yes")
    assert clock.run(client.sure(line)) == "yes"
    line.times.clear()
    assert clock.run(client.sure(line)) == "yes"
    assert line.times == [0, 5, 15, 35, 75, 135, 195]
    assert notes == ["provider 'main': connection (connection it is); trying again"]


@pytest.mark.parametrize("before", [False, True])
def test_a_provider_that_is_silent_is_given_up_later_where_it_has_answered_before(before: bool) -> None:
    client, line, clock, _ = asked(*["yes"] * before, "connection")

    async def story() -> None:
        if before:
            await client.ask(line)
        await client.sure(line)

    assert repr(client) == "<BatchClient main: no trouble, never answered>"
    with pytest.raises(End) as caught:
        clock.run(story())
    assert caught.value.exit_code == ExitCode.PROVIDER
    assert "no answer for" in str(caught.value)
    assert "connection it is" in str(caught.value)
    least = 6 * 3600 if before else 60
    assert least < line.times[-1] <= least + 60


def test_a_provider_that_is_silent_from_the_start_ends_a_run_and_nothing_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path, 100)
    world.provider.fate = lambda call, number: "connection"
    end = world.ends()
    assert isinstance(end, End)
    assert end.exit_code == ExitCode.PROVIDER
    assert 60 < world.clock.time() - START < 130
    world.provider.fate = lambda call, number: ""
    assert world.ends() is None
    assert world.asked_once


@pytest.mark.parametrize("word", ["auth", "not_found", "invalid_request"])
def test_what_no_asking_helps_ends_the_run_at_once(word: str) -> None:
    client, line, clock, _ = asked(word)
    with pytest.raises(End, match=f"provider 'main': {word} it is") as caught:
        clock.run(client.sure(line))
    assert caught.value.exit_code == ExitCode.PROVIDER
    assert line.times == [0]


@pytest.mark.parametrize(("word", "ends"), [("invalid_request", False), ("auth", True), ("not_found", True)])
def test_a_call_that_may_be_refused_ends_the_run_only_for_what_concerns_every_call(word: str, ends: bool) -> None:
    client, line, clock, notes = asked(word)
    if ends:
        with pytest.raises(End):
            clock.run(client.ask(line, refusable=True))
    else:
        assert clock.run(client.ask(line, refusable=True)) is None
    assert not notes


def test_a_file_that_is_gone_is_for_the_caller_and_a_batch_is_not(tmp_path: Path) -> None:
    client, line, clock, _ = asked("gone")
    for ask in (client.ask, client.sure):
        call: Callable[..., Awaitable[object]] = ask
        with pytest.raises(Gone, match="gone it is"):
            clock.run(call(line))  # type: ignore[arg-type]  # both are coroutines
    world = World(tmp_path, 10, Life(working=9000.0))
    world.session(stop_after=50)
    with pytest.raises(End, match="does not know batch batch_0 of part 0") as caught:
        clock.run(client.sure(line, world.tries[0]))
    assert "rowmill cancel" in str(caught.value)


def test_trouble_of_one_kind_is_not_over_when_calls_of_another_are_answered() -> None:
    client, line, clock, notes = asked("connection")
    fine = Line(clock, "yes")

    async def story() -> None:
        while True:
            await client.ask(line, kind="create")
            await client.ask(fine)
            await clock.sleep(600)

    with pytest.raises(End, match="no answer for"):
        clock.run(story())
    assert line.times[-1] == 37 * 600
    assert len(notes) == 1
    assert repr(client) == "<BatchClient main: trouble with ['create']>"


def test_trouble_that_is_over_is_forgotten() -> None:
    client, line, clock, notes = asked("yes", "connection", "yes", "connection", "yes")

    async def story() -> None:
        for _ in range(3):
            await client.sure(line)
            await clock.sleep(7 * 3600)

    clock.run(story())
    assert len(notes) == 2


def test_trouble_that_turned_out_to_be_none_is_forgotten() -> None:
    client, line, clock, _ = asked("connection")

    async def story() -> None:
        for _ in range(5):
            await client.ask(line, kind="upload")
            client.came_through("upload")
            await clock.sleep(86_400)

    clock.run(story())
    assert len(line.times) == 5


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("comes", [False, True])
def test_where_nobody_was_ever_there_it_is_told_in_seconds(known: bool, comes: bool) -> None:
    clock, notes = VirtualClock(), list[str]()
    looks: list[float] = []

    class Nobody:
        url = "http://h.example/v1/files"

        async def reach(self) -> None:
            looks.append(clock.time() - START)
            if not comes or len(looks) < 3:
                raise refused

    refused = BatchTrouble(Failure(fault=faults.CONNECTION, message="Connection refused", part="connection"))

    async def call() -> str:
        if comes and len(looks) >= 3:
            return "yes"
        raise refused

    api: Any = Nobody()
    config = BatchConfig(poll_s=5.0, poll_max_s=60.0)
    client = BatchClient(api, provider="main", config=config, clock=clock, note=notes.append, known=known)
    if comes and not known:
        assert clock.run(client.sure(call)) == "yes"
        assert clock.time() - START < 10
        return
    with pytest.raises(End) as caught:
        clock.run(client.sure(call))
    assert caught.value.exit_code == ExitCode.PROVIDER
    if known:
        assert clock.time() - START > 60, "an outage of somebody known"
        assert not looks
    else:
        assert 2 < clock.time() - START < 4
        assert "no answer from http://h.example/v1/files. Is the server running" in str(caught.value)
