"""What tests of several rooms need."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import simulator_host
from tests.simulator_host import SimulatorHost


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB, to be filled."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs needs root here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="session")
def simulators() -> Iterator[SimulatorHost]:
    """Give what starts simulators: all of a session in one process."""
    with simulator_host.host() as host:
        yield host
