"""How far one session goes on by batches: it sends, or somebody has stopped that, or the deadline is near, or both."""

import asyncio
from enum import Enum
from math import inf
from typing import Literal

from rowmill.worker.batch.client import Clock

NEAR = "the deadline is near"
_LOOKING = 0.8  # of the time for cancelling, until what is not over is given up; the rest is for fetching results


class Stage(Enum):
    """What is done. Nothing is sent any more means: no file is made or uploaded, no batch created."""

    SENDING = "what limits and the budget allow is sent"
    HELD = (
        "nothing is sent any more, what is under way is waited for; then the run ends: somebody has cancelled a batch"
    )
    LEAVING = "nothing is sent any more, what is under way is cancelled; what is left then is the live API's"
    HELD_LEAVING = "nothing is sent any more, what is under way is cancelled; then the run ends"


# (what happens, in which stage) -> the stage after it. A missing entry is a defect.
_MOVES: dict[tuple[str, Stage], Stage] = {
    ("hold", Stage.SENDING): Stage.HELD,
    ("hold", Stage.LEAVING): Stage.HELD_LEAVING,
    ("switch", Stage.SENDING): Stage.LEAVING,
    ("switch", Stage.HELD): Stage.HELD_LEAVING,
}


class BatchSession:
    """The stage of one session, from the start of a process to its end.

    began: Unix time. Once it is switched, why: for people; look_until: Unix time until which cancelled batches are
    waited for; ask_until: from then on the provider is asked nothing more.
    """

    def __init__(self, clock: Clock) -> None:
        self.stage = Stage.SENDING
        self.began = clock.time()
        self.why = ""
        self.look_until = self.ask_until = inf
        self._clock = clock
        self._switch = asyncio.Event()

    def __repr__(self) -> str:
        return f"<BatchSession {self.stage.name}{f' until {self.ask_until:.0f}' if self.switched else ''}>"

    @property
    def sends(self) -> bool:
        """Whether anything is sent."""
        return self.stage is Stage.SENDING

    @property
    def held(self) -> bool:
        """Whether somebody else has cancelled a batch."""
        return self.stage in (Stage.HELD, Stage.HELD_LEAVING)

    @property
    def switched(self) -> bool:
        """Whether what is under way is to be cancelled."""
        return self.stage in (Stage.LEAVING, Stage.HELD_LEAVING)

    def hold(self) -> None:
        """Learn that somebody else has cancelled a batch: the next session is there to ask again."""
        self._move("hold")

    def switch(self, wait_s: float, why: str) -> None:
        """Leave what does not end within so long to the live API."""
        self._move("switch")
        now = self._clock.time()
        self.why, self.look_until, self.ask_until = why, now + wait_s * _LOOKING, now + wait_s
        self._switch.set()

    async def rest(self, seconds: float) -> None:
        """Sleep, at most until the switch."""
        waiting = asyncio.ensure_future(self._clock.sleep(seconds))
        switch = asyncio.ensure_future(self._switch.wait())
        try:
            await asyncio.wait((waiting, switch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            switch.cancel()

    async def time_is_up(self) -> None:
        """Wait until the provider is to be asked nothing more."""
        await self._switch.wait()
        await self._clock.sleep(max(self.ask_until - self._clock.time(), 0.0))

    def _move(self, event: Literal["hold", "switch"]) -> None:
        after = _MOVES.get((event, self.stage))
        if after is None:
            raise ValueError(f"{event} where the session is {self.stage.name}")
        self.stage = after
