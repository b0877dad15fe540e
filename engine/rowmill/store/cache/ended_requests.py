"""The results that the workers of a run have published, read where a slot says that one lies (see `claims`)."""

import os
from pathlib import Path
from struct import Struct

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.core import private_files
from rowmill.core.wire import Answer, Failure
from rowmill.store.cache.shared_results import decode

_NAME = "ends-"  # and an incarnation: on the disk, which runs begun by earlier versions have
_CRC = Struct("<I")  # before each result: of its key and itself
_LARGEST = 1 << 40  # bytes; a place beyond that is none


class EndedRequests:
    """All results of one directory of claims. One serves as many `Claims` as a process has: each file is open once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[int, int] = {}  # incarnation -> descriptor

    def __repr__(self) -> str:
        return f"<results of {[*self._files]}>"

    def read(self, key: bytes, incarnation: int, size: int, offset: int) -> Answer | Failure | None:
        """Return what came of a key; None where what lies there is not that."""
        try:
            data = os.pread(self._file(incarnation), min(size, _LARGEST), min(offset, _LARGEST))
            if data[: _CRC.size] != _CRC.pack(crc32(data[_CRC.size :], crc32(key))):
                return None
            return decode(data[_CRC.size :])
        except (OSError, msgspec.MsgspecError):
            return None

    def _file(self, incarnation: int) -> int:
        fd = self._files.get(incarnation)
        if fd is None:
            path = self._directory / name(incarnation)
            fd = self._files[incarnation] = private_files.opened(path, os.O_RDONLY)
        return fd

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])


def name(incarnation: int) -> str:
    """Return what the file of a worker's results is called."""
    return f"{_NAME}{incarnation:06d}"


def incarnations(directory: Path) -> list[int]:
    """Return the workers of which there are results."""
    numbers = [path.name.removeprefix(_NAME) for path in directory.glob(f"{_NAME}*")]
    return [int(number) for number in numbers if number.isdecimal()]


def record(key: bytes, result: bytes) -> bytes:
    """Return a result as it is written."""
    return _CRC.pack(crc32(result, crc32(key))) + result
