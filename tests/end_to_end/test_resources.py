"""A machine that runs short of something: the run gives way, says so, and goes on once there is enough again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place, Started, Witness, until


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("8m")


def test_a_nearly_full_disk_pauses_the_run_and_room_lets_it_go_on(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], small_disk: Path
) -> None:
    witness = simulator(latency_ms=100)
    place.configure(witness.url)
    place.write_rows(800)
    place.run_dir = small_disk / "run"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 6_200_000)
    witness.hold(700)  # however late the disk is looked at
    started = place.start("--set", "checkpoint.dir=small/run", "--set", "machine.min_free_mb=2")

    def still() -> bool:
        """Tell whether a second goes by in which nothing is asked for."""
        before = witness.stats()["requests"]
        with pytest.raises(subprocess.TimeoutExpired):
            started.process.wait(1.0)
        return bool(witness.stats()["requests"] == before)

    until(lambda: (place.run_dir / "run.log").exists() and "nothing more is sent" in place.log, "the pause")
    witness.go_on()
    until(still, "what was in flight to come back")
    assert 0 < witness.stats()["requests"] < 750
    ballast.unlink()
    done = started.wait()
    assert done.code == 0, done.err
    assert "going on" in place.log
    assert place.output.read_bytes() == reference(800)
    assert witness.stats()["requests"] == 800
    (notice,) = [notice for notice in place.report["sessions"][-1]["notices"] if "nearly full" in notice]
    assert notice.startswith("disk of run nearly full, ")


def test_where_memory_is_short_less_is_sent_at_a_time(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=100)
    place.configure(witness.url)
    place.write_rows(250)
    done = place.run("--set", "machine.memory=0.0001")
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(250)
    notices = place.report["sessions"][-1]["notices"]
    assert any(notice.startswith("memory short for ") for notice in notices), notices
    assert "fewer requests in flight" in place.log


def test_with_few_descriptors_fewer_requests_are_sent_at_a_time_and_it_is_said(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=50)
    place.configure(witness.url)
    place.write_rows(300)
    command = [sys.executable, "-m", "rowmill", "run", "config.toml", "--set", "workers.concurrency=500"]
    done = Started(["prlimit", "--nofile=100:160", *command], place.folder, place.environ).wait()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(300)
    notices = place.report["sessions"][-1]["notices"]
    assert "open files: limit raised from 100 to 160" in notices
    (lowered,) = [notice for notice in notices if notice.startswith("workers.concurrency: lowered")]
    assert "lowered from 500 to 32 in each of 2 workers" in lowered
