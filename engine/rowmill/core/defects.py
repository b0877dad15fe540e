"""Whatever else was raised -> a `RowmillError` of one line: for the edges at which nothing may pass as a traceback.

What the operating system refuses is the machine's, whatever its errno; everything else is a defect. The traceback goes
to the run's log, or where there is none to a file of its own, which the line names.
"""

import errno
import os
import signal
import tempfile
import traceback
from pathlib import Path

from rowmill.core.errors import DefectError, MachineError, RowmillError
from rowmill.core.plain_text import clipped, one_line

_OURS = frozenset({errno.EBADF, errno.EINVAL, errno.EFAULT})  # no machine refuses what is right with these


def told(error: Exception, log: Path | None = None) -> RowmillError:
    """Return the error as one that may be told. Its traceback is kept: in `log`, where that is the log of a run."""
    if isinstance(error, RowmillError):
        return error
    kept = _kept(error, log)
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _OURS:
        where = f"{_shown(error.filename)}: " if error.filename is not None else ""
        return MachineError(f"{where}{error.strerror or error}; put that right and run the same command again")
    if isinstance(error, MemoryError):
        return MachineError("out of memory; free some, or set workers.count lower, and run the same command again")
    traced = f"the traceback is in {kept}" if kept is not None else _place_of(error)
    return DefectError(
        f"a defect of Rowmill: {type(error).__name__}: {clipped(one_line(str(error)))}; {traced}: please report it. "
        "What is recorded is kept: the same command goes on from there"
    )


def of_signal_handler(error: BaseException) -> bool:
    """Tell whether a signal handler of the program's has raised it, as timeouts do: it is the program's, no defect."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _kept(error: Exception, log: Path | None) -> str | None:
    """Write the traceback down; return where, None where nothing can be written."""
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    try:
        if log is not None and log.parent.is_dir():
            with log.open("ab") as file:
                file.write(text)
            return _shown(log)
        descriptor, path = tempfile.mkstemp(prefix="rowmill-defect-", suffix=".log")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
    except OSError:
        return None
    return _shown(path)


def _place_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "with no traceback"


def _shown(path: object) -> str:
    if isinstance(path, bytes):
        return one_line(path.decode("utf-8", "backslashreplace"))
    if isinstance(path, str | os.PathLike):
        return one_line(os.fsencode(path).decode("utf-8", "backslashreplace"))
    return str(path)
