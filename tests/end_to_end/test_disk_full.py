"""A disk that fills up: the run stops with a clear message, and ends by the same command once there is room."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.conftest import Place, Witness


@pytest.fixture
def small_disk(place: Place) -> Iterator[Callable[[str], None]]:
    """Mount a small file system at "small"; give a way to change its size."""
    folder = place.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs needs root here: {mounted.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    yield resize
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    "arguments",
    [("--set", "checkpoint.dir=small/run"), ("--set", "output.path=small/out.jsonl", "--set", "checkpoint.dir=run")],
)
def test_a_full_disk_stops_the_run_and_room_ends_it(
    place: Place,
    simulator: Callable[..., Witness],
    reference: Callable[[int], bytes],
    small_disk: Callable[[str], None],
    arguments: tuple[str, ...],
) -> None:
    witness = simulator(latency_ms=5)
    place.configure(witness.url)
    place.write_rows(1500)
    if "checkpoint.dir=run" in arguments:
        place.output = place.folder / "small" / "out.jsonl"
    for _ in range(2):  # and again, with the disk as full as it was left
        done = place.run(*arguments)
        assert (done.code, done.out) == (6, ""), done.err
        assert "Traceback" not in done.err, done.err
        assert "killed by signal" not in done.err, done.err  # every worker ends by itself
        assert "No space left on device" in done.err
        assert "free disk space and run the same command again" in done.err
        assert not place.output.exists()
    small_disk("20m")
    done = place.run(*arguments)
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(1500)
    # Only groups that did not reach the disk were asked for again.
    assert witness.stats()["requests"] < 1500 * 1.5
