"""The time series of a run: a line of JSON for each moment, appended about once a second.

It is no part of what a run promises: nothing is synced, lines that a crash has torn are passed over, and where it
cannot be written the run goes on without it. Once it has grown by so many lines, what is long ago is joined
(`moments`), in a new file that takes the place of the old one.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from rowmill.core import private_files
from rowmill.core.moments import Moment, coarser
from rowmill.store import durable

_GROWN = 2_000  # lines since the last look, after which what is long ago is joined
_MOST_BYTES = 256 << 20  # ours are some megabytes; one that somebody else put there is not read into memory

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Moment)


def read(path: Path) -> list[Moment]:
    """Return the moments of a run, in their order; none where there is no file. Raises OSError."""
    moments = []
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    for line in data.split(b"\n"):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            moments.append(_decoder.decode(line))
    return moments


class Series:
    """Appends moments. One object is the only writer of its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._lines = 0  # since the last look
        self._broken = False  # a line that was torn is the last one

    def __repr__(self) -> str:
        return f"<{self._path.name}: {self._lines} lines since the last look>"

    def append(self, moment: Moment) -> None:
        """Write a moment. Raises OSError; the next one begins a line of its own then."""
        if self._fd is None or self._lines >= _GROWN:
            self._look(moment.at)
        assert self._fd is not None
        line = (b"\n" if self._broken else b"") + _encoder.encode(moment) + b"\n"
        self._broken = True
        self._broken = os.write(self._fd, line) != len(line)
        self._lines += 1

    def _look(self, now: float) -> None:
        """Open the file, with what is long ago in it joined."""
        self.close()
        moments = read(self._path)
        fewer = coarser(moments, now)
        if len(fewer) < len(moments):
            durable.replace_unsynced(self._path, b"".join(_encoder.encode(each) + b"\n" for each in fewer))
        self._fd = private_files.opened(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._broken = os.fstat(self._fd).st_size > 0  # its last line may be torn: an empty one is passed over
        self._lines = 0

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
