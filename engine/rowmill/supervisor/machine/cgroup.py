"""The memory that a control group allows: what a container or a service may use, whatever the machine has.

A process belongs to one group of each hierarchy: of version 2 there is one hierarchy, of version 1 one for each
controller, and only the memory controller's counts here. A limit may be set at any level, so every level from the
process's own group up to the root of what is mounted is looked at.

In use at a level is what is charged to it, less the file cache that has not been used again lately (`inactive_file`),
which the kernel takes back first: the working set, by which container managers judge too. `memory.high` counts like
`memory.max`: a group above it is slowed down to a crawl, which a run cannot use either.

/proc/self/cgroup says which group it is; /proc/self/mountinfo says where its files are, and which group the mount shows
as its root: inside a container that is the container's own.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_UNLIMITED = 1 << 60  # version 1 writes "no limit" as the largest number of whole pages


class Memory(NamedTuple):
    """Memory that can be used up: the machine's, or a control group's. Bytes."""

    limit: int
    available: int  # of the limit, not in use and not needed to keep things going

    @property
    def used(self) -> float:
        """The share in use, 0 to 1."""
        return 1.0 - self.available / self.limit


class _Names(NamedTuple):
    """How one version calls its files."""

    limits: tuple[str, ...]
    usage: str
    cache: str  # a line of memory.stat


_VERSIONS = {
    "cgroup": _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    "cgroup2": _Names(("memory.max", "memory.high"), "memory.current", "inactive_file"),
}


class ControlGroup(NamedTuple):
    """One level of the control groups that this process is in."""

    folder: Path
    version: str  # the type of its file system

    def memory(self) -> Memory | None:
        """Return what the group allows and what is left of it; None where it sets no limit."""
        names = _VERSIONS[self.version]
        limits = [limit for name in names.limits if (limit := _number(self.folder / name)) is not None]
        usage = _number(self.folder / names.usage)
        if usage is None or not limits or not 0 < min(limits) < _UNLIMITED:
            return None
        in_use = max(0, usage - _statistic(self.folder / "memory.stat", names.cache))
        return Memory(min(limits), max(0, min(limits) - in_use))


def groups(process: Path = Path("/proc/self")) -> list[ControlGroup]:
    """Return the groups whose memory limits hold for a process, by its folder in /proc; empty where there are none."""
    try:
        membership = (process / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no Linux, or a kernel without them
        return []
    paths = dict(_memory_paths(membership))
    return [
        ControlGroup(folder, version)
        for version, root, point in _memory_mounts(mounts)
        if version in paths
        for folder in _levels(paths[version], root, point)
    ]


def _memory_paths(membership: str) -> Iterator[tuple[str, str]]:
    """Yield the type of file system and the path of this process's group for each version that there is."""
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif "memory" in controllers.split(","):
            yield "cgroup", path


def _memory_mounts(mounts: str) -> Iterator[tuple[str, str, Path]]:
    """Yield type, the group shown as root, and mount point of each hierarchy that may limit memory."""
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        fields, what = place.split(" "), kind.split(" ")
        if len(fields) < 5 or len(what) < 3:  # noqa: PLR2004 - as proc(5) has them
            continue
        version, options = what[0], what[2].split(",")
        if version == "cgroup2" or (version == "cgroup" and "memory" in options):
            yield version, _unescaped(fields[3]), Path(_unescaped(fields[4]))


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


def _statistic(path: Path, name: str) -> int:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
