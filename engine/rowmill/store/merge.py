"""The ordered merge: sealed shards are joined into the output while the run goes on, by copying bytes in the kernel.

What is merged so far lies in temporary files beside the targets (see `output_file`), not synced before the end and
never read again: after a crash the merge starts anew from the sealed shards, which are durable. The targets appear in
`finish`, whole and synced, the errors file first. Killed at any moment, the output is the old one, or absent, or the
new one, and an output that is there has its errors file.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rowmill.core.output_codec import Join, OutputCodec
from rowmill.store import durable
from rowmill.store.output_file import OutputDirectory, OutputFile, SealedSection
from rowmill.store.seal import Sealed, check_sections, failures_of


class Merger:
    """Builds the output and the errors file out of sealed shards, given in shard order. All methods block."""

    def __init__(self, output: Path, errors: Path, codec: OutputCodec) -> None:
        """Start both, empty. Raise InputError where another run is writing the same output."""
        self._key = codec.key
        self._output: OutputFile | OutputDirectory
        if codec.directory_suffix is None:
            self._output = OutputFile(output, codec.join())
        else:
            self._output = OutputDirectory(output, codec.directory_suffix, codec.join)
        try:
            self._errors = OutputFile(errors, Join())
        except BaseException:
            self._output.abandon()
            raise
        self.shards = 0  # merged so far, hence the number of the next one
        self.failures: Counter[str] = Counter()  # their failed rows by class, in the order of the errors file

    def append(self, path: Path, sealed: Sealed) -> None:
        """Append one sealed shard, whose footer is given. Raise RunDirectoryError where the file is not as it says."""
        if sealed.shard.number != self.shards:
            raise ValueError(f"shard {sealed.shard.number} given where {self.shards} is next")
        if sealed.format != self._key:
            raise ValueError(f"shard {sealed.shard.number} is sealed as {sealed.format}, not as {self._key}")
        with durable.machine_errors(f"read the sealed shard {path}"):
            source = os.open(path, os.O_RDONLY)
        try:
            check_sections(source, path, sealed)
            self._output.take(SealedSection(source, 0, sealed.output_bytes, path))
            self._errors.take(SealedSection(source, sealed.output_bytes, sealed.error_bytes, path))
        finally:
            os.close(source)
        self.failures.update(failures_of(path, sealed))
        self.shards += 1

    def finish(self, note: Callable[[int, int], None] | None = None) -> tuple[int, int]:
        """Bring output and errors file to the disk and to their names. Return the bytes of each.

        `note` is called with both once everything is on the disk and before anything has its name: what it writes down
        is known by the time that there is an output.
        Where no row failed, no errors file is made. One that exists is then replaced by an empty one: it would list
        failures that the new output does not have, and deleting it is not for us.
        """
        keep_errors = self._errors.size > 0 or self._errors.target.exists()
        self._output.complete()
        if keep_errors:
            self._errors.complete()
        if note is not None:
            note(self._output.size, self._errors.size)
        if keep_errors:
            self._errors.publish()
        else:
            self._errors.abandon()
        self._output.publish()
        return self._output.size, self._errors.size

    def abandon(self) -> None:
        """Remove what is temporary; the targets stay as they are. After `finish` it does nothing."""
        self._output.abandon()
        self._errors.abandon()
