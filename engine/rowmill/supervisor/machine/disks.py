"""The file systems that a run writes to, and how much of each is to stay free."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rowmill.supervisor.machine.readings import Disk

_MB = 1_000_000
_AUTO_FREE = 256 * _MB
_AUTO_SHARE = 0.02
# On a smaller one a fiftieth is less than a few workers may be about to write (a group of a checkpoint is up to a
# mebibyte, a sealed shard more): a pause would come no earlier than the write that fails, which ends the run cleanly.
_SMALL = 1000 * _MB


@dataclass(frozen=True)
class FileSystem:
    """One file system and what the run has on it."""

    paths: tuple[Path, ...]
    found: Disk  # when it was first looked at

    @property
    def label(self) -> str:
        """How it is called in what is shown to people."""
        return f"disk of {self.paths[0].absolute().name or self.paths[0]}"


def file_systems(paths: Iterable[Path], disk: Callable[[Path], Disk | None]) -> list[FileSystem]:
    """Return the file systems of these paths, each once; those that say nothing of themselves are left out."""
    by_device: dict[int, FileSystem] = {}
    for path in paths:
        found = disk(path)
        if found is not None:
            known = by_device.get(found.device)
            by_device[found.device] = FileSystem((*known.paths, path) if known else (path,), found)
    return list(by_device.values())


def least_free(min_free_mb: int | Literal["auto"], total: int) -> int:
    """Return how many bytes are to stay free on a file system of `total` bytes; 0 where it may be filled up."""
    if min_free_mb != "auto":
        return min_free_mb * _MB
    return min(_AUTO_FREE, int(total * _AUTO_SHARE)) if total >= _SMALL else 0


def size_text(count: float) -> str:
    """Return a number of bytes as people read it: "120 MB", "5.2 GB", "800 kB"."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            scaled = count / scale
            return f"{scaled:.1f} {unit}" if scaled < 10 and unit != "MB" else f"{scaled:.0f} {unit}"  # noqa: PLR2004
    return f"{count / 1000:.0f} kB"
