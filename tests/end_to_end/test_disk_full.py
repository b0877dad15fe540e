"""A disk that fills up: the run stops with a clear message, and ends by the same command once there is room."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Done, Place, Started, Witness


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


def test_a_finished_run_is_cleaned_on_a_disk_that_is_full(place: Place, small_disk: Callable[[str], None]) -> None:
    """What can be made again goes first, so that there is room to note that the answers go."""
    small_disk("20m")
    place.configure("simulator")
    place.input.with_suffix(".csv").write_text("id,text\n" + "".join(f"{row},row {row}\n" for row in range(300)))
    arguments = ("--set", "input.path=in.csv", "--set", "checkpoint.dir=small/run")
    assert place.run(*arguments).code == 0
    disk = os.statvfs(place.folder / "small")
    small_disk(f"{(disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024}k")
    cleaned = place.start(*arguments, command="clean").wait()
    assert cleaned.code == 0, cleaned.err
    assert not list((place.folder / "small" / "run").glob("*/*"))
    assert "this run has finished" in place.run(*arguments).err


def read_only(folder: Path) -> Callable[[], None]:
    """Let nobody write below a folder, the user root neither; gives what lets it be written again."""
    if os.geteuid():
        folder.chmod(0o500)
        return lambda: folder.chmod(0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"nothing is read-only for root here: {mounted.stderr.decode().strip()}")

    def heal() -> None:
        subprocess.run(["umount", "-l", str(folder)], check=True)

    return heal


PLACES = {
    # what lies in a folder that nobody may write to: keys, the exit code, and words
    "the output": (["output.path=o/out.jsonl"], 2, "output.path: the directory o cannot be written to; choose another"),
    "the errors file": (["output.errors=o/e.jsonl"], 2, "output.errors: the directory o cannot be written to; choose"),
    "the run directory": (["checkpoint.dir=o/run"], 6, "cannot use the run directory o/run: "),
    "its parents": (["checkpoint.dir=o/a/run"], 6, "cannot use the run directory o/a/run: "),
    "the cache": (["cache.use=disk", "cache.dir=o/c"], 2, "cache.dir: cannot use o/c"),
}


def test_a_place_that_cannot_be_written_to_is_one_line_and_nothing_is_begun(place: Place) -> None:
    place.configure("simulator")
    place.write_rows(5)
    folder = place.folder / "o"
    folder.mkdir()
    before = set(place.folder.iterdir())
    heal = read_only(folder)
    try:
        for what, (keys, code, words) in PLACES.items():
            done = place.run(*(f"--set={key}" for key in keys))
            assert (done.code, len(done.lines)) == (code, 1), (what, done.err)
            assert words in done.err, what
            assert set(place.folder.iterdir()) == before, what
    finally:
        heal()
    together = [key for keys, _, _ in PLACES.values() for key in keys]
    assert place.run(*(f"--set={key}" for key in together)).code == 0
    assert len((folder / "out.jsonl").read_bytes().splitlines()) == 5


@pytest.mark.parametrize("most", [2_000, 200_000])
def test_a_limit_on_file_sizes_stops_the_run_wherever_it_is_met_and_a_higher_one_ends_it(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], most: int
) -> None:
    """As a disk that is full, but for every user: the figures of the run, and its output."""
    place.configure(simulator(latency_ms=5).url)
    place.write_rows(500)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {resource.RLIM_INFINITY})); "
        "from rowmill.interface.cli import main; main(['run', 'config.toml'])"
    )
    done: Done = Started([sys.executable, "-c", code], place.folder, place.environ).wait()
    assert done.code == 6, done.err
    assert "Traceback" not in done.err
    assert "File too large; raise the limit on file sizes (ulimit -f) and run the same command again" in done.err
    assert not place.output.exists()
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(500)
