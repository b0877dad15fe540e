"""Which requests of a run are being asked, by whom, and what came of them: shared by all workers of a run.

A directory of plain files that live as long as the run, or until the machine starts anew:

slots-NN            a hash table: key -> who has claimed it, or where its result lies
ends-NNNNNN         the results that one worker process has published, one after the other
session             of which start of the machine all this is, and from which incarnation on workers may be alive
dead                the incarnations of the workers that have died, by the supervisor: their claims are void
turn                locked by the worker that looks at all this and changes it

**Why no B-tree.** Keys are random, so every put dirties a page of its own, which is copied and written. Measured in
blocks of 500 keys: a claim and its result took LMDB 7 us of CPU at 10**6 keys and 18 at 5 * 10**6, where its map was
390 MB of resident memory, or 30 us with the map given back in time; SQLite took 21 at 10**6. Slots of 32 bytes that are
read and written in place took 5 at 10**5, 7 at 10**6 and 9 at 3 * 10**6, the results included, and are the kernel's
page cache, no process's memory.

**What a kill can do.** A slot is written by one call and crosses no page, so it is there whole or not at all; each is
true by itself, so who dies with the lock leaves nothing half done. The kernel gives the lock back when its holder
dies. What a dead worker had claimed is void as soon as its death is noted; what it had published stays: a result is in
its file before a slot points to it. Nothing is synced, so what a power loss leaves is not looked at: a session goes on
with the claims of the one before only where the machine has not been started in between.

**Nobody waits for the lock.** It is held for a millisecond or two, but a process can be stopped while it holds it, and
a loop that waited for it would be silent with it. Who does not get it tries again later.

The table grows by further files, each four times as large as the one before: a key stays where it is, a new one goes
into the last file. Every file is sparse; 10**7 keys lie in five of them.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from struct import Struct

import msgspec

from rowmill.core import private_files
from rowmill.core.errors import MachineError
from rowmill.core.wire import Answer, Failure
from rowmill.store import durable
from rowmill.store.cache import ended_requests
from rowmill.store.cache.ended_requests import EndedRequests
from rowmill.store.cache.slots import SlotFile, put

_PLACE = Struct("<IIQ")  # incarnation, bytes of the result (0: being asked), its offset in the incarnation's file
_LOCK = "turn"  # a name on the disk, which runs begun by earlier versions have
_FIRST_SLOTS = 1 << 17  # of the first file: 4 MiB
_GROWTH = 4
_VOID = 0xFFFF_FFFF  # an incarnation that nobody has: the claim was given back
_DEAD = Struct("<I")
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after every start of the machine


class Claim(Enum):
    """What a claim was answered, where there is no result yet."""

    HELD = "held"  # the caller asks from now on
    TAKEN = "taken"  # somebody else asks
    FREE = "free"  # nobody asks any more


class _Session(msgspec.Struct):
    """One session of the run."""

    boot: str  # which start of the machine
    first: int  # incarnations below are of earlier sessions: their claims are void, their results are good
    floor: int  # serial of the last reply that the persistent store had before; 0 where there is none


def begin_session(directory: Path, floor: int = 0, *, fresh: bool = True) -> int:
    """Begin a session, and return the number of its first incarnation. For the supervisor, while there are no workers.

    `floor`: the serial of the last reply that the persistent store had before the session; 0 where there is none.
    `fresh`: forget what came of requests in earlier sessions.
    """
    with _machine_errors(directory):
        boot = _BOOT.read_text() if _BOOT.exists() else ""
        before = None if fresh else _session(directory)
        if before is None or not boot or before.boot != boot:
            discard(directory)
            private_files.make_directory(directory)
            first = 0
        else:
            first = 1 + max(ended_requests.incarnations(directory), default=-1)
        for name, data in ((_LOCK, b""), ("dead", b""), ("session", msgspec.json.encode(_Session(boot, first, floor)))):
            with os.fdopen(private_files.make_file(directory / name), "wb") as file:
                file.write(data)
    return first


def _session(directory: Path) -> _Session | None:
    """Return the session that was before; None where there was none, or what lies there is not all files."""
    try:
        if not all(path.is_file() for path in directory.iterdir()):
            return None
        return msgspec.json.decode((directory / "session").read_bytes(), type=_Session)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def forget(directory: Path, incarnation: int) -> None:
    """Void the claims of a worker that has ended. For the supervisor; waits for nobody."""
    with (
        _machine_errors(directory),
        os.fdopen(private_files.opened(directory / "dead", private_files.APPEND), "ab", buffering=0) as file,
    ):
        file.write(_DEAD.pack(incarnation))


def discard(directory: Path) -> None:
    """Remove the claims of a finished run, or whatever lies in their place."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        directory.unlink()
    shutil.rmtree(directory, ignore_errors=True)


