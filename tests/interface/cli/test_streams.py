"""What a command writes to stdout one after the other: no more is made of it than somebody takes."""

import io
from collections.abc import Iterator

import pytest

from rowmill.core.errors import ExitCode
from rowmill.interface.cli import streams


class Refusing(io.StringIO):
    """Takes two texts, and refuses what follows."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error
        self._taken = 0

    def write(self, text: str, /) -> int:
        if self._taken == 2:
            raise self._error
        self._taken += 1
        return super().write(text)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (BrokenPipeError(), ExitCode.OK, ""),
        (OSError(28, "No space left on device"), ExitCode.MACHINE, "No space left on device"),
    ],
)
def test_where_nobody_takes_more_no_more_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, status: ExitCode, told: str
) -> None:
    made = []

    def texts() -> Iterator[str]:
        for number in range(1_000_000):
            made.append(number)
            yield str(number)

    monkeypatch.setattr("sys.stdout", Refusing(error))
    assert streams.out_each(texts()) == status
    assert made == [0, 1, 2]
    assert told in capsys.readouterr().err
