"""What this machine says of itself. Each reading is one small function, so that a test can say something else."""

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from rowmill.supervisor.machine.cgroup import ControlGroup, Memory, groups

_MORE_THAN_ANY = 1 << 40  # stands for "unlimited" where a number is compared
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # of IPv6 too


class Disk(NamedTuple):
    """A file system. Bytes."""

    device: int  # the same for all paths on it
    total: int
    free: int  # for this user


class Descriptors(NamedTuple):
    """How many files and connections a process may have open: when it was asked, and after the limit was raised."""

    before: int
    now: int


class MemoryGauge:
    """The memory that will run out first: the machine's, or that of a control group this process is in."""

    def __init__(self, limited: Sequence[ControlGroup] | None = None) -> None:
        """Find the control groups, unless they are given."""
        self._groups = groups() if limited is None else list(limited)

    def __call__(self) -> Memory:
        """Return the one with the least left."""
        machine = psutil.virtual_memory()
        limits = [Memory(machine.total, machine.available)]
        limits += (memory for group in self._groups if (memory := group.memory()) is not None)
        return min(limits, key=lambda memory: memory.available)


def disk(path: Path) -> Disk | None:
    """Return the file system of a path, or of the nearest folder above it that exists; None where it does not say."""
    for place in (path, *path.absolute().parents):
        try:
            device = place.stat().st_dev
            usage = psutil.disk_usage(str(place))
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return Disk(device, usage.total, usage.free) if usage.total > 0 else None
    return None


def raise_descriptor_limit() -> Descriptors:
    """Let this process, and those that it starts, have as many files open as the system allows this user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = soft
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            now = hard
        except (ValueError, OSError):  # some systems show a higher limit than they grant
            pass
    return Descriptors(_countable(soft), _countable(now))


def ephemeral_ports() -> int | None:
    """Return how many connections to one address and port the system can have; None where it does not say."""
    try:
        low, high = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    return max(0, high - low + 1)


def _countable(limit: int) -> int:
    return _MORE_THAN_ANY if limit == resource.RLIM_INFINITY else limit
