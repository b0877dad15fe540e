"""The exceptions that end a run, and the exit code of each.

Everything that a user can cause or must act on is a `RowmillError`; its text is one line that says what is
wrong and what to do. Anything else that reaches the command line is a defect of Rowmill.

A failure of a single row is no exception but an outcome (`wire.Failure`): `InvalidRow`, `BadReply`, `Declined`
and `InvalidOutput` are raised by tasks and end inside the worker.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

from rowmill.core.plain_text import one_line

if TYPE_CHECKING:
    from rowmill.core.wire import Answer  # at run time not that one: a command's start imports this module


class ExitCode(IntEnum):
    """What the `rowmill` command answers. All but USAGE can be resumed by the same command."""

    OK = 0  # every row has a result
    ROWS_FAILED = 1  # finished, and some rows failed
    USAGE = 2  # usage, configuration or input: nothing was written
    BUDGET = 3  # stopped by a budget that the user set
    PROVIDER = 4  # stopped by the provider: credit, key or model
    RUN_DIRECTORY = 5  # damaged or mismatched run directory
    MACHINE = 6  # this machine: disk full, out of descriptors, workers that keep dying
    DEFECT = 70  # Rowmill itself: what nobody has thought of
    INTERRUPTED = 130


class RowmillError(Exception):
    """An end of the run that the user can act on."""

    exit_code = ExitCode.USAGE
    excerpt: tuple[str, ...] = ()  # of a file, with the place: lines that a terminal shows below the text

    def __str__(self) -> str:
        """Return the text, in one line whatever names and words of others are in it."""
        return one_line(super().__str__())

    @classmethod
    def of(cls, code: int, reason: str) -> "RowmillError":
        """Make an error again that another process has told of."""
        error = cls(reason)
        error.exit_code = ExitCode(code)
        return error


class ConfigError(RowmillError):
    """The configuration cannot be used. The message names the file and the key."""


class InputError(RowmillError):
    """The input or output file cannot be used as configured."""


class BudgetError(RowmillError):
    """The budget that the user set does not cover what is left."""

    exit_code = ExitCode.BUDGET


class ProviderError(RowmillError):
    """No provider is left that would answer: credit, key, model, or down for too long."""

    exit_code = ExitCode.PROVIDER


class RunDirectoryError(RowmillError):
    """The run directory is damaged, in use, or belongs to another input, prompt or model."""

    exit_code = ExitCode.RUN_DIRECTORY


class AnotherRun(RunDirectoryError):
    """The run directory is of another input, prompt or model, and both are whole: a new run beside it is possible."""


class AtWork(RunDirectoryError):
    """The run directory is in use: by another supervisor, or by workers that one has left behind."""


class MachineError(RowmillError):
    """The machine cannot go on: disk full, out of descriptors, workers that keep dying."""

    exit_code = ExitCode.MACHINE


class DefectError(RowmillError):
    """Rowmill itself is wrong. The message names the file with the traceback."""

    exit_code = ExitCode.DEFECT


class InvalidRow(Exception):
    """The input row cannot become a request; the text says why."""


class UnreadableDocument(InvalidRow):
    """A document that the row names has no text to be had; the text says why. code: the same in a word."""

    def __init__(self, problem: str, code: str) -> None:
        super().__init__(problem)
        self.code = code


class BadReply(Exception):
    """A 2xx reply that is no valid reply; the text says why. Worth another try."""


class EmptyReply(BadReply):
    """A whole reply with nothing in it that would be an answer; the text says what there is. Worth one more try.

    rest: what the model wrote in the place of an answer, its reasoning, as a JSON string; None for nothing.
    """

    def __init__(self, problem: str, rest: bytes | None = None) -> None:
        super().__init__(problem)
        self.rest = rest
        self.more = b""  # see `Answer.more`


class DeepReply(BadReply):
    """A reply that is nested more deeply, or unpacked longer, than can be read.

    Worth one more try, and no sign of the server's health.
    """


class Declined(Exception):
    """A valid reply in which the model declined to answer; the text is the model's."""

    more = b""  # see `Answer.more`


class InvalidOutput(Exception):
    """A valid reply whose content does not fit the row's schema; the text says why. The row is asked again.

    answer: what was replied, with the content as it came, a JSON string, in `output`. prose: there is a text, which is
    whole, and no JSON in it.
    """

    def __init__(self, problem: str, answer: "Answer", *, prose: bool = False) -> None:
        super().__init__(problem)
        self.answer = answer
        self.prose = prose