class Claims:
    """One worker process's access to the claims of its session.

    Keys are claimed, looked at, published and released with the lock: between `try_lock` and `unlock`. Errors of the
    machine are raised as `MachineError`.
    """

    def __init__(self, directory: Path, incarnation: int, ended: EndedRequests | None = None) -> None:
        """Open them. `ended`: reads the results, where several of a process share it, and somebody else closes it."""
        self._directory = directory
        self._incarnation = incarnation
        self._mine = _PLACE.pack(incarnation, 0, 0)
        self._dead = {_VOID}
        self._slot_files: list[SlotFile] = []
        self._places: dict[bytes, tuple[int, int]] = {}  # key -> descriptor and offset of its place
        self._ended = EndedRequests(directory) if ended is None else ended
        self._shared = ended is not None
        self._files: list[int] = []
        try:
            with _machine_errors(self._directory):
                session = msgspec.json.decode((directory / "session").read_bytes(), type=_Session)
                self.floor = session.floor
                self._first = session.first
                self._lock = self._open(_LOCK, os.O_RDWR)
                self._dead_file = self._open("dead", os.O_RDONLY)
                self._own_results = self._open(ended_requests.name(incarnation), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except MachineError:
            self.close()
            raise
        self._own_bytes = 0

    def try_lock(self) -> bool:
        """Take the lock, if nobody has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            with _machine_errors(self._directory):
                self._look_around()
        except MachineError:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            raise
        return True

    def unlock(self) -> None:
        """Give the lock back."""
        try:
            with _machine_errors(self._directory):
                self._slot_files[-1].note_used()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def claim(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Claim keys, all of them different; each is held now, or taken, or has its result."""
        with _machine_errors(self._directory):
            return [self._claim(key) for key in keys]

    def look(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Look at keys that were taken: each still is, or has its result, or is free to be claimed."""
        with _machine_errors(self._directory):
            return [self._look(key) for key in keys]

    def publish(self, results: Sequence[tuple[bytes, bytes]]) -> None:
        """Tell what has come of keys that this worker holds: (key, encoded result)."""
        incarnation, at = self._incarnation, self._own_bytes
        places = []
        written = []
        for key, result in results:
            record = ended_requests.record(key, result)
            places.append((key, _PLACE.pack(incarnation, len(record), at)))
            at += len(record)
            written.append(record)
        with _machine_errors(self._directory):
            durable.write_all(self._own_results, b"".join(written))
            self._own_bytes = at
            for key, place in places:
                put(place, self._places.pop(key))

    def release(self, keys: Sequence[bytes]) -> None:
        """Give back keys that this worker holds and will not ask."""
        void = _PLACE.pack(_VOID, 0, 0)
        with _machine_errors(self._directory):
            for key in keys:
                put(void, self._places.pop(key))

    def close(self) -> None:
        """Close the files."""
        for fd in self._files:
            os.close(fd)
        self._files.clear()
        if not self._shared:
            self._ended.close()

    def _open(self, name: str, flags: int) -> int:
        fd = private_files.opened(self._directory / name, flags)
        self._files.append(fd)
        return fd

    # With the lock

    def _look_around(self) -> None:
        """See what others have changed: who has died, and whether the table has grown."""
        noted = len(self._dead) - 1
        data = os.pread(self._dead_file, 1 << 16, noted * _DEAD.size)
        whole = len(data) - len(data) % _DEAD.size
        self._dead.update(number for (number,) in _DEAD.iter_unpack(data[:whole]))
        if not self._slot_files:
            self._add_file()
        self._slot_files[-1].read_used()
        while self._slot_files[-1].full:
            self._add_file()

    def _add_file(self) -> None:
        number = len(self._slot_files)
        slots = _FIRST_SLOTS * _GROWTH**number
        fd = self._open(f"slots-{number:02d}", os.O_RDWR | os.O_CREAT)
        size = SlotFile.size(slots)
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)
        self._slot_files.append(SlotFile(fd, slots))
        self._slot_files[-1].read_used()

    def _claim(self, key: bytes) -> Claim | Answer | Failure:
        free = -1
        for file in self._slot_files:
            found, at, place = file.find(key)
            if found:
                self._places[key] = (file.fd, at)
                return self._state(key, place, claiming=True)
            free = at
        file = self._slot_files[-1]
        file.add(key, self._mine, free)
        self._places[key] = (file.fd, free)
        return Claim.HELD

    def _look(self, key: bytes) -> Claim | Answer | Failure:
        fd, at = self._places[key]
        return self._state(key, os.pread(fd, _PLACE.size, at), claiming=False)

    def _state(self, key: bytes, place: bytes, *, claiming: bool) -> Claim | Answer | Failure:
        incarnation, size, offset = _PLACE.unpack(place)
        result = self._ended.read(key, incarnation, size, offset) if size else None
        if result is not None:
            del self._places[key]
            return result
        # What is not as it was written is as good as none: it is asked for once more.
        if not size and incarnation >= self._first and incarnation not in self._dead:
            return Claim.TAKEN
        if not claiming:
            return Claim.FREE
        put(self._mine, self._places[key])
        return Claim.HELD


@contextmanager
def _machine_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = f"cannot write {directory}: {what}; free disk space and run the same command again"
        else:
            message = f"cannot use {directory}: {what}; put it right and run the same command again"
        raise MachineError(message) from error
