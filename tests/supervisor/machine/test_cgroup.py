"""Control groups, read from files such as the kernel writes them."""

from pathlib import Path

import pytest

from rowmill.supervisor.machine.cgroup import ControlGroup, Memory, groups

MB = 1 << 20


class Machine:
    """A folder that holds what /proc and /sys/fs/cgroup would."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "proc"
        self.tree = folder / "cgroup tree"  # with a blank: mountinfo writes it as \040
        self.process.mkdir()
        self.tree.mkdir()

    def belongs(self, membership: str, *mounts: str) -> None:
        """Say which groups the process is in, and mount lines; "TREE" stands for the folder of the groups."""
        (self.process / "cgroup").write_text(membership)
        point = str(self.tree).replace(" ", "\\040")
        (self.process / "mountinfo").write_text("".join(f"{line.replace('TREE', point)}\n" for line in mounts))

    def v2(self, path: str, **files: object) -> Path:
        folder = self.tree / path
        folder.mkdir(parents=True, exist_ok=True)
        inactive = files.pop("inactive_file", 0)
        for name, value in files.items():
            (folder / f"memory.{name}").write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 7\n")
        return folder

    def limits(self) -> list[Memory]:
        return [memory for group in groups(self.process) if (memory := group.memory()) is not None]


V2_MOUNT = "31 23 0:28 / TREE rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_container_of_version_2_sees_its_own_limit_at_the_root_of_its_mount(machine: Machine) -> None:
    machine.belongs("0::/\n", V2_MOUNT)
    machine.v2("", max=512 * MB, current=400 * MB, high="max", inactive_file=100 * MB)
    (memory,) = machine.limits()
    assert memory == (512 * MB, 212 * MB)
    assert memory.used == pytest.approx(300 / 512)


def test_limits_of_every_level_count(machine: Machine) -> None:
    machine.belongs("0::/user.slice/run.service\n", V2_MOUNT)
    machine.v2("user.slice/run.service", max="max", high=300 * MB, current=100 * MB)
    machine.v2("user.slice", max=1000 * MB, high="max", current=950 * MB)
    (machine.tree / "memory.stat").write_text("anon 1\n")  # the root has no limit and no usage
    assert machine.limits() == [(300 * MB, 200 * MB), (1000 * MB, 50 * MB)]


def test_the_lower_of_max_and_high_is_the_limit(machine: Machine) -> None:
    machine.belongs("0::/\n", V2_MOUNT)
    machine.v2("", max=200 * MB, high=150 * MB, current=10 * MB)
    assert machine.limits() == [(150 * MB, 140 * MB)]


def test_a_group_over_its_limit_has_nothing_left(machine: Machine) -> None:
    machine.belongs("0::/\n", V2_MOUNT)
    machine.v2("", max=100 * MB, current=130 * MB, inactive_file=10 * MB)
    (memory,) = machine.limits()
    assert memory == (100 * MB, 0)
    assert memory.used == 1.0


def test_hierarchies_of_version_1_beside_it_are_passed_over(machine: Machine) -> None:
    machine.belongs(
        "9:name=systemd:/\n4:memory:/jobs/two\n1:cpu,cpuacct:/jobs/two\n0::/jobs/one\n",
        "35 31 0:32 / TREE/v1 rw,relatime - cgroup cgroup rw,memory",
        "36 31 0:33 / TREE/v2 rw,relatime - cgroup2 cgroup2 rw",
    )
    for other in ("v1/jobs/one", "v1/jobs/two", "v2/jobs/two"):
        machine.v2(other, max=1, current=1)
    machine.v2("v2/jobs/one", max=256 * MB, current=250 * MB, inactive_file=50 * MB)
    assert machine.limits() == [(256 * MB, 56 * MB)]


def test_a_machine_of_version_1_alone_has_no_limit_that_is_seen(machine: Machine) -> None:
    machine.belongs("4:memory:/\n", "35 31 0:32 / TREE rw,relatime - cgroup cgroup rw,memory")
    machine.v2("", max=1, current=1)
    assert groups(machine.process) == []


def test_a_container_whose_mount_shows_its_own_group_as_root(machine: Machine) -> None:
    machine.belongs("0::/docker/abc\n", "35 31 0:32 /docker/abc TREE rw,relatime master:9 - cgroup2 cgroup2 rw")
    machine.v2("", max=256 * MB, current=100 * MB)
    assert machine.limits() == [(256 * MB, 156 * MB)]


@pytest.mark.parametrize("path", ["/docker/abc", "/../../other", "/gone"])
def test_a_group_that_cannot_be_seen_is_judged_by_the_root_of_the_mount(machine: Machine, path: str) -> None:
    machine.belongs(f"0::{path}\n", V2_MOUNT)
    machine.v2("", max=256 * MB, current=100 * MB)
    assert [group.folder for group in groups(machine.process)] == [machine.tree]
    assert machine.limits() == [(256 * MB, 156 * MB)]


def test_without_control_groups_there_is_no_limit(machine: Machine, tmp_path: Path) -> None:
    assert groups(tmp_path / "no such process") == []
    machine.belongs("", V2_MOUNT)
    assert groups(machine.process) == []
    machine.belongs("0::/\n", "31 23 0:28 / / rw - ext4 /dev/root rw", "a line of nonsense", "")
    assert groups(machine.process) == []


@pytest.mark.parametrize(
    "files", [{"max": "max", "current": 5}, {"max": "", "current": 5}, {"max": 0, "current": 5}, {"max": 100}, {}]
)
def test_files_that_say_nothing_are_no_limit(machine: Machine, files: dict[str, object]) -> None:
    assert ControlGroup(machine.v2("", **files)).memory() is None


def test_a_limit_that_changes_while_the_run_goes_is_seen(machine: Machine) -> None:
    machine.belongs("0::/\n", V2_MOUNT)
    machine.v2("", max=512 * MB, current=10 * MB)
    (group,) = groups(machine.process)
    machine.v2("", max=128 * MB, current=10 * MB)
    assert group.memory() == (128 * MB, 118 * MB)


def test_the_groups_of_this_very_process_can_be_read() -> None:
    for group in groups():
        assert group.folder.is_dir()
        memory = group.memory()
        assert memory is None or 0 <= memory.available <= memory.limit
