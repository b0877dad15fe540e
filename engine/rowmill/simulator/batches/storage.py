"""Files and batches on disk: all that outlives a process, and the only module here that writes or deletes.

`<state>/<provider>/` holds `files/<id>`, one of each file, `keys/<batch id>`, and `journal.jsonl`: a line for every
file that came or went and for every move of a batch. A new process reads the journal from its start; the last word
about an id counts. A line is written by one call and not synced, so that it outlives this process, killed or not, and
may be lost with the machine. Files that no line speaks of were not finished, and are deleted.

One process at a time: `state` is locked for as long as it is in use.
"""

import fcntl
import os
import secrets
import tempfile
import time
from array import array
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from rowmill.core import private_files
from rowmill.simulator.batches.objects import Entry, FileObject, Stored


class _JournalLine(msgspec.Struct, omit_defaults=True):
    """A line of the journal."""

    file: Stored | None = None
    gone: str | None = None  # the id of a file that was deleted
    batch: Entry | None = None
    batches: int | None = None  # items of the scripts that are used up
    uploads: int | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_JournalLine).decode


class Archive:
    """The directory of all providers: `state`, or a temporary one, which is made when something is stored."""

    def __init__(self, state: str | None) -> None:
        self._root = None if state is None else Path(state)
        self._open = ExitStack()  # what has to be let go, the last taken first

    def claim(self) -> bool:
        """Take `state` for this process; False where another has it. Raises OSError where it cannot be written."""
        if self._root is None:
            return True
        private_files.make_directory(self._root, private_files.PRIVATE)
        lock = private_files.opened(self._root / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._open.callback(os.close, lock)
        return True

    def names(self) -> list[str]:
        """List the providers that have something stored."""
        return [] if self._root is None else sorted(path.parent.name for path in self._root.glob("*/journal.jsonl"))

    def storage(self, name: str) -> "Storage":
        """Open a provider's part."""
        if self._root is None:
            temporary = tempfile.TemporaryDirectory(prefix="rowmill-simulator-", ignore_cleanup_errors=True)
            self._root = Path(self._open.enter_context(temporary))
        storage = Storage(self._root / name)
        self._open.callback(storage.close)
        return storage

    def close(self) -> None:
        """Let go of everything; a temporary directory is deleted."""
        self._open.close()


class Storage:
    """One provider's files and batches. Mutable state: what the journal says, `files`, `entries` and the counts."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Stored] = {}
        self.entries: dict[str, Entry] = {}
        self.batches = 0  # items of the scripts that are used up
        self.uploads = 0
        self._files = folder / "files"
        self._keys = folder / "keys"
        for each in (self._files, self._keys):
            private_files.make_directory(folder)
            private_files.make_directory(each)
        whole = self._replay(folder / "journal.jsonl")
        self._journal = os.fdopen(
            private_files.opened(folder / "journal.jsonl", private_files.APPEND), "ab", buffering=0
        )
        if not whole:  # its last line was torn: what follows must not be glued to it
            self._journal.write(b"\n")
        for path in self._files.iterdir():
            if path.name not in self.files:
                path.unlink()

    def path(self, file_id: str) -> Path:
        """Tell where the bytes of a file lie."""
        return self._files / file_id

    def add(self, stored: Stored) -> None:
        """Keep a file whose bytes are written."""
        self._note(_JournalLine(file=stored))

    def keep(
        self, writing: "Writing", filename: str, purpose: str, *, life_s: int | None = None, **beside: str
    ) -> FileObject:
        """Finish a file and keep it; `beside`: what the API does not show of it, as `Stored` has it."""
        now = int(time.time())
        file = FileObject(
            id=writing.id,
            bytes=writing.size,
            created_at=now,
            filename=filename,
            purpose=purpose,
            expires_at=None if life_s is None else now + life_s,
        )
        writing.finish()
        self.add(Stored(file=file, **beside))
        writing.kept = True
        return file

    def drop(self, file_id: str) -> None:
        """Delete a file. Whoever reads it now reads on."""
        self._note(_JournalLine(gone=file_id))
        self.path(file_id).unlink(missing_ok=True)

    def save(self, entry: Entry) -> None:
        """Keep a batch as it is now."""
        self._note(_JournalLine(batch=entry))

    def next_batch(self) -> int:
        """Use up an item of the script of batches; its number, from 0."""
        self._note(_JournalLine(batches=self.batches + 1))
        return self.batches - 1

    def next_upload(self) -> int:
        """Use up an item of the script of uploads; its number, from 0."""
        self._note(_JournalLine(uploads=self.uploads + 1))
        return self.uploads - 1

    def writing(self) -> "Writing":
        """Begin a new file."""
        return Writing(self._files, new_id("file-"))

    def keep_keys(self, batch_id: str, keys: "array[int]") -> None:
        """Keep the keys of the lines of a batch that had a valid reply, so that a new process knows them."""
        with os.fdopen(private_files.make_file(self._keys / batch_id), "wb") as file:
            file.write(keys.tobytes())

    def keys(self, batch_id: str) -> "array[int]":
        """Read them; none where there are none."""
        keys = array("Q")
        with suppress(FileNotFoundError, ValueError):
            keys.frombytes((self._keys / batch_id).read_bytes())
        return keys

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _note(self, note: _JournalLine) -> None:
        self._journal.write(_encode(note) + b"\n")
        self._apply(note)

    def _apply(self, note: _JournalLine) -> None:
        if note.file is not None:
            self.files[note.file.file.id] = note.file
        if note.gone is not None:
            self.files.pop(note.gone, None)
        if note.batch is not None:
            self.entries[note.batch.batch.id] = note.batch
        self.batches = self.batches if note.batches is None else note.batches
        self.uploads = self.uploads if note.uploads is None else note.uploads

    def _replay(self, journal: Path) -> bool:
        """Read what an earlier process wrote; False where its last line is not whole."""
        line = b"\n"
        with suppress(FileNotFoundError), journal.open("rb") as source:
            for line in source:
                with suppress(msgspec.DecodeError, UnicodeDecodeError):
                    self._apply(_decode(line))
        return line.endswith(b"\n")


class Writing:
    """A file that is being written; closed before it was kept, it is deleted."""

    def __init__(self, folder: Path, file_id: str) -> None:
        self.id = file_id
        self.size = 0
        self.kept = False
        self._path = folder / file_id
        self._file = os.fdopen(private_files.make_file(self._path), "wb")
        self._digest = blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Tell the digest of what was written."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray) -> None:
        """Append."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def finish(self) -> None:
        """Write out what is buffered: nothing more follows."""
        self._file.close()

    def close(self) -> None:
        """Finish it in any case."""
        self._file.close()
        if not self.kept:
            self._path.unlink(missing_ok=True)


def new_id(prefix: str) -> str:
    """Make an id that was never used: clients keep them over the end of this process."""
    return prefix + secrets.token_hex(12)
