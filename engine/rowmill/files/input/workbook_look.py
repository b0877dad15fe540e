"""The first look at a workbook: by a process of its own, which may take so much memory and no more.

A few hundred bytes are a workbook of a hundred million cells: one forgotten cell at the far corner, a row that is
repeated to the end, a long text that a million cells share, an archive that expands a thousandfold. Its reader takes
the whole into memory, and where there is none ends the process, with no error that could be caught; so does a defect of
it on a damaged file. Nor can it be told beforehand: of .xlsb, .xls and .ods only the reader knows the cells.

Where the system does not limit what a process takes (`RLIMIT_AS`), as on macOS, there is no limit.
"""

import json
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from rowmill.core.errors import InputError
from rowmill.core.own_modules import FOUND, PACKAGES, module_path
from rowmill.files.input.dialect import Columns
from rowmill.files.input.workbook import SMALLER, Workbook

_LEAST = 1 << 30  # bytes: the reader of an ordinary file, with all that it imports, takes a tenth
_EXPANDS = 200  # times its size, beside that: ten in XML, and three in memory, are usual; a sheet of zeros takes 40
_SHARE = 0.5  # of the memory that is free now
_LEAST_CPU_S = 120
_CPU_BYTES = 100_000  # of the file a second: a workbook is read at twenty times that, and expanded at 300 MB/s

_CHILD = (
    f"import sys, json; here, path, asked = json.load(sys.stdin); {FOUND}"
    "from rowmill.files.input.workbook_look import look_here; sys.stdout.write(look_here(*asked))"
)


class BookSeen(msgspec.Struct):
    """What a first look has shown, see `Workbook`. error: why it cannot be read; the rest is empty then."""

    error: str = ""
    columns: Columns = Columns([], [], 0)
    sheet: str = ""
    others: list[str] = []
    notes: list[str] = []


def look(path: Path, sheet: str | None) -> BookSeen:
    """Look at a workbook for the first time, in a child process. Raises `InputError`.

    sheet: its name; None for the first one that is shown.
    """
    memory, cpu_s = _limits(path)
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to them
    ended = subprocess.run(  # noqa: S603 - the interpreter that runs this
        [sys.executable, *flags, "-P", "-c", _CHILD],
        input=json.dumps((PACKAGES, module_path(), (str(path), sheet, memory, cpu_s))).encode(),
        capture_output=True,
        check=False,
        start_new_session=True,  # a terminal's signals are for this process alone
    )
    if ended.returncode:
        which = "a sheet of it" if sheet is None else f"sheet {sheet!r}"
        raise InputError(f"{path}: {_died_of(ended, which, memory, cpu_s)}")
    seen = msgspec.convert(json.loads(ended.stdout), type=BookSeen)
    if seen.error:
        raise InputError(seen.error)
    return seen


def look_here(path: str, sheet: str | None, memory: int, cpu_s: int) -> str:
    """Be the child: look, and return a `BookSeen` as JSON. memory: bytes that this process may take."""
    for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # the system has less than that for it, or none at all
            resource.setrlimit(kind, (limit, limit + 1))  # at the second of CPU it kills without a reason
    try:
        book = Workbook(Path(path), sheet, first=True)
    except InputError as error:
        seen = BookSeen(error=str(error))
    else:
        seen = BookSeen("", book.columns, book.sheet, book.others, book.notes)
    return json.dumps(msgspec.to_builtins(seen))  # a path that is not UTF-8 stays as it is


def _limits(path: Path) -> tuple[int, int]:
    """Return how many bytes of memory and seconds of computing the look may take."""
    import psutil

    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # its reader says why
    free = int(_SHARE * psutil.virtual_memory().available)
    return max(_LEAST, min(free, _LEAST + _EXPANDS * size)), _LEAST_CPU_S + size // _CPU_BYTES


def _died_of(ended: subprocess.CompletedProcess[bytes], which: str, memory: int, cpu_s: int) -> str:
    last = ended.stderr.strip().rpartition(b"\n")[2]
    killed = -ended.returncode
    if killed == signal.SIGXCPU:
        return f"{which} takes more than {cpu_s} s to read; {SMALLER}"
    if killed == signal.SIGKILL or b"MemoryError" in last or b"memory allocation" in ended.stderr:
        return f"{which} takes more than {memory / (1 << 30):.1f} GiB of memory to read; {SMALLER}"
    why = f"it was killed by signal {killed}" if killed > 0 else last.decode(errors="replace")[:200]
    return f"cannot be read as a workbook: its reader failed: {why}; save it anew, or as CSV"
