"""Files and directories of a run and of caches: for their owner alone, whatever the umask, and never through a link.

What may be done with a file follows from the directory that it is made in: whoever opens a run directory to a group, by
`checkpoint.mode` or by hand, has files in it that the group can read. The user's own output is no such file.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND  # flags for what `opened` opens
PRIVATE = 0o700  # of a directory that nobody has opened to others

_READ_AND_WRITE = 0o666
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES_FREED = 100  # as often a name that somebody takes again and again is freed, before that is an error


def make_directory(path: Path, mode: int | None = None) -> None:
    """Make a directory, and leave one that is there as it is. Raises OSError.

    mode: None: as the directory that it lies in, which must be there. Else parents are made too, as any program does.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.stat().st_mode):
            return
    if mode is None:
        mode = stat.S_IMODE(path.parent.stat().st_mode)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(PRIVATE)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def make_file(path: str | Path, flags: int = os.O_RDWR) -> int:
    """Open a new, empty file and return its descriptor. What had the name is let go of, never written to.

    A link that lies there is removed, and what it points to stays as it is; so is a second name of another file.
    Raises OSError.
    """
    path = Path(path)
    mode = mode_below(path)
    flags &= ~os.O_TRUNC
    for _ in range(_NAMES_FREED):
        with suppress(FileExistsError):
            return _allowed(os.open(path, flags | _NEW, mode), mode)
        path.unlink(missing_ok=True)
    return _allowed(os.open(path, flags | _NEW, mode), mode)


def opened(path: str | Path, flags: int) -> int:
    """Open a file that may be there, or make it where the flags say so, and return its descriptor. Raises OSError.

    One that is a link is refused.
    """
    path = Path(path)
    made = flags & os.O_CREAT
    mode = mode_below(path) if made else 0
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    return _allowed(fd, mode) if made and not os.fstat(fd).st_size else fd


def mode_below(path: Path) -> int:
    """Return what may be done with a file that is made under this name."""
    return path.parent.stat().st_mode & _READ_AND_WRITE


def seen_by_others(path: Path) -> bool:
    """Whether others than its owner can look into a directory."""
    return bool(path.stat().st_mode & 0o077)


def _allowed(fd: int, mode: int) -> int:
    """Undo what the umask took away: a colleague of the group is to write too, and so is the owner."""
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            with suppress(PermissionError):  # somebody else's, who shares it
                os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd
