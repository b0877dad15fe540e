"""Why a session ends, and with what exit code."""

from engine.errors import ExitCode, RowmillError


class Ending:
    """What has spoken for the session's end so far.

    stopped_by: the first reason that there was to end early. handed_over: why the rest is another phase's.
    interrupted: signals. drain_until: by when workers that drain are gone, on the supervisor's clock.
    """

    def __init__(self) -> None:
        self.stopped_by: RowmillError | None = None
        self.handed_over: str | None = None
        self.interrupted = 0
        self.drain_until: float | None = None
        self.over = False  # nothing is started any more

    @property
    def begun(self) -> bool:
        """Whether nothing new is to be begun."""
        return self.stopped_by is not None or self.handed_over is not None or self.interrupted > 0

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
        return ExitCode.OK, self.handed_over
