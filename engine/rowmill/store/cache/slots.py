"""The files of slots: an open hash table on the disk, of keys and a place for each, read and written in place.

See `claims` for what stands in a place, who may write and why it is not a B-tree.
"""

import errno
import os
from struct import Struct

from rowmill.store.cache.keys import KEY_BYTES

_SLOT_BYTES = 32
_EMPTY = bytes(KEY_BYTES)
_HEAD = Struct("<Q")  # slots in use
_HEAD_BYTES = 4096
_FULL = 0.5  # of a file's slots; above it a search takes more than one read
_SEARCH_SLOTS = 8  # read at once
_SPARE_SLOTS = 1024  # after the last: a search need not go round


class SlotFile:
    """One file of slots, open. fd: its descriptor. used: slots that have a key."""

    def __init__(self, fd: int, slots: int) -> None:
        """Take an open file with room for so many slots."""
        self.fd = fd
        self._slots = slots
        self.used = 0

    @classmethod
    def size(cls, slots: int) -> int:
        """Return the bytes of a file of so many slots."""
        return _HEAD_BYTES + (slots + _SPARE_SLOTS) * _SLOT_BYTES

    @property
    def full(self) -> bool:
        """Whether a search would take more than one read."""
        return self.used > _FULL * self._slots

    def read_used(self) -> None:
        """See what others have added."""
        (self.used,) = _HEAD.unpack(os.pread(self.fd, _HEAD.size, 0))

    def note_used(self) -> None:
        """Tell others what was added."""
        # A holder of the lock that dies before this leaves at most a block of rows uncounted.
        os.pwrite(self.fd, _HEAD.pack(self.used), 0)

    def add(self, key: bytes, place: bytes, at: int) -> None:
        """Write a key and its place where `find` found a free slot."""
        os.pwrite(self.fd, key + place, at - KEY_BYTES)
        self.used += 1

    def find(self, key: bytes) -> tuple[bool, int, bytes]:
        """Return whether the key is there, the offset of its place (or of a free slot's), and what stands there."""
        at = _HEAD_BYTES + int.from_bytes(key[:8], "little") % self._slots * _SLOT_BYTES
        while True:
            data = os.pread(self.fd, _SEARCH_SLOTS * _SLOT_BYTES, at)
            for start in range(0, len(data), _SLOT_BYTES):
                middle = start + KEY_BYTES
                there = data[start:middle]
                if there == key:
                    return True, at + middle, data[middle : start + _SLOT_BYTES]
                if there == _EMPTY:
                    return False, at + middle, b""
            if not data:
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # cannot be: the spare slots are never full
            at += len(data)


def put(place: bytes, at: tuple[int, int]) -> None:
    """Write a place over what stands there; at: descriptor and offset."""
    fd, offset = at
    os.pwrite(fd, place, offset)
