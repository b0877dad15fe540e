"""One look a second at a machine that gets into trouble, and out of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.reports import DiskView, MachineView
from rowmill.supervisor.machine.cgroup import Memory
from rowmill.supervisor.machine.monitor import Condition, Monitor
from rowmill.supervisor.machine.readings import Disk

MB = 1_000_000
GB = 1000 * MB
RUN, OUTPUT, ERRORS = Path("out.jsonl.run"), Path("elsewhere/out.jsonl"), Path("elsewhere/out.errors.jsonl")


class Scene:
    """A machine of 10 GB of memory and two disks of 100 GB."""

    def __init__(self, **settings: float) -> None:
        self.used = 0.3
        self.free: dict[int, int] = {1: 50 * GB, 2: 50 * GB}
        self.silent = False
        self.now = 1000.0
        self.monitor = Monitor((RUN, OUTPUT, ERRORS), read_memory=self._memory, read_disk=self._disk, **settings)  # type: ignore[arg-type]  # settings of several types

    def _memory(self) -> Memory:
        return Memory(10 * GB, round(10 * GB * (1 - self.used)))

    def _disk(self, path: Path) -> Disk | None:
        device = 1 if path == RUN else 2
        return None if self.silent else Disk(device, 100 * GB, self.free[device])

    def look(self, seconds: float = 1.0, lags: dict[int, float] | None = None) -> Condition:
        self.now += seconds
        return self.monitor.look(self.now, lags or {})


def test_a_machine_with_room_asks_for_nothing() -> None:
    scene = Scene()
    for _ in range(10):
        assert scene.look(lags={0: 3.0, 1: 20.0}) == Condition()
    assert scene.monitor.summary() == []


def test_the_first_look_already_counts() -> None:
    scene = Scene()
    scene.used = 0.93
    scene.free[2] = 120 * MB
    condition = scene.look()
    assert condition.factor == 0.5
    assert condition.paused
    assert condition.notices == (
        "disk of out.jsonl nearly full (120 MB free): paused",
        "memory 93% used: concurrency at 50%",
    )
    assert len(condition.events) == 2


def test_events_are_told_once_and_the_whole_in_the_summary() -> None:
    scene = Scene()
    events: list[str] = []
    for second in range(45):
        scene.used = 0.97 if 5 <= second < 9 else 0.3
        scene.free[1] = 100 * MB if 30 <= second < 35 else 50 * GB
        events += scene.look(lags={0: 250.0 if second < 4 else 0.0}).events
    assert [event.partition(":")[0] for event in events] == [
        "memory 97% used, 300 MB free",
        "memory 30% used, 7.0 GB free",
        "disk of out.jsonl.run",
        "disk of out.jsonl.run",
    ]
    assert scene.monitor.summary() == [
        "disk of out.jsonl.run nearly full, 100 MB free at least: paused 5 s",
        "memory short for 16 s, at most 97% used: concurrency down to 6%",
        "workers' cores saturated for 4 s (loop lag up to 250 ms)",
    ]


def test_the_pause_lasts_until_both_disks_have_room() -> None:
    scene = Scene()
    scene.free = {1: 10 * MB, 2: 10 * MB}
    assert scene.look().paused
    scene.free[1] = GB
    condition = scene.look()
    assert condition.paused
    assert condition.notices == ("disk of out.jsonl nearly full (10 MB free): paused",)
    scene.free[2] = GB
    assert scene.look() == Condition(events=("disk of out.jsonl: 1.0 GB free: going on",))


def test_it_gives_up_after_ten_minutes_of_looking() -> None:
    scene = Scene()
    scene.free[1] = 0
    for _ in range(600):
        assert scene.look().give_up is None
    give_up = scene.look().give_up
    assert give_up is not None
    assert "free disk space and run the same command again" in give_up


def test_time_in_which_nobody_looked_is_not_waited_for() -> None:
    scene = Scene()
    scene.free[1] = 0
    scene.look()
    assert scene.look(seconds=3600.0).give_up is None  # stopped, and continued
    scene.used = 0.99
    assert scene.look(seconds=3600.0).factor == 0.25
    assert scene.look(seconds=-5.0).factor == 0.25


def test_a_disk_that_says_nothing_for_a_while_stays_as_it_was() -> None:
    scene = Scene()
    scene.free[1] = 0
    assert scene.look().paused
    scene.silent = True
    assert scene.look().paused
    scene.silent = False
    scene.free[1] = GB
    assert not scene.look().paused


def test_settings_move_both_limits() -> None:
    scene = Scene(memory=0.2, min_free_mb=60_000)
    condition = scene.look()
    assert condition.factor == 0.5
    assert condition.paused
    assert Scene(min_free_mb=0).look() == Condition()


def test_lagging_workers_stop_growth() -> None:
    scene = Scene()
    for _ in range(3):
        condition = scene.look(lags={0: 180.0, 1: 4.0})
    assert condition.saturated
    assert condition.lagging == (0,)
    assert condition.notices == ("worker 0's core is saturated (loop lag 180 ms)",)
    assert condition.factor == 1.0


# On real disks


@pytest.fixture
def tmpfs(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("8m")


def test_a_real_disk_fills_and_gets_room_again(tmpfs: Path) -> None:
    (tmpfs / "out.jsonl.run").mkdir()
    monitor = Monitor((tmpfs / "out.jsonl.run", tmpfs.parent / "out.jsonl"), memory=1.0, min_free_mb=2)
    assert not monitor.look(0.0, {}).paused
    ballast = tmpfs / "ballast"
    ballast.write_bytes(b"x" * (7 << 20))
    condition = monitor.look(1.0, {})
    assert condition.paused
    assert condition.notices == ("disk of out.jsonl.run nearly full (1 MB free): paused",)
    ballast.write_bytes(b"x" * (6 << 20))  # above the limit, but not by enough
    assert monitor.look(2.0, {}).paused
    ballast.unlink()
    assert not monitor.look(3.0, {}).paused
    assert len(monitor.summary()) == 1


def test_a_small_disk_may_be_filled_to_its_end_unless_told_otherwise(tmpfs: Path) -> None:
    monitor = Monitor((tmpfs,))
    with pytest.raises(OSError, match="No space left"):
        (tmpfs / "ballast").write_bytes(b"x" * (9 << 20))
    assert not monitor.look(0.0, {}).paused


def test_what_was_seen_last_is_told_by_what_lies_there() -> None:
    scene = Scene()
    assert scene.monitor.view is None
    scene.used = 0.93
    scene.look()
    assert scene.monitor.view == MachineView(
        0.93, 0.5, (DiskView("run", 50 * GB, 256 * MB), DiskView("output", 50 * GB, 256 * MB))
    )
