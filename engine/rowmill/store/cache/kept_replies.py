"""The replies that outlive their run: one SQLite database, shared by all runs, bounded in size.

Only answers are in it, never failures. The oldest give way when it has its size (`cache.max_mb`): serial numbers tell
the order. A kill loses what was not yet committed, and damages nothing; a power loss can lose the last commits, and
damages nothing either: the log is synced before it is copied into the database (WAL, synchronous=NORMAL).

**Why SQLite.** A group of answers is written by few statements, and each runs as a whole outside the interpreter's
lock. So it can be written in a thread beside an event loop that has no time to spare: measured, 23 ms for 500 answers
with the loop saturated, where LMDB, which gives up the lock for every single put, took 370 ms, its write lock held.
It reads through a cache of 2 MB of its own: no map that would be the workers' memory. And who waits for another
process's write lock can give up.

Nothing that happens here ends a run: at worst no more is looked up or kept, and `problem` says why.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rowmill.core import private_files
from rowmill.core.errors import ConfigError, MachineError

FORMAT = 1
_FILE = "replies.sqlite"
_APPLICATION = 0x526D696C  # "Rmil": who made the file
_READ_S = 0.2  # waits of the event loop; only the start and the end of another process's access can make it wait at all
_WRITE_S = 10.0  # a thread's
_KEYS = 512  # looked up by one statement; a power of two
_ROWS = 128  # written by one statement; a power of two
_GROUP_BYTES = 4 << 20  # of answers in one transaction
_STEPS = 64  # room is made in steps of the whole by this
_WAL_PAGES = 4000  # 16 MiB between two syncs of the database

_TABLES = (
    "CREATE TABLE replies (serial INTEGER PRIMARY KEY, key BLOB NOT NULL, answer BLOB NOT NULL)",
    "CREATE UNIQUE INDEX by_key ON replies (key)",
)


def prepare(directory: Path) -> int:
    """Make the store in `directory` where there is none, and check the one that is there. For the supervisor.

    Returns the serial of its last reply, 0 where there is none. Raises `ConfigError` for a store of another version and
    for a file that is no store.
    """
    path = directory / _FILE
    try:
        private_files.make_directory(directory, private_files.PRIVATE)
        if not path.exists():
            os.close(private_files.opened(path, os.O_RDWR | os.O_CREAT))  # sqlite's own files beside it are as it is
        with closing(_connect(path, _WRITE_S)) as connection:
            _check(connection, path)
            (last,) = connection.execute("SELECT coalesce(max(serial), 0) FROM replies").fetchone()
    except (OSError, sqlite3.Error) as error:
        match _code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                message = f"the reply cache {path} is in use by another program: end it, or set another cache.dir"
                raise MachineError(message) from error
            case sqlite3.SQLITE_FULL:
                message = f"cannot write {path}: disk full; free disk space or set another cache.dir"
                raise MachineError(message) from error
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
                message = (
                    f"cache.dir: {path} is no reply cache ({_what(error)}): set another cache.dir or delete the file"
                )
            case _:
                message = f"cache.dir: cannot use {path} ({_what(error)}): set another cache.dir"
        raise ConfigError(message) from error
    return int(last)


class Replies:
    """One worker process's access to the store.

    problem: why nothing is looked up or kept any more; None while all is well.
    """

    def __init__(self, directory: Path, max_mb: int) -> None:
        self._path = directory / _FILE
        self._max = max_mb << 20
        self.problem: str | None = None
        self._writing = threading.Lock()  # a caller that was cancelled does not wait for its thread
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        try:
            self._reader = _connect(self._path, _READ_S)
            self._writer = _connect(self._path, _WRITE_S)
        except sqlite3.Error as error:
            self._give_up(error)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """Look up keys; returns serial and encoded answer of those that are there."""
        found: dict[bytes, tuple[int, bytes]] = {}
        if self._reader is None or self.problem is not None:
            return found
        try:
            for start in range(0, len(keys), _KEYS):
                some = list(keys[start : start + _KEYS])
                size = 1 << (len(some) - 1).bit_length()
                some += some[-1:] * (size - len(some))  # few different statements, so that each is compiled once
                rows = self._reader.execute(
                    f"SELECT key, serial, answer FROM replies WHERE key IN ({_marks('?', size)})",  # noqa: S608 - marks
                    some,
                )
                found.update((key, (serial, answer)) for key, serial, answer in rows)
        except sqlite3.Error as error:
            if not _is_busy(error):
                self._give_up(error)
        return found

    def put(self, answers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Keep answers (key, encoded). Waits for the disk, and for other writers: not for an event loop.

        Returns whether they are kept; where they are not and there is no `problem`, another process was writing for
        too long.
        """
        with self._writing:
            writer = self._writer
            if writer is None or self.problem is not None:
                return False
            try:
                for group in _groups(answers, min(_GROUP_BYTES, self._max // 4)):
                    self._put(writer, group)
            except sqlite3.Error as error:
                if writer.in_transaction:
                    writer.rollback()
                if not _is_busy(error):
                    self._give_up(error)
                return False
            return True

    def close(self) -> None:
        """Close the store."""
        with self._writing:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _put(self, writer: sqlite3.Connection, group: list[tuple[bytes, bytes]]) -> None:
        writer.execute("BEGIN IMMEDIATE")
        self._make_room(writer, sum(len(key) + len(answer) for key, answer in group))
        start = 0
        while start < len(group):
            size = min(_ROWS, 1 << ((len(group) - start).bit_length() - 1))
            values = [value for row in group[start : start + size] for value in row]
            writer.execute(
                f"INSERT OR IGNORE INTO replies (key, answer) VALUES {_marks('(?,?)', size)}",  # noqa: S608 - marks
                values,
            )
            start += size
        writer.execute("COMMIT")

    def _make_room(self, writer: sqlite3.Connection, size: int) -> None:
        """Let the oldest replies go until so many bytes find room."""
        room = self._max - size - size // 2  # a page is never quite full
        for _ in range(2 * _STEPS):
            used = _used(writer)
            if used <= room:
                return
            first, last = writer.execute("SELECT min(serial), max(serial) FROM replies").fetchone()
            if first is None:
                return
            share = max((used - room) / used, 1 / _STEPS)
            cut = first + max(1, int((last - first + 1) * share))
            writer.execute("DELETE FROM replies WHERE serial < ?", (cut,))

    def _give_up(self, error: sqlite3.Error) -> None:
        self.problem = f"the reply cache {self._path} is not used any more: {_what(error)}"


def _connect(path: Path, wait_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {8 * _WAL_PAGES * 4096}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse another program's file and another version's."""
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        # Only of a file that is ours or empty: the mode is kept in the file.
        _refuse_foreign(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection):
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    else:
        _refuse_foreign(connection, path)
    connection.execute("COMMIT")


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    if _is_new(connection):
        return
    if _pragma(connection, "application_id") != _APPLICATION:
        raise ConfigError(f"cache.dir: {path} is no reply cache of Rowmill: set another cache.dir")
    version = _pragma(connection, "user_version")
    if version != FORMAT:
        raise ConfigError(
            f"cache.dir: {path} is a reply cache of version {version}, and this is version {FORMAT}: "
            "set another cache.dir or delete the file"
        )


def _is_new(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(tables) == 0


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that hold something. Free ones are used again before the file grows."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _groups(answers: Sequence[tuple[bytes, bytes]], most: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Cut into transactions of at most so many bytes. What is larger than that by itself is left out."""
    group: list[tuple[bytes, bytes]] = []
    size = 0
    for key, answer in answers:
        if len(answer) > most:
            continue
        if group and size + len(answer) > most:
            yield group
            group, size = [], 0
        group.append((key, answer))
        size += len(answer)
    if group:
        yield group


def _marks(mark: str, count: int) -> str:
    return ",".join([mark] * count)


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _code(error: Exception) -> int:
    """Return SQLite's own code, without what it says of the case; 0 where the error is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _what(error: OSError | sqlite3.Error) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
