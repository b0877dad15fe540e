"""The checkpoint of an input's last shard whose last row had only begun when it was planned, and is another one now."""

from contextlib import suppress
from pathlib import Path

from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.store import durable
from rowmill.store.recovery import RETRY, CheckpointReading, row_in, write_anew


def shortened(path: Path, planned: Shard, now: Shard) -> None:
    """Make a shard's checkpoint that of the one that takes its place, which has all its rows but the last one.

    Where it had one row only, nothing is left of it. After a crash the same call ends what was begun. Raises
    `RunDirectoryError` where the checkpoint is damaged.
    """
    if not path.exists():
        return
    with suppress(RunDirectoryError):
        if not CheckpointReading(path, now).read().damaged:
            return  # done before
    kept = range(planned.first_row, planned.first_row + planned.rows - 1)
    if kept and CheckpointReading(path, planned).read().damaged:
        raise RunDirectoryError(f"{path} is damaged, and its last row has gone on: put back the input, run --salvage")

    def wanted(json: bytes) -> bool:
        return bool(kept) if json.startswith(RETRY) else row_in(json) in kept

    fresh = path.with_name(f".{path.name}.shorter.tmp")
    write_anew(path, fresh, now, wanted)
    durable.publish(fresh, path)
    durable.sync_directory(path.parent)
