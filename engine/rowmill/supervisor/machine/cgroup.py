"""The memory that a control group allows: what a container or a service may use, whatever the machine has.

A process belongs to one group of the one hierarchy of version 2. A limit may be set at any level, so every level from
the process's own group up to the root of what is mounted is looked at. Known gap: limits of version 1 are not
seen.

In use at a level is what is charged to it, less the file cache that has not been used again lately (`inactive_file`),
which the kernel takes back first: the working set, by which container managers judge too. `memory.high` counts like
`memory.max`: a group above it is slowed down to a crawl, which a run cannot use either.

/proc/self/cgroup says which group it is; /proc/self/mountinfo says where its files are, and which group the mount shows
as its root: inside a container that is the container's own.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_LIMITS = ("memory.max", "memory.high")


class Memory(NamedTuple):
    """Memory that can be used up: the machine's, or a control group's. Bytes."""

    limit: int
    available: int  # of the limit, not in use and not needed to keep things going

    @property
    def used(self) -> float:
        """The share in use, 0 to 1."""
        return 1.0 - self.available / self.limit


class ControlGroup(NamedTuple):
    """One level of the control groups that this process is in."""

    folder: Path

    def memory(self) -> Memory | None:
        """Return what the group allows and what is left of it; None where it sets no limit."""
        limits = [limit for name in _LIMITS if (limit := _number(self.folder / name)) is not None]
        usage = _number(self.folder / "memory.current")
        if usage is None or min(limits, default=0) <= 0:
            return None
        in_use = max(0, usage - _inactive_file(self.folder / "memory.stat"))
        return Memory(min(limits), max(0, min(limits) - in_use))


def groups(process: Path = Path("/proc/self")) -> list[ControlGroup]:
    """Return the groups whose memory limits hold for a process, by its folder in /proc; empty where there are none."""
    try:
        membership = (process / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux, or a kernel without them
        return []
    # Those of version 1 have a number and controllers.
    path = next((line.removeprefix("0::") for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None:
        return []
    return [ControlGroup(folder) for root, point in _mounts(mounts) for folder in _levels(path, root, point)]


def _mounts(mounts: str) -> Iterator[tuple[str, Path]]:
    """Yield the group shown as root, and the mount point, of each mount of the hierarchy."""
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        fields = place.split(" ")
        if kind.startswith("cgroup2 ") and len(fields) >= 5:  # noqa: PLR2004 - as proc(5) has them
            yield _unescaped(fields[3]), Path(_unescaped(fields[4]))


def _levels(path: str, root: str, point: Path) -> Iterator[Path]:
    """Yield the folders from a group up to the root of its mount."""
    group = PurePosixPath(path)
    # A path outside of what is mounted: the mount's own root is the nearest that can be seen.
    inside = group.relative_to(root) if group.is_relative_to(root) and ".." not in group.parts else PurePosixPath()
    for level in (inside, *inside.parents):
        folder = point / level
        if folder.is_dir():
            yield folder


def _unescaped(text: str) -> str:
    # Blanks and backslashes are written as three octal digits.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, as at the root of version 2; "max"
        return None


def _inactive_file(statistics: Path) -> int:
    try:
        for line in statistics.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == "inactive_file":
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
