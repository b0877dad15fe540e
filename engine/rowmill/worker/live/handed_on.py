"""Rows of a step that is not the first: read from what the step before has sealed of a shard, as it handed it on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import ENDED, LEFT_OUT, Shard
from rowmill.files.input.jsonl import ShardReader
from rowmill.files.output.step_rows import EndedRow, ended_row
from rowmill.store.seal import damaged, read_sealed


class HandedOn:
    """Reads the lines of one shard, as the readers of an input do. An async context manager."""

    def __init__(self, path: Path, shard: Shard) -> None:
        """`path`: the shard as the step before has sealed it. Raise RunDirectoryError where it is not as it should."""
        sealed = read_sealed(path)
        if sealed is None or sealed.shard != shard:
            raise damaged(path, "is missing, or is of another shard")
        self._path = path
        self._left = shard.rows
        # Behind the rows stand lines of the errors file. They are read, too, for the checksum is that of all.
        whole = sealed.output_bytes + sealed.error_bytes
        self._reader = ShardReader(path, msgspec.structs.replace(shard, start=0, end=whole, crc=sealed.crc or 0))

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._reader.__aexit__(*exception)

    async def read(self) -> list[bytes]:
        """Return the next lines, without their newlines; an empty list at the end. Raises as the other readers do."""
        try:
            lines = await self._reader.read()
            taken = lines[: self._left]
            self._left -= len(taken)
            while lines and not self._left:  # to the end, where the checksum is looked at
                lines = await self._reader.read()
        except RunDirectoryError:
            raise damaged(self._path, "is damaged: its bytes are not those that its last record vouches for") from None
        return taken


def ended_in(lines: list[bytes], first_row: int) -> Iterator[tuple[int, EndedRow | None]]:
    """Yield the rows that go no further, by their numbers, each with how it failed; None: it was left out."""
    for index, line in enumerate(lines, first_row):
        if line.startswith(ENDED):
            yield index, ended_row(line)
        elif line == LEFT_OUT:
            yield index, None
