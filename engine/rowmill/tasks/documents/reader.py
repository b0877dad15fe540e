"""The reader of documents: a child process, which may take so much of the machine for one document and no more.

It is started for the first one, and again after one that it has died of. A document that takes too much, or on which
its reader breaks, is so the end of that row and of no other. Where the system does not limit what a process takes
(`RLIMIT_AS`), as on macOS, there is no limit.
"""

import json
import resource
import signal
import subprocess
import sys
from asyncio import get_running_loop
from contextlib import suppress
from math import ceil
from pathlib import Path
from threading import Lock
from time import process_time
from typing import BinaryIO
from weakref import finalize

import msgspec

from rowmill.core.errors import MachineError
from rowmill.core.own_modules import FOUND, PACKAGES, module_path
from rowmill.tasks.documents.extraction import KIND, Bounds, Extracted, extracted
from rowmill.tasks.local_files import shown

MEMORY = 1 << 30  # bytes that the child may take: an ordinary document takes a hundredth
_TRIES = 2  # of one whose reader was killed: the system may have taken another's memory
CPU_S = 60  # seconds of computing for one document: a page takes a thousandth

_READY = b"ready\n"  # what the child says first: it has what it needs
_CLOSED = "the run has stopped, and reads no more documents"  # no row's failure: it is still to be asked

_CHILD = (
    f"import sys, json; here, path = json.loads(sys.stdin.buffer.readline()); {FOUND}"
    "from rowmill.tasks.documents.reader import serve; serve(sys.stdin.buffer, sys.stdout.buffer)"
)


class _Settings(msgspec.Struct, array_like=True):
    """What the child is told first."""

    root: str
    bounds: Bounds
    memory: int
    cpu_s: int


class DocumentReader:
    """Reads the documents of one process's rows, one at a time."""

    def __init__(self, root: Path, bounds: Bounds, *, memory: int = MEMORY, cpu_s: int = CPU_S) -> None:
        """`root`: the directory below which documents are read, and which paths are relative to."""
        self.root = root
        self.bounds = bounds
        self._settings = _Settings(str(root), bounds, memory, cpu_s)
        self._child: subprocess.Popen[bytes] | None = None
        self._end: finalize[..., DocumentReader] | None = None  # of the child, at the latest when nobody has this
        self._turn = Lock()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._child is None else f"child {self._child.pid}"
        return f"<DocumentReader of {self.root}: {state}>"

    def check(self) -> None:
        """Raise `MachineError` where the directory is not there: on a node, it may be on another machine only."""
        if not self.root.is_dir():
            raise MachineError(
                f"{KIND.key}: there is no directory {self.root} on this machine; on a cluster it has to be on every "
                "node, at the same path"
            )

    async def read(self, name: str) -> Extracted:
        """Read the document that a row names, while the loop goes on."""
        return await get_running_loop().run_in_executor(None, self.read_now, name)

    def read_now(self, name: str) -> Extracted:
        """Read the document that a row names. Raises `MachineError` where no child can be had, or this is closed."""
        with self._turn:
            status = 0
            for _ in range(_TRIES):
                child = self._child or self._started()
                if line := _told(child, json.dumps(name).encode()):
                    return msgspec.json.decode(line, type=Extracted)
                if (status := self._ended()) != -signal.SIGKILL:
                    break
            return self._died_of(name, status)

    def close(self) -> None:
        """End the child, whatever it is about; who waits for it hears that this is closed."""
        self._closed = True
        if self._end is not None:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise MachineError(_CLOSED)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to them
        try:
            child = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
                [sys.executable, *flags, "-P", "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's signals are for others
            )
        except OSError as error:
            raise MachineError(f"the process that reads documents cannot be started: {error.strerror}") from None
        self._child, self._end = child, finalize(self, _end, child)
        if self._closed:  # since it was looked at
            self._end()
        here = json.dumps((PACKAGES, module_path())).encode()
        if _told(child, here, msgspec.json.encode(self._settings)) != _READY:
            self._ended()
            raise MachineError(
                "the process that reads documents ends at its start; python -c 'import pypdfium2' may say why"
            )
        return child

    def _ended(self) -> int:
        """Let go of a child that has died, and return how. Raises `MachineError` where this is closed."""
        assert self._child is not None
        assert self._end is not None
        status = self._child.wait()
        self._child = None
        self._end()
        if self._closed:
            raise MachineError(_CLOSED)
        return status

    def _died_of(self, name: str, status: int) -> Extracted:
        document = f"the document {shown(name)}"
        if status == -signal.SIGXCPU:
            why = f"{document} takes more than {self._settings.cpu_s} s of computing to read"
            return Extracted(problem=why, code="too_large")
        how = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        gib = self._settings.memory / (1 << 30)
        return Extracted(
            problem=f"{document} is damaged, or takes more than {gib:.1f} GiB of memory: its reader was {how}",
            code="damaged",
        )


def serve(names: BinaryIO, texts: BinaryIO) -> None:
    """Be the child: read what is named, a line of JSON each, until nobody asks any more."""
    settings = msgspec.json.decode(names.readline(), type=_Settings)
    for kind, limit in ((resource.RLIMIT_AS, settings.memory), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # the system has less than that for it, or none at all
            resource.setrlimit(kind, (limit, limit))
    import rowmill.tasks.documents.pdf  # noqa: F401 - a package that cannot be loaded is no row's failure

    texts.write(_READY)
    texts.flush()
    root = Path(settings.root)
    with suppress(BrokenPipeError):
        for line in names:
            with suppress(OSError, ValueError):
                most = resource.getrlimit(resource.RLIMIT_CPU)[1]
                resource.setrlimit(resource.RLIMIT_CPU, (ceil(process_time()) + settings.cpu_s, most))
            found = extracted(json.loads(line), root, settings.bounds)
            texts.write(msgspec.json.encode(found) + b"\n")
            texts.flush()


def _told(child: subprocess.Popen[bytes], *lines: bytes) -> bytes:
    """Tell a child these lines, and return the one that it answers; nothing where it has died."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(OSError, ValueError):  # ValueError: it was ended by another thread
        child.stdin.write(b"".join(b"%b\n" % line for line in lines))
        child.stdin.flush()
        line = child.stdout.readline()
        return line if line.endswith(b"\n") else b""
    return b""


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):  # what it was not told
                pipe.close()
