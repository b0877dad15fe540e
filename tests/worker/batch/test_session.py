"""The stages of a session: which moves there are, and what each stage lets happen."""

import asyncio
from collections.abc import Callable

import pytest

from rowmill.worker.batch.session import NEAR, BatchSession, Stage
from tests.worker.batch.virtual_time import START, VirtualClock

EVENTS: dict[str, Callable[[BatchSession], None]] = {
    "hold": BatchSession.hold,
    "switch": lambda session: session.switch(100.0, NEAR),
}


def session_after(clock: VirtualClock, *events: str) -> BatchSession:
    session = BatchSession(clock)
    for event in events:
        EVENTS[event](session)
    return session


@pytest.mark.parametrize(
    ("events", "stage", "facts"),
    [
        ([], Stage.SENDING, (True, False, False)),
        (["hold"], Stage.HELD, (False, True, False)),
        (["switch"], Stage.LEAVING, (False, False, True)),
        (["hold", "switch"], Stage.HELD_LEAVING, (False, True, True)),
        (["switch", "hold"], Stage.HELD_LEAVING, (False, True, True)),
    ],
)
def test_each_stage_is_reached_and_nothing_is_taken_back(
    events: list[str], stage: Stage, facts: tuple[bool, bool, bool]
) -> None:
    session = session_after(VirtualClock(), *events)
    assert session.stage is stage
    assert (session.sends, session.held, session.switched) == facts
    for event in events:
        with pytest.raises(ValueError, match=f"{event} where the session is {stage.name}"):
            EVENTS[event](session)


def test_a_session_tells_its_stage_and_until_when_the_provider_is_asked() -> None:
    clock = VirtualClock()
    assert repr(session_after(clock, "hold")) == "<BatchSession HELD>"
    assert repr(session_after(clock, "switch")) == f"<BatchSession LEAVING until {START + 100:.0f}>"


def test_a_switch_wakes_what_rests_and_gives_a_fifth_of_its_time_to_results() -> None:
    clock = VirtualClock()

    async def story() -> None:
        session = BatchSession(clock)
        up = asyncio.ensure_future(session.time_is_up())
        await session.rest(5.0)
        assert clock.time() - START == 5.0
        asyncio.get_running_loop().call_later(10.0, session.switch, 100.0, NEAR)
        await session.rest(500.0)
        assert clock.time() - START == 15.0
        assert (session.look_until - START, session.ask_until - START) == (95.0, 115.0)
        await session.rest(500.0)
        assert clock.time() - START == 15.0
        await up
        assert clock.time() - START == 115.0

    clock.run(story())
