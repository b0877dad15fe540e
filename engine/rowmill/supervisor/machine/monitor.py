"""What the machine's resources ask of a run while it goes: one look a second, one `Condition` that says what to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rowmill.core.reports import DiskView, MachineView
from rowmill.supervisor.machine import readings
from rowmill.supervisor.machine.cgroup import Memory
from rowmill.supervisor.machine.disks import file_systems, least_free
from rowmill.supervisor.machine.readings import Disk, MemoryGauge
from rowmill.supervisor.machine.watches import DiskWatch, LagWatch, MemoryWatch

_PERIOD_S = 1.0
_WRITTEN = ("run", "output", "errors")  # as `DiskView` calls them
_LONGEST_S = 2.0  # a look that comes later than that counts no more: in between nothing was seen


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is to be done, now."""

    factor: float = 1.0  # of the concurrency that is to be used, above 0: less where memory is short
    paused: bool = False  # nothing new is to be sent: a disk is nearly full
    saturated: bool = False  # more in flight would only wait: half of the workers' cores or more have all they can do
    lagging: tuple[int, ...] = ()  # the workers whose cores have
    notices: tuple[str, ...] = ()  # why, as short lines for the progress display
    events: tuple[str, ...] = ()  # what began or ended with this look, as lines for the log
    give_up: str | None = None  # why it is better to stop, as the text of a `MachineError`


class Monitor:
    """Watches memory, the disks that the run writes to, and the loops of the workers."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        memory: float = 0.9,
        min_free_mb: int | Literal["auto"] = "auto",
        read_memory: Callable[[], Memory] | None = None,
        read_disk: Callable[[Path], Disk | None] = readings.disk,
    ) -> None:
        """`paths`: the run directory, the output and its errors file, or the first of these.

        `memory` and `min_free_mb` as in the configuration.
        """
        self._written = dict(zip(paths, _WRITTEN, strict=False))
        self._read_memory = MemoryGauge() if read_memory is None else read_memory
        self._read_disk = read_disk
        self._memory = MemoryWatch(memory)
        self._lag = LagWatch()
        self._disks = [
            DiskWatch(system, least_free(min_free_mb, system.found.total)) for system in file_systems(paths, read_disk)
        ]
        self._watches: tuple[DiskWatch | MemoryWatch | LagWatch, ...] = (*self._disks, self._memory, self._lag)
        self._looked: float | None = None

    def look(self, now: float, lags: Mapping[int, float]) -> Condition:
        """Read everything. To be called about once a second.

        `lags`: how late each worker's loop is, in milliseconds by place; only of workers that are at work.
        """
        seconds = _PERIOD_S if self._looked is None else min(max(0.0, now - self._looked), _LONGEST_S)
        self._looked = now
        events = [self._memory.look(self._read_memory(), seconds)]
        for watch in self._disks:
            disk = self._read_disk(watch.system.paths[0])
            if disk is not None:
                events.append(watch.look(disk, seconds))
        self._lag.look(lags, seconds)
        return Condition(
            factor=self._memory.factor,
            paused=any(watch.paused for watch in self._disks),
            saturated=self._lag.saturated,
            lagging=self._lag.lagging,
            notices=tuple(notice for watch in self._watches if (notice := watch.notice) is not None),
            events=tuple(event for event in events if event is not None),
            give_up=next((text for watch in self._disks if (text := watch.give_up) is not None), None),
        )

    @property
    def view(self) -> MachineView | None:
        """What was seen last; None before the first look."""
        if self._looked is None:
            return None
        disks = (DiskView(self._written[watch.system.paths[0]], watch.free, watch.floor) for watch in self._disks)
        return MachineView(round(self._memory.used, 4), self._memory.factor, tuple(disks))

    def summary(self) -> list[str]:
        """Return what held the run back since the monitor was made, as lines for the report."""
        return [line for watch in self._watches if (line := watch.summary) is not None]
