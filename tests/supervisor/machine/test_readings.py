"""What the machine says, compared with what other programs and the kernel say of it."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import rowmill
from rowmill.supervisor.machine import readings
from rowmill.supervisor.machine.cgroup import ControlGroup
from rowmill.supervisor.machine.readings import MemoryGauge

ROOT = Path(rowmill.__file__).parents[1]
MB = 1 << 20

LIMITED_CHILD = """
import json, os, resource, sys
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from rowmill.supervisor.machine.readings import raise_descriptor_limit
raised = raise_descriptor_limit()
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print(json.dumps([raised, raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE), len(opened)]))
"""


def test_the_limit_of_open_files_is_raised_to_the_hard_one_and_can_be_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED_CHILD, "64", "256"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    first, second, limits, opened = json.loads(done.stdout)
    assert first == [64, 256]
    assert second == [256, 256]  # nothing left to raise
    assert limits == [256, 256]
    assert 240 <= opened < 256


def test_a_limit_that_cannot_be_raised_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert readings.raise_descriptor_limit() == (256, 256)


def test_no_limit_at_all_is_more_than_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert readings.raise_descriptor_limit().now > 1 << 30


@pytest.mark.parametrize(
    ("text", "ports"), [("32768\t60999\n", 28232), ("5 5\n", 1), ("9 3\n", 0), ("", None), ("many\n", None)]
)
def test_the_range_of_local_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, ports: int | None
) -> None:
    file = tmp_path / "ip_local_port_range"
    file.write_text(text)
    monkeypatch.setattr(readings, "_PORT_RANGE", file)
    assert readings.ephemeral_ports() == ports


def test_a_system_without_a_port_range_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(readings, "_PORT_RANGE", tmp_path / "none")
    assert readings.ephemeral_ports() is None


def test_the_group_with_less_left_than_the_machine_counts(tmp_path: Path) -> None:
    def group(name: str, limit: int, current: int) -> ControlGroup:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        return ControlGroup(folder)

    roomy = group("roomy", 1 << 50, 1 << 20)
    tight = group("tight", 100 * MB, 99 * MB)
    nearly = group("nearly", 1000 * MB, 995 * MB)  # more in use, but more left too
    assert MemoryGauge([roomy, tight, nearly])() == (100 * MB, 1 * MB)
    machine = MemoryGauge([roomy])()
    assert machine.limit == psutil.virtual_memory().total
    assert 0 < machine.used < 1


def test_without_a_tighter_group_it_is_the_memory_that_programs_of_this_machine_can_still_have() -> None:
    memory = MemoryGauge([])()
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kernel = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    assert memory.limit == kernel["MemTotal"]
    # Other programs come and go meanwhile.
    assert abs(memory.available - kernel["MemAvailable"]) < memory.limit / 10


@pytest.fixture
def tmpfs(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("4m")


def test_a_file_system_is_known_by_any_path_on_it_also_of_what_is_not_there_yet(tmpfs: Path) -> None:
    (tmpfs / "some").write_bytes(b"x" * MB)
    here = readings.disk(tmpfs)
    assert here is not None
    assert here.total == 4 * MB
    assert 2.9 * MB <= here.free <= 3 * MB
    assert readings.disk(tmpfs / "not" / "there" / "yet") == here
    outside = readings.disk(tmpfs.parent / "out.jsonl")
    assert outside is not None
    assert outside.device == tmpfs.parent.stat().st_dev != here.device


def test_a_relative_path_that_is_not_there_yet_is_looked_for_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = readings.disk(Path("out.jsonl.run"))
    assert found is not None
    assert found.device == tmp_path.stat().st_dev


def test_file_systems_that_do_not_say_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert readings.disk(tmp_path / "file" / "below a file") is None
    if os.path.ismount("/proc"):
        assert readings.disk(Path("/proc")) is None  # no blocks at all
