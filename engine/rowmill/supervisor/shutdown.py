"""How a session ends before its time: for what reason, with what exit code, and how long its workers may take."""

import signal
from collections.abc import Callable

from rowmill.core.errors import ExitCode, RowmillError
from rowmill.supervisor.pool import Member, Pool

_MOOT = (ExitCode.PROVIDER, ExitCode.BUDGET)  # why nothing more could be sent, where nothing more is to be
DRAIN_S = 30.0  # at a first signal what is in flight gets this long, or its own timeout where that is shorter
LATE_S = 5.0  # a drained worker that is still there this much later is killed


class Shutdown:
    """What has spoken for the session's end so far, and what was done about it.

    stopped_by: the first reason that there was to end early. handed_over: why the rest is another phase's.
    interrupted: signals so far. left: the rest is a later session's. over: nothing is started any more.
    """

    def __init__(
        self, pool: Pool, *, drain_s: float, doing: str, clock: Callable[[], float], log: Callable[[str], None]
    ) -> None:
        """`drain_s`: that workers get for what is in flight; `doing`: what happens meanwhile, for people."""
        self.stopped_by: RowmillError | None = None
        self.handed_over: str | None = None
        self.interrupted = 0
        self.left = False
        self.over = False
        self._pool = pool
        self._drain_s = drain_s
        self._doing = doing
        self._clock = clock
        self._log = log
        self._drain_until: float | None = None

    def __repr__(self) -> str:
        why = self.stopped_by or self.handed_over or ("interrupted" if self.interrupted else None)
        if why is None:
            return f"<{'over' if self.over else 'going on'}>"
        return f"<{why}{', draining' if self.draining else ''}{', over' if self.over else ''}>"

    @property
    def begun(self) -> bool:
        """Whether nothing new is to be begun."""
        return self.stopped_by is not None or self.handed_over is not None or self.interrupted > 0

    @property
    def draining(self) -> bool:
        """Whether workers were told to finish."""
        return self._drain_until is not None

    def stop(self, error: RowmillError, told: str = "") -> None:
        """End the run early, for the first reason that there was; `told`: instead of it, where the log has it.

        Who has interrupted the run hears of what is lost or broken after that, but not of what would have ended it.
        """
        if self.stopped_by is None and not (self.interrupted and error.exit_code in _MOOT):
            self.stopped_by = error
            self._log(f"stopping: {told or error}")
            self._drain()

    def interrupt(self, number: signal.Signals) -> None:
        """React to a signal: the first one drains, the second one kills."""
        self.interrupted += 1
        if self.interrupted == 1:
            self._log(f"{number.name}: {self._doing}; once more to stop at once")
            self._pool.wake()
            self._drain()
        else:
            self._pool.stop_all()

    def hand_over(self, member: Member, reason: str) -> None:
        """End this phase: what is left is the next one's. Its worker drains by itself."""
        self.handed_over = reason
        self._log(reason)
        if member.state != "draining":
            member.become("draining")

    def leave(self, reason: str) -> None:
        """End the session: what it was for is done, and the rest of the run is for a later one."""
        self.handed_over = reason
        self.left = True
        self._log(reason)
        self._pool.drain(0.0)

    def look(self, now: float) -> None:
        """Kill workers that take longer than they were given."""
        if self._drain_until is not None and now > self._drain_until:
            self._pool.kill_all()

    def slept(self, seconds: float) -> None:
        """Give workers the time that the supervisor did not run: neither did they, or what they told was not heard."""
        if self._drain_until is not None:
            self._drain_until += seconds

    def outcome(self, *, finished: bool, failed: int) -> tuple[ExitCode, str | None]:
        """Return the exit code, and in a line why the session ended before its time.

        `finished`: every row has its line in the output, so many of them failed ones.
        """
        if finished:
            return ExitCode.ROWS_FAILED if failed else ExitCode.OK, None
        if self.stopped_by is not None:
            return self.stopped_by.exit_code, str(self.stopped_by)
        if self.interrupted:
            return ExitCode.INTERRUPTED, "interrupted"
        return (ExitCode.ROWS_FAILED if failed and self.left else ExitCode.OK), self.handed_over

    def _drain(self) -> None:
        self._drain_until = self._clock() + self._drain_s + LATE_S
        self._pool.drain(self._drain_s)
