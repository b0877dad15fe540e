"""The files of this machine that a row may name: those below one directory, wherever links lead.

A row of somebody else's data must not be able to send any file of this machine to a provider.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

from rowmill.core.errors import InvalidRow

_SHOWN_CHARACTERS = 200
_MIB = 1 << 20


class FileKind(NamedTuple):
    """What is read: how one is called, the key of the directory that they lie in, and the most bytes of one."""

    what: str
    key: str
    largest: int


def shown(name: str) -> str:
    """Return a name for a message."""
    return repr(name[:_SHOWN_CHARACTERS])


@contextmanager
def opened(name: str, root: Path, kind: FileKind) -> Iterator[BinaryIO]:
    """Open the file that a row names by a path or a file: URL. Raises `InvalidRow` with what is wrong.

    root: the directory below which files are read, and which paths are relative to. Its size is within the bounds.
    """
    try:
        path = Path(unquote(urlsplit(name).path) if "://" in name else name)
        with _regular(_found(path, root, shown(name), kind), shown(name)) as file:
            size = os.fstat(file.fileno()).st_size
            if size > kind.largest:
                raise InvalidRow(f"{shown(name)} {too_large(size, kind)}")
            yield file
    except OSError as error:
        raise InvalidRow(f"the {kind.what} {shown(name)} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL character, a URL that is none
        raise InvalidRow(f"{shown(name)} is no name of a file: {error}") from None


def too_large(size: int, kind: FileKind) -> str:
    """Say so of a file, or of what else holds one."""
    article = "an" if kind.what[0] in "aeiou" else "a"
    return f"has {size / _MIB:.1f} MiB, and {article} {kind.what} may have {kind.largest // _MIB}"


def _found(path: Path, root: Path, name: str, kind: FileKind) -> Path:
    """Return the real path of a file below the root. One that is not there may be named as the program sees it."""
    top = root.resolve()
    real = (top / path).resolve()
    if not path.is_absolute() and not (real.is_relative_to(top) and real.exists()) and path.exists():
        real = path.resolve()
    if not real.is_relative_to(top):
        # Not whether it is there: nobody's data is to find that out.
        raise InvalidRow(f"{name} lies outside of {root}: set {kind.key} to a directory that holds the {kind.what}s")
    return real


@contextmanager
def _regular(real: Path, name: str) -> Iterator[BinaryIO]:
    if not stat.S_ISREG(real.stat().st_mode):  # a pipe would hold up every row, and a device may mind being opened
        raise InvalidRow(f"{name} is no file")
    # Again what is opened: a link that has come to be since is not followed.
    fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidRow(f"{name} is no file")
        yield file
