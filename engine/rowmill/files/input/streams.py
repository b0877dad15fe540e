"""The user's files as streams of bytes: opened, decompressed, and with every error put into words.

Compression is told by content: gzip of any number of members, zstd of any number of frames. Memory holds some buffers,
whatever the file expands to. A file that is cut off or damaged is an `InputError` when the bad place is reached; what
came before it has been passed on by then.

zstd is read by pyarrow's codec: the stream reader of the zstandard package takes a file that is cut off for a whole
one.
"""

import contextlib
import io
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from zlib_ng.zlib_ng import error as zlib_error

from rowmill.core import extras
from rowmill.core.errors import InputError
from rowmill.files import remote
from rowmill.files.input.formats import HEAD, Compression, compression_of
from rowmill.files.remote_file import RemoteFile

_BUFFER = 1 << 18  # bytes of a stream that are read ahead
# Start of a compressed file by which the size of the whole is estimated: bytes of it, and bytes that they become.
_SAMPLE, _SAMPLE_EXPANDED = 1 << 16, 1 << 23


def open_file(path: Path) -> BinaryIO:
    """Open one of the user's files, unbuffered. Raises `InputError` where it cannot be read."""
    with reading(path):
        # Before it is opened: opening a named pipe that nobody writes to would wait for ever.
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(
                f"{path}: is no regular file; write the rows to a file first: they are read more than once"
            )
        return path.open("rb", buffering=0)


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn what the operating system refuses into an `InputError`."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; set input.path to the file with the rows") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read: {why}; set input.path to a readable file") from None


def shown(path: str) -> str:
    """Return a file's path or URL as it may stand in messages."""
    return remote.shown(path) if remote.is_remote(path) else path


class Stream(io.RawIOBase):
    """The bytes of one file, decompressed. Wrapped by `open_stream`."""

    def __init__(self, path: str, raw: BinaryIO, on_read: Callable[[int], None] | None) -> None:
        """Take over the file, which stands at its start.

        on_read: told how many bytes of the file have been read since the last call.
        """
        super().__init__()
        self._path = shown(path)
        self._raw = raw
        self._on_read = on_read
        self._position = 0
        with reading(path):
            head = raw.read(HEAD)
            raw.seek(0)
        self.compression = compression_of(path, head)
        if self.compression == "zstd":
            extras.need("pyarrow", f"{self._path}: Zstandard's files")
        self._decoded = _decoder(raw, self.compression)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes; 0 at the end. Raises `InputError`."""
        try:
            count = int(self._decoded.readinto(buffer) or 0)
        except EOFError:
            raise self._damaged("it ends in the middle of its compressed data") from None
        except (OSError, zlib_error) as error:  # type: ignore[misc]  # the stub has it as an instance
            if isinstance(error, OSError) and error.errno is not None:
                with reading(self._path):
                    raise
            truncated = "truncated" in str(error).lower()
            raise self._damaged(
                "it ends in the middle of its compressed data" if truncated else " ".join(str(error).split())
            ) from None
        if self._on_read is not None:
            position = self._raw.tell()
            if position != self._position:
                self._on_read(position - self._position)
                self._position = position
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._decoded.close()
            self._raw.close()
        super().close()

    def _damaged(self, what: str) -> InputError:
        near = self._raw.tell()
        return InputError(
            f"{self._path}: the {self.compression} file is damaged near byte {near}: {what}; copy or make it anew"
        )


def open_stream(path: str, on_read: Callable[[int], None] | None = None) -> BinaryIO:
    """Open a file, wherever it is, as a buffered stream of its decompressed bytes.

    Raises `InputError`, while it is read too; for files of other machines what `remote_file.download` raises; and
    `ConfigError` where what decompresses it is not installed.
    """
    raw = _open_raw(path)
    try:
        return io.BufferedReader(Stream(path, raw, on_read), _BUFFER)
    except BaseException:
        raw.close()
        raise


class Head(NamedTuple):
    """The start of a file: how it is compressed, its first bytes, decompressed, and whether they are all of it."""

    compression: Compression | None
    data: bytes
    whole: bool


def head_of(path: str, size: int = HEAD) -> Head:
    """Return the start of a file. Raises `InputError`; damage behind the first bytes is left to readers."""
    with open_stream(path) as stream:
        assert isinstance(stream, io.BufferedReader)
        assert isinstance(stream.raw, Stream)
        first = min(size, HEAD)
        data = stream.read(first)
        whole = len(data) < first
        if not whole and size > first:
            with contextlib.suppress(InputError):
                rest = stream.read(size - first)
                data, whole = data + rest, len(rest) < size - first
        return Head(stream.raw.compression, data, whole)


def start_of(path: str, size: int) -> Iterator[bytes]:
    """Yield blocks from the start of a file, so many bytes in all, up to where it is damaged. Raises `InputError`."""
    with open_stream(path) as stream, contextlib.suppress(InputError):
        while size > 0 and (block := stream.read(min(size, _BUFFER))):
            size -= len(block)
            yield block


def expansion(path: str) -> float:
    """Return how many times larger than itself a compressed file becomes, by its start. Raises `InputError`."""
    with _open_raw(path) as file:
        start = file.read(_SAMPLE)
    size = 0
    with Stream(path, io.BytesIO(start), None) as stream, contextlib.suppress(InputError):  # it ends in the middle
        while size < _SAMPLE_EXPANDED and (block := stream.read(_SAMPLE)):
            size += len(block)
    return max(1.0, size / max(len(start), 1))


def _open_raw(path: str) -> BinaryIO:
    if remote.is_remote(path):
        return cast(BinaryIO, RemoteFile(path))
    return open_file(Path(path))


def _decoder(raw: BinaryIO, compression: Compression | None) -> Any:
    if compression == "gzip":
        from zlib_ng import gzip_ng

        return gzip_ng.GzipNGFile(fileobj=raw, mode="rb")  # type: ignore[no-untyped-call]  # it has no types
    if compression == "zstd":
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw
