"""What one resource's figures ask of the run, each as a small state with hysteresis. Pure: readings and time come in.

Memory. Shedding is multiplicative both ways: halved for every second of pressure, a quarter more for every second once
there is room again, held in between. How far it goes depends on how bad it is. With more than half of the reserve left
(at 0.9: up to 95% used) a quarter of the concurrency goes on, because memory that somebody else holds, or that this
run's allocators keep, does not come back however little is sent. Below that nothing but a trickle goes on.

Disk. Nothing is admitted below a least free space, until there is half as much again. The run itself frees nothing: it
waits for a person, and gives up after a while, because a stopped run says more plainly than a still one what it needs.

Loop lag. A loop that runs late for seconds on end has all the work that its core can do; more in flight only waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rowmill.supervisor.machine.cgroup import Memory
from rowmill.supervisor.machine.disks import FileSystem, size_text
from rowmill.supervisor.machine.readings import Disk

_HALVE = 0.5  # a second
_RECOVER = 1.25  # a second
_EASED = 0.25  # of the concurrency goes on while half of the reserve is left
_TRICKLE = 1 / 64  # and below that
_CLEAR = 0.05  # of all memory: this much below the share at which shedding begins there is room again

_RESUME = 1.5  # times the least free space
_PATIENCE_S = 600.0

_LATE_MS = 100.0
_FINE_MS = 50.0
_SURE_S = 3.0  # this long above the one, or below the other, until it counts


class MemoryWatch:
    """How much of the concurrency the memory allows: `factor`, 1 down to 1/64."""

    def __init__(self, begin: float) -> None:
        """`begin`: the share of memory in use at which shedding begins."""
        self._begin = begin
        self._severe = begin + (1.0 - begin) / 2
        self._clear = begin - min(_CLEAR, (1.0 - begin) / 2, begin / 2)
        self.used = 0.0  # share of the memory at the last look
        self.factor = 1.0
        self.short_s = 0.0  # in all
        self.least_factor = 1.0
        self.most_used = 0.0

    def look(self, memory: Memory, seconds: float) -> str | None:
        """Take a reading, `seconds` after the last one. Returns a line where shedding begins or ends."""
        self.used = memory.used
        self.most_used = max(self.most_used, self.used)
        shed = self.shedding
        target = self._target()
        if self.factor > target:
            self.factor = max(target, self.factor * _HALVE**seconds)
        else:
            self.factor = min(target, self.factor * _RECOVER**seconds)
        self.least_factor = min(self.least_factor, self.factor)
        if self.shedding:
            self.short_s += seconds
        if self.shedding == shed:
            return None
        free = size_text(memory.available)
        return f"memory {self.used:.0%} used, {free} free: " + (
            "fewer requests in flight" if self.shedding else "full concurrency again"
        )

    @property
    def shedding(self) -> bool:
        """Whether less than the whole concurrency is allowed."""
        return self.factor < 1.0

    @property
    def notice(self) -> str | None:
        """A short line while it sheds."""
        share = f"{self.factor:.0%}" if self.factor >= 0.01 else f"{self.factor:.1%}"  # noqa: PLR2004 - not "0%"
        return f"memory {self.used:.0%} used: concurrency at {share}" if self.shedding else None

    @property
    def summary(self) -> str | None:
        """A line for the report, where it ever shed."""
        if not self.short_s:
            return None
        return (
            f"memory short for {self.short_s:.0f} s, at most {self.most_used:.0%} used: concurrency down to "
            f"{self.least_factor:.0%}"
        )

    def _target(self) -> float:
        if self.used >= self._severe:
            return _TRICKLE
        if self.used >= self._begin:
            return _EASED
        return self.factor if self.used > self._clear else 1.0


@dataclass
class DiskWatch:
    """Whether the run is paused until a file system has room again."""

    system: FileSystem
    floor: int  # bytes that are to stay free; 0: it may be filled up
    paused: bool = False
    waited_s: float = 0.0  # since it was paused
    paused_s: float = 0.0  # in all
    free: int = 0
    least: int | None = None

    def look(self, disk: Disk, seconds: float) -> str | None:
        """Take a reading, `seconds` after the last one. Returns a line where the pause begins or ends."""
        self.free = disk.free
        self.least = disk.free if self.least is None else min(self.least, disk.free)
        before = self.paused
        self.paused = disk.free < self.floor * (_RESUME if before else 1.0)
        self.waited_s = self.waited_s + seconds if self.paused and before else 0.0
        self.paused_s += seconds if before else 0.0
        if self.paused == before:
            return None
        free = size_text(disk.free)
        if self.paused:
            return f"{self.system.label}: only {free} free: nothing more is sent until there are {self._enough}"
        return f"{self.system.label}: {free} free: going on"

    @property
    def notice(self) -> str | None:
        """A short line while it pauses."""
        return f"{self.system.label} nearly full ({size_text(self.free)} free): paused" if self.paused else None

    @property
    def summary(self) -> str | None:
        """A line for the report, where it ever paused."""
        if not self.paused_s:
            return None
        return (
            f"{self.system.label} nearly full, {size_text(self.least or 0)} free at least: paused {self.paused_s:.0f} s"
        )

    @property
    def give_up(self) -> str | None:
        """Why it is time to stop, where it is."""
        if self.waited_s < _PATIENCE_S:
            return None
        return (
            f"{self.system.label} nearly full for {_PATIENCE_S / 60:.0f} minutes ({size_text(self.free)} free, "
            f"{self._enough} wanted); free disk space and run the same command again"
        )

    @property
    def _enough(self) -> str:
        return size_text(self.floor * _RESUME)


@dataclass
class _Lag:
    ms: float = 0.0
    late_s: float = 0.0
    fine_s: float = 0.0
    lagging: bool = False


@dataclass
class LagWatch:
    """Which workers' loops have had more to do than their core can, for seconds on end."""

    lags: dict[int, _Lag] = field(default_factory=dict)
    saturated_s: float = 0.0
    most_ms: float = 0.0

    def look(self, lags: Mapping[int, float], seconds: float) -> None:
        """Take the lags of all workers that there are, in milliseconds by place."""
        self.lags = {place: self.lags.get(place, _Lag()) for place in lags}
        for place, ms in lags.items():
            lag = self.lags[place]
            lag.ms = ms
            lag.late_s = lag.late_s + seconds if ms >= _LATE_MS else 0.0
            lag.fine_s = lag.fine_s + seconds if ms < _FINE_MS else 0.0
            lag.lagging = lag.fine_s < _SURE_S if lag.lagging else lag.late_s >= _SURE_S
        if self.saturated:
            self.saturated_s += seconds
            self.most_ms = max(self.most_ms, *(self.lags[place].ms for place in self.lagging))

    @property
    def lagging(self) -> tuple[int, ...]:
        """The workers that cannot keep up."""
        return tuple(sorted(place for place, lag in self.lags.items() if lag.lagging))

    @property
    def saturated(self) -> bool:
        """Whether it is half of the workers or more: one slow core is no reason to hold back all others."""
        return 0 < len(self.lags) <= 2 * len(self.lagging)

    @property
    def notice(self) -> str | None:
        """A short line while there are any."""
        lagging = self.lagging
        if not lagging:
            return None
        late = f"loop lag {max(self.lags[place].ms for place in lagging):.0f} ms"
        if len(lagging) == 1:
            return f"worker {lagging[0]}'s core is saturated ({late})"
        return f"the cores of {len(lagging)} of {len(self.lags)} workers are saturated ({late})"

    @property
    def summary(self) -> str | None:
        """A line for the report, where half of the workers ever were."""
        if not self.saturated_s:
            return None
        return f"workers' cores saturated for {self.saturated_s:.0f} s (loop lag up to {self.most_ms:.0f} ms)"
