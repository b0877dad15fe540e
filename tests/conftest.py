"""What tests of several rooms need."""

import gc
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import disturbance, simulator_host
from tests.simulator_host import SimulatorHost

# What is imported and collected lives to the end of the session: the collector need not walk it, now or later.
gc.disable()


# An example is wrong by what it does, and not by how long a busy machine takes for it.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


# Whoever has the tests run in the background may ignore what they send to commands, which these would then do, too.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    return disturbance.protocol(item, nextitem)


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of some size, to be filled: `disk_of("8m")`. It is the test's directory `small`."""
    place = tmp_path / "small"

    def mount(size: str) -> Path:
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"mounting a small tmpfs needs root here: {mounted.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    """Mount one of 256 KiB."""
    return disk_of("256k")


@pytest.fixture(scope="session")
def simulators() -> Iterator[SimulatorHost]:
    """Give what starts simulators: all of a session in one process."""
    with simulator_host.host() as host:
        yield host
